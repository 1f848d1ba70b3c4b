//! Decodes the tables of a config file: which there are, and which settings each has.
//!
//! A table at fault does not stop the others, and what could be read of it counts, so that the rules can look at the
//! whole even if a part is missing.

use std::collections::BTreeMap;

use kernel::layer::LayerKind;
use kernel::settings::{Settings, one_of};
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::nearest::{instead, nearest};
use crate::registry::{layer_kind, layer_names, service_kind, service_names};
use crate::section::Section;
use crate::sections;
use crate::settings::{Admin, Config, LayerConfig, Listener, Log, Node, ROUTE, ServiceConfig};
use crate::sheet::{Sheet, Value};
use crate::tables::{read, read_settings, unknown};

/// The tables at the top of a config.
const TABLES: [&str; 7] = ["node", "log", "admin", "listeners", "layers", "services", "route"];

/// A config as far as it could be read. What could not is `None` and has its fault on the sheet.
pub(crate) struct Draft {
    pub(crate) node: Option<Node>,
    pub(crate) log: Option<Log>,
    pub(crate) admin: Option<Admin>,
    pub(crate) listeners: BTreeMap<String, Option<Listener>>,
    pub(crate) layers: BTreeMap<String, LayerDraft>,
    pub(crate) services: BTreeMap<String, Option<ServiceConfig>>,
    /// Also `None` when the file has no `[route]`.
    pub(crate) route: Option<layers::route::Settings>,
}

/// A layer as far as it could be read.
pub(crate) struct LayerDraft {
    pub(crate) kind: Option<&'static LayerKind>,
    pub(crate) settings: Option<Settings>,
}

impl LayerDraft {
    fn finish(self) -> Option<LayerConfig> {
        Some(LayerConfig { kind: self.kind?, settings: self.settings? })
    }
}

impl Draft {
    /// The config, if every part could be read.
    pub(crate) fn finish(self) -> Option<Config> {
        let layers = self.layers.into_iter().map(|(name, layer)| (name, layer.finish())).collect();
        Some(Config {
            node: self.node?,
            log: self.log?,
            admin: self.admin?,
            listeners: whole(self.listeners)?,
            layers: whole(layers)?,
            services: whole(self.services)?,
            route: self.route,
        })
    }
}

fn whole<T>(parts: BTreeMap<String, Option<T>>) -> Option<BTreeMap<String, T>> {
    parts.into_iter().map(|(name, part)| Some((name, part?))).collect()
}

/// Decodes all tables of the file.
pub(crate) fn decode(sheet: &Sheet<'_>) -> Draft {
    for key in sheet.root.keys().filter(|key| !TABLES.contains(&&**key.get_ref())) {
        sheet.fault(key.span(), unknown(key.get_ref(), "there is no table", &TABLES));
    }
    let mut draft = Draft {
        node: single(sheet, &sections::NODE),
        log: single(sheet, &sections::LOG),
        admin: single(sheet, &sections::ADMIN),
        listeners: BTreeMap::new(),
        layers: BTreeMap::new(),
        services: BTreeMap::new(),
        route: sheet.root.get(ROUTE).and_then(|value| read(sheet, ROUTE, &sections::ROUTE, value)),
    };
    for (name, value) in named(sheet, "listeners") {
        let listener = read(sheet, &format!("listeners.{name}"), &sections::LISTENER, value);
        draft.listeners.insert(name.to_owned(), listener);
    }
    for (name, value) in named(sheet, "layers") {
        let kind = kind_of_layer(sheet, name, value);
        let settings = kind.and_then(|kind| layer(sheet, name, kind, value));
        draft.layers.insert(name.to_owned(), LayerDraft { kind, settings });
    }
    for (name, value) in named(sheet, "services") {
        draft.services.insert(name.to_owned(), service(sheet, name, value));
    }
    add_layers_without_table(sheet, &mut draft);
    draft
}

/// Layers that stacks name and that have no table: they get the defaults of the kind of that name.
fn add_layers_without_table(sheet: &Sheet<'_>, draft: &mut Draft) {
    let empty = Spanned::new(0..0, DeValue::Table(DeTable::new()));
    let steps = draft.listeners.values().flatten().flat_map(|listener| &listener.stack);
    for name in steps {
        let Some(kind) = layer_kind(name).filter(|_| !draft.layers.contains_key(name)) else {
            continue;
        };
        let settings = layer(sheet, name, kind, &empty);
        draft.layers.insert(name.clone(), LayerDraft { kind: Some(kind), settings });
    }
}

/// A table that a config has once and may leave out.
fn single<T: DeserializeOwned + Default>(sheet: &Sheet<'_>, section: &Section) -> Option<T> {
    match sheet.root.get(&*section.path) {
        Some(value) => read(sheet, &section.path, section, value),
        None => Some(T::default()),
    }
}

/// The tables `[path.NAME]`.
fn named<'s, 't>(sheet: &'s Sheet<'t>, path: &str) -> Vec<(&'s str, &'s Value<'t>)> {
    let Some(value) = sheet.root.get(path) else { return Vec::new() };
    let Some(table) = value.get_ref().as_table() else {
        sheet.fault(value.span(), format!("{path}: expected tables headed [{path}.NAME]"));
        return Vec::new();
    };
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    for key in table.keys().filter(|key| key.get_ref().is_empty() || !key.get_ref().chars().all(is_plain)) {
        let message = format!("{path}: a name is made of letters, digits, \"-\" and \"_\"");
        sheet.fault(key.span(), message);
    }
    table.iter().map(|(key, value)| (&**key.get_ref(), value)).collect()
}

fn layer(sheet: &Sheet<'_>, name: &str, kind: &'static LayerKind, value: &Value<'_>) -> Option<Settings> {
    read_settings(sheet, &format!("layers.{name}"), &Section::of_layer(kind), value)
}

fn service(sheet: &Sheet<'_>, name: &str, value: &Value<'_>) -> Option<ServiceConfig> {
    let kind = service_kind(stated_kind(sheet, "services", name, value, &service_names())?)?;
    let settings = read_settings(sheet, &format!("services.{name}"), &Section::of_service(kind), value)?;
    Some(ServiceConfig { kind, settings })
}

fn kind_of_layer(sheet: &Sheet<'_>, name: &str, value: &Value<'_>) -> Option<&'static LayerKind> {
    if name == ROUTE {
        let span = sheet.key_span(&["layers", name]).unwrap_or(value.span());
        sheet.fault(span, "layers.route: routing is set up in [route], not under [layers]");
        return None;
    }
    let kind = layer_kind(stated_kind(sheet, "layers", name, value, &layer_names())?)?;
    if layer_kind(name).is_some_and(|own| own != kind) {
        let span = sheet.span(&["layers", name, "kind"]).unwrap_or(value.span());
        let message = format!("layers.{name}.kind: the name \"{name}\" is kept for layers of that kind");
        sheet.fault(span, message);
        return None;
    }
    Some(kind)
}

/// The kind of a named table: what it says, or else its name.
fn stated_kind<'k>(
    sheet: &Sheet<'_>,
    room: &str,
    name: &str,
    value: &Value<'_>,
    kinds: &[&'k str],
) -> Option<&'k str> {
    let path = format!("{room}.{name}");
    let Some(table) = value.get_ref().as_table() else {
        sheet.fault(value.span(), format!("{path}: expected a table headed [{path}]"));
        return None;
    };
    let find = |name: &str| kinds.iter().copied().find(|kind| *kind == name);
    let Some(stated) = table.get("kind") else {
        let own = find(name);
        if own.is_none() {
            let hint = match nearest(name, kinds) {
                Some(near) => format!("; or did you mean [{room}.{near}]?"),
                None => String::new(),
            };
            let message = format!("{path}: it lacks \"kind\", which is {}{hint}", one_of(kinds));
            sheet.fault(value.span(), message);
        }
        return own;
    };
    if !sheet.is_resolved(stated) {
        return None;
    }
    let Some(text) = stated.get_ref().as_str() else {
        sheet.fault(stated.span(), format!("{path}.kind: expected {}", one_of(kinds)));
        return None;
    };
    let found = find(text);
    if found.is_none() {
        sheet.fault(stated.span(), format!("{path}.kind: there is no kind {text:?}{}", instead(text, kinds)));
    }
    found
}
