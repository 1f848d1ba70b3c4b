//! A table of a config: its settings, and what holds where one is left out.
//!
//! Defaults are not written down a second time: they are what decoding makes of a table that holds only what is
//! required.

use std::borrow::Cow;

use kernel::layer::LayerKind;
use kernel::service::ServiceKind;
use kernel::settings::{LeftOut, Setting, Settings};
use serde_json::Value;

use crate::convert::to_toml;

/// A table of a config.
#[derive(Clone)]
pub(crate) struct Section {
    /// Its path; `NAME` stands for a name that the file chooses.
    pub(crate) path: Cow<'static, str>,
    /// What it is for.
    pub(crate) about: &'static str,
    /// Whether it stands under a name of its own and may say of what `kind` it is.
    pub(crate) has_kind: bool,
    pub(crate) settings: &'static [Setting],
    /// The least that can be in it, as JSON.
    pub(crate) sample: &'static str,
    /// Decodes it.
    pub(crate) decode: fn(Value) -> Result<Settings, String>,
}

impl Section {
    /// The table of a layer of this kind.
    pub(crate) fn of_layer(kind: &'static LayerKind) -> Self {
        Self {
            path: Cow::Owned(format!("layers.{}", kind.name)),
            about: kind.about,
            has_kind: true,
            settings: kind.settings,
            sample: "{}",
            decode: kind.decode,
        }
    }

    /// The table of a service of this kind.
    pub(crate) fn of_service(kind: &'static ServiceKind) -> Self {
        Self {
            path: Cow::Borrowed("services.NAME"),
            about: kind.about,
            has_kind: true,
            settings: kind.settings,
            sample: kind.sample,
            decode: kind.decode,
        }
    }

    /// The setting of this name.
    pub(crate) fn setting(&self, name: &str) -> Option<&'static Setting> {
        self.settings.iter().find(|setting| setting.name == name)
    }

    /// The settings that its sample gives, defaults included.
    pub(crate) fn filled_in(&self) -> Result<Settings, String> {
        (self.decode)(serde_json::from_str(self.sample).map_err(|error| error.to_string())?)
    }

    /// Each setting's value when it is left out, as TOML; those without one are not there.
    pub(crate) fn defaults(&self) -> Vec<(&'static str, String)> {
        let filled_in = self.filled_in().expect("a test fills in every section's sample").to_json();
        let with_default = self.settings.iter().filter(|setting| setting.left_out != LeftOut::Required);
        with_default
            .filter_map(|setting| Some((setting.name, to_toml(filled_in.get(setting.name)?))))
            .collect()
    }
}
