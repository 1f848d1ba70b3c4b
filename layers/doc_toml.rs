//! For tests: parses the TOML in a layer's module doc as its settings.

use std::collections::HashMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
struct File<T> {
    layers: HashMap<String, T>,
}

/// The text of the first TOML block in the module doc of a source file.
pub(crate) fn text(source: &str) -> String {
    let doc = source.lines().map_while(|line| line.strip_prefix("//!"));
    let lines = doc.map(str::trim).skip_while(|line| *line != "```toml").skip(1);
    let text: String = lines.take_while(|line| *line != "```").map(|line| format!("{line}\n")).collect();
    assert!(!text.is_empty(), "the module doc shows no TOML");
    text
}

/// The settings of a layer, from the module doc of its source file.
pub(crate) fn layer<T: DeserializeOwned>(source: &str, name: &str) -> T {
    let mut file: File<T> = toml::from_str(&text(source)).unwrap();
    file.layers.remove(name).unwrap()
}
