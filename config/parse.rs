//! From a text or a file to a config.

use std::path::Path;

use crate::fault::{Fault, Faults};
use crate::settings::Config;
use crate::sheet::Sheet;
use crate::{decode, expand, rules};

/// Reads a config from `text`; `name` is the name of the file in errors, `env` looks up a `${VARIABLE}`.
///
/// The files that `file:` secrets name are read too.
///
/// # Errors
/// Every fault of the text, in the order of their places.
pub fn parse(name: &str, text: &str, env: &dyn Fn(&str) -> Option<String>) -> Result<Config, Faults> {
    let mut sheet = Sheet::parse(name, text)?;
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
