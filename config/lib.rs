//! TOML into typed settings.
//!
//! A config names the layers of each listener's tower and the services they stand on. This room gathers the `Settings`
//! that stand beside each layer and service, and checks what no single one of them can see: the order of a stack, who
//! leads where, which ports and how much memory are shared.
//!
//! It reports *all* faults of a file at once. Serde stops at its first error, so a file is read in four steps that each
//! go on after a fault: `sheet` parses TOML and keeps where each value stands, `expand` puts `${VARIABLE}`s in, `decode`
//! checks and decodes table by table against the `reference`, and `rules` looks at the whole. The reference is the one
//! list of settings: errors, suggestions and the README come from it.
//!
//! ```
//! let text = "[listeners.main]\nbind = '127.0.0.1:9092'\nstack = ['framing', 'local']\n\
//!             [services.local]\nkind = 'storage'\nurl = 'memory://'\n";
//! let config = config::parse("example.toml", text, &|_| None).expect("nothing is wrong with it");
//! assert_eq!(config.node.cluster_id, "yagura");
//!
//! let faults = config::parse("example.toml", &text.replace("bind", "bnid"), &|_| None).unwrap_err();
//! assert!(faults.to_string().contains("did you mean \"bind\"?"));
//! ```

mod changes;
mod decode;
mod expand;
mod explain;
mod fault;
mod kinds;
mod nearest;
mod overrides;
mod reference;
mod rules;
mod sections;
mod settings;
mod sheet;
mod tables;
#[cfg(test)]
mod tests;
mod values;

use std::path::Path;

pub use changes::{Changes, compare};
pub use explain::explain;
pub use fault::{Fault, Faults, Place};
pub use overrides::Overrides;
pub use reference::reference_markdown;
pub use settings::{
    Admin, Config, LayerKind, LayerSettings, Listener, Log, LogFormat, Node, Plane, ROUTE, ServiceSettings,
};
pub use values::{AdminBind, Secret, host_port, show_host_port};

/// The config that `yagura broker` runs: one listener over one storage service.
pub const BROKER: &str = include_str!("stacks/broker.toml");

/// Reads a config from `text`; `name` is how faults call the file, `env` answers for `${VARIABLE}`.
///
/// The files that `file:` secrets name are read too.
///
/// # Errors
/// Every fault of the text, in the order of their places.
pub fn parse(name: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Faults> {
    let mut sheet = sheet::Sheet::parse(name, text)?;
    expand::expand(&mut sheet, env);
    let draft = decode::decode(&sheet);
    rules::check(&sheet, &draft);
    let faults = sheet.into_faults();
    match draft.finish() {
        Some(config) if faults.is_empty() => Ok(config),
        None if faults.is_empty() => Err(Faults(vec![Fault::without_place(
            name,
            "a part could not be read though no fault was found in it: this is a bug of Yagura",
        )])),
        _ => Err(Faults(faults)),
    }
}

/// Reads a config file, with the variables of this process.
///
/// # Errors
/// Why the file cannot be read, or every fault in it.
pub fn load(path: impl AsRef<Path>) -> Result<Config, Faults> {
    let path = path.as_ref();
    let name = path.display().to_string();
    let text = std::fs::read_to_string(path)
        .map_err(|error| Faults(vec![Fault::without_place(&name, format!("cannot be read: {error}"))]))?;
    parse(&name, &text, &|variable| std::env::var(variable).ok())
}
