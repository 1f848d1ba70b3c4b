//! What a reload would change: which listeners stay, and what cannot change while the process runs.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::settings::{Config, ROUTE};

/// The difference between two configs. All names are sorted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Listeners in both, whose towers are the same in every part: their connections notice nothing.
    pub kept: Vec<String>,
    /// Listeners that are new.
    pub added: Vec<String>,
    /// Listeners that are gone.
    pub removed: Vec<String>,
    /// Listeners in both, whose address, stack, a layer, the routing or a service differs.
    pub changed: Vec<String>,
    /// Services that are new.
    pub services_added: Vec<String>,
    /// Services that are gone.
    pub services_removed: Vec<String>,
    /// Services in both, whose kind or settings differ.
    pub services_changed: Vec<String>,
    /// Settings that differ and cannot while the process runs, such as `node.node_id`.
    ///
    /// Not among them are `log.level` and `admin.token`, which can be changed at any time.
    pub needs_restart: Vec<String>,
}

/// Compares a running config with one that is to take its place.
pub fn compare(old: &Config, new: &Config) -> Changes {
    let mut changes = Changes { needs_restart: needs_restart(old, new), ..Changes::default() };
    for name in old.listeners.keys() {
        if !new.listeners.contains_key(name) {
            changes.removed.push(name.clone());
        } else if is_same_tower(old, new, name) {
            changes.kept.push(name.clone());
        } else {
            changes.changed.push(name.clone());
        }
    }
    changes.added = only_in_first(new.listeners.keys(), |name| old.listeners.contains_key(name));
    changes.services_added = only_in_first(new.services.keys(), |name| old.services.contains_key(name));
    changes.services_removed = only_in_first(old.services.keys(), |name| new.services.contains_key(name));
    for (name, before) in &old.services {
        if new.services.get(name).is_some_and(|after| after != before) {
            changes.services_changed.push(name.clone());
        }
    }
    changes
}

fn only_in_first<'n>(
    names: impl Iterator<Item = &'n String>,
    is_in_second: impl Fn(&str) -> bool,
) -> Vec<String> {
    names.filter(|name| !is_in_second(name)).cloned().collect()
}

/// Whether a listener and everything below it is the same in both.
fn is_same_tower(old: &Config, new: &Config, name: &str) -> bool {
    let (Some(before), Some(after)) = (old.listeners.get(name), new.listeners.get(name)) else {
        return false;
    };
    let is_same_routing = after.stack.last().is_none_or(|last| last != ROUTE) || old.route == new.route;
    before == after
        && is_same_routing
        && after.stack.iter().all(|step| old.layers.get(step) == new.layers.get(step))
        && new.services_of(after).iter().all(|name| old.services.get(*name) == new.services.get(*name))
}

fn needs_restart(old: &Config, new: &Config) -> Vec<String> {
    let mut settings = Vec::new();
    if old.admin.bind != new.admin.bind {
        settings.push("admin.bind".to_owned());
    }
    if old.log.format != new.log.format {
        settings.push("log.format".to_owned());
    }
    if old.node != new.node {
        settings.extend(differing("node", &old.node, &new.node));
    }
    settings
}

/// The keys that differ in two tables that are not equal; the table itself if the difference is in
/// a secret.
fn differing(path: &str, old: &impl Serialize, new: &impl Serialize) -> Vec<String> {
    let (Some(old), Some(new)) = (table(old), table(new)) else {
        return vec![path.to_owned()];
    };
    let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
    keys.sort_unstable();
    keys.dedup();
    let differing = keys.into_iter().filter(|key| old.get(*key) != new.get(*key));
    let paths: Vec<String> = differing.map(|key| format!("{path}.{key}")).collect();
    if paths.is_empty() { vec![path.to_owned()] } else { paths }
}

fn table(settings: &impl Serialize) -> Option<Map<String, Value>> {
    match serde_json::to_value(settings) {
        Ok(Value::Object(table)) => Some(table),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kernel::settings::Settings;

    use super::*;
    use crate::parse::parse;
    use crate::settings::LogFormat;

    const TWO: &str = include_str!("stacks/two-listeners.toml");

    fn two() -> Config {
        parse("two-listeners.toml", TWO, &|_| None).unwrap()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    /// The settings with another value for one of them.
    fn with(
        settings: &Settings,
        decode: fn(Value) -> Result<Settings, String>,
        name: &str,
        value: i64,
    ) -> Settings {
        let mut settings = settings.to_json();
        settings[name] = Value::from(value);
        decode(settings).unwrap()
    }

    #[test]
    fn the_same_config_changes_nothing() {
        let kept = names(&["inside", "outside"]);
        assert_eq!(compare(&two(), &two()), Changes { kept, ..Changes::default() });
    }

    #[test]
    fn a_layer_of_one_listener_leaves_the_other_alone() {
        let mut new = two();
        let limits = new.layers.get_mut("limits-outside").unwrap();
        limits.settings = with(&limits.settings, limits.kind.decode, "connections_max", 7);
        let changes = compare(&two(), &new);
        assert_eq!((changes.kept, changes.changed), (names(&["inside"]), names(&["outside"])));
        assert!(changes.needs_restart.is_empty());
    }

    #[test]
    fn listeners_and_services_come_and_go() {
        let mut new = two();
        let gone = new.listeners.remove("outside").unwrap();
        new.listeners.insert("other".to_owned(), gone);
        let service = new.services["local"].clone();
        new.services.insert("second".to_owned(), service);
        let changes = compare(&two(), &new);
        assert_eq!(changes.kept, ["inside"]);
        assert_eq!(changes.removed, ["outside"]);
        assert_eq!(changes.added, ["other"]);
        assert_eq!(changes.services_added, ["second"]);
        assert_eq!(compare(&new, &two()).services_removed, ["second"]);
    }

    #[test]
    fn what_needs_a_restart_is_named() {
        let mut new = two();
        new.node.node_id = Some(7);
        new.admin.bind = None;
        new.log.level = "debug".to_owned();
        new.log.format = LogFormat::Json;
        let changes = compare(&two(), &new);
        assert_eq!(changes.needs_restart, ["admin.bind", "log.format", "node.node_id"]);
        assert_eq!(changes.kept, ["inside", "outside"]);
    }

    #[test]
    fn a_changed_service_changes_the_listeners_on_it() {
        let mut new = two();
        let local = new.services.get_mut("local").unwrap();
        local.settings = with(&local.settings, local.kind.decode, "default_partitions", 7);
        let changes = compare(&two(), &new);
        assert_eq!(changes.services_changed, ["local"]);
        assert_eq!(changes.changed, ["inside", "outside"]);
        assert!(changes.needs_restart.is_empty(), "{changes:?}");
    }
}
