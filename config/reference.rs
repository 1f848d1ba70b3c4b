//! The one list of settings: names, what a value may be, and what it does; `sections` holds the lines.
//!
//! Errors take the valid names from here, the README its config reference. Defaults are not written down a second time:
//! they are what serde makes of a table that holds only what is required.

use std::fmt::Write;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::kinds::Kind;
use crate::sections::{RULE, SECTIONS};

/// A table of a config.
pub(crate) struct Section {
    /// Its path; `NAME` stands for a name that the file chooses.
    pub(crate) path: &'static str,
    /// What it is for.
    pub(crate) about: &'static str,
    /// Whether it stands under a name of its own and may say of what `kind` it is.
    pub(crate) has_kind: bool,
    pub(crate) settings: &'static [Setting],
    /// The least that can be in it.
    pub(crate) sample: &'static str,
    /// Decodes a text of it and gives back all settings, defaults included.
    pub(crate) fill_in: fn(&str) -> Result<toml::Table, String>,
}

/// One key of a table.
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) left_out: LeftOut,
    pub(crate) about: &'static str,
}

/// What happens when a setting is left out.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeftOut {
    /// The default of its `Settings` holds.
    Default,
    /// It cannot be left out.
    Required,
    /// It has no default value; this happens instead.
    Means(&'static str),
}

/// Decodes a section's text and gives it back with its defaults.
pub(crate) fn fill_in<T: Serialize + DeserializeOwned>(text: &str) -> Result<toml::Table, String> {
    let settings: T = toml::from_str(text).map_err(|error| error.to_string())?;
    toml::Table::try_from(settings).map_err(|error| error.to_string())
}

impl Section {
    pub(crate) fn setting(&self, name: &str) -> Option<&'static Setting> {
        self.settings.iter().find(|setting| setting.name == name)
    }

    /// Each setting's value when it is left out, as TOML; those without one are not there.
    pub(crate) fn defaults(&self) -> Vec<(&'static str, String)> {
        let filled_in = (self.fill_in)(self.sample).expect("a test fills in every section's sample");
        let with_default = self.settings.iter().filter(|setting| setting.left_out != LeftOut::Required);
        with_default
            .filter_map(|setting| Some((setting.name, to_toml(filled_in.get(setting.name)?))))
            .collect()
    }
}

/// The tables that have a setting of this name.
pub(crate) fn homes_of(name: &str) -> Vec<String> {
    let homes = SECTIONS.iter().filter(|section| section.setting(name).is_some());
    homes.map(|section| format!("[{}]", section.path)).collect()
}

/// A value as a config writes it.
pub(crate) fn to_toml(value: &toml::Value) -> String {
    match value {
        toml::Value::String(text) => format!("{text:?}"),
        toml::Value::Integer(number) => number.to_string(),
        toml::Value::Float(number) => number.to_string(),
        toml::Value::Boolean(flag) => flag.to_string(),
        toml::Value::Datetime(time) => format!("{time:?}"),
        toml::Value::Array(items) => {
            format!("[{}]", items.iter().map(to_toml).collect::<Vec<_>>().join(", "))
        }
        toml::Value::Table(table) => {
            let pairs = table.iter().map(|(key, value)| format!("{key} = {}", to_toml(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

/// The README's config reference, in Markdown.
pub fn reference_markdown() -> String {
    let mut page = String::from(
        "A layer that a stack names needs no table of its own. Under another name than its kind's it says which it is: \
         `[layers.public]` with `kind = \"limits\"`. Any text may hold `${VARIABLE}` (`$$` is a plain dollar); a secret \
         may be `\"file:/path\"`.\n",
    );
    for section in SECTIONS {
        let brackets = if section.path == RULE.path { ("[[", "]]") } else { ("[", "]") };
        let _ = write!(page, "\n### `{}{}{}`\n\n{}\n", brackets.0, section.path, brackets.1, section.about);
        if section.settings.is_empty() {
            page.push_str("It has no settings.\n");
            continue;
        }
        page.push_str("\n| setting | value | left out | what it does |\n|---|---|---|---|\n");
        let defaults = section.defaults();
        for setting in section.settings {
            let default = defaults.iter().find(|(name, _)| *name == setting.name);
            let left_out = match (setting.left_out, default) {
                (LeftOut::Required, _) => "**required**".to_owned(),
                (_, Some((_, default))) => format!("`{default}`"),
                (LeftOut::Means(meaning), None) => meaning.to_owned(),
                (LeftOut::Default, None) => "nothing".to_owned(),
            };
            let _ =
                writeln!(page, "| `{}` | {} | {left_out} | {} |", setting.name, setting.kind, setting.about);
        }
    }
    page
}
