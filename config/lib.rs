//! TOML into typed settings.
//!
//! A config names the layers of each listener's tower and the services they stand on. Each registers its settings beside
//! its code; this crate names none of them, but for the list in `services`. It decodes by what they registered, and
//! checks what no single one can see: the order of a stack, which stacks lead to which services, which ports and how much memory are shared.
//!
//! It reports *all* faults of a file at once. Serde stops at its first error, so a file is read in four steps that each
//! go on after a fault: `sheet` parses TOML and keeps where each value stands, `expand` puts `${VARIABLE}`s in, `decode`
//! checks and decodes table by table against its `section`, and `rules` looks at the whole. The lines of the sections are
//! the one list of settings: errors, suggestions and the README's `reference` come from it.
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
mod convert;
mod decode;
mod expand;
mod explain;
mod fault;
mod kinds;
mod nearest;
mod overrides;
mod parse;
mod reference;
mod registry;
mod rules;
mod section;
mod sections;
mod services;
mod settings;
mod sheet;
mod syntax;
mod tables;
#[cfg(test)]
mod tests;
mod values;

pub use changes::{Changes, compare};
pub use explain::explain;
pub use fault::{Fault, FaultPlace, Faults};
pub use overrides::Overrides;
pub use parse::{load, parse};
pub use reference::reference_markdown;
pub use rules::clash;
pub use services::SERVICES;
pub use settings::{Admin, Config, LayerConfig, Listener, Log, LogFormat, Node, ROUTE, ServiceConfig};
pub use values::{AdminBind, Secret, bind_address, host_port, show_host_port};

/// The config that `yagura broker` runs: one listener over one storage service.
pub const BROKER: &str = include_str!("stacks/broker.toml");
