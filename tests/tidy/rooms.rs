//! Which way dependencies point.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::metadata::workspace;
use super::root;

const KERNEL: &str = "src/kernel";
const RULES: &str = "services/storage/rules";
const FUZZ: &str = "tests/fuzz";
/// The package of the whole, in `src`, stands at the root.
const ROOT: &str = "";

/// Whether a crate may depend on another: `kernel <- layers, services <- config <- src`.
fn may_depend(room: &str, on: &str) -> bool {
    match room {
        KERNEL => false,
        RULES | "layers" => on == KERNEL,
        "config" => on == KERNEL || on == "layers" || on.starts_with("services/"),
        // Tests that cross rooms.
        ROOT | FUZZ => true,
        service if service.starts_with("services/") => on == KERNEL || on.starts_with(&format!("{service}/")),
        other => {
            panic!("{other} is a crate of which tests/tidy/rooms.rs does not know what it may depend on")
        }
    }
}

#[test]
fn dependencies_point_one_way() {
    let mut faults = Vec::new();
    for package in workspace() {
        let room = package.room.unwrap();
        let on = package.dependencies.into_iter().filter_map(|need| need.room);
        let wrong = on.filter(|on| !may_depend(&room, on));
        faults.extend(wrong.map(|on| format!("{room} must not depend on {on}")));
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn the_arrows_are_as_the_readme_has_them() {
    for (room, on) in [
        ("layers", KERNEL),
        ("services/storage", KERNEL),
        ("services/storage", RULES),
        (RULES, KERNEL),
        ("config", "layers"),
        ("config", RULES),
        (ROOT, "config"),
    ] {
        assert!(may_depend(room, on), "{room} may depend on {on}");
        assert!(room == ROOT || !may_depend(on, room), "{on} must not depend on {room}");
    }
    for (room, on) in
        [("layers", "services/storage"), ("services/proxy", RULES), (RULES, "services/storage/rules/x")]
    {
        assert!(!may_depend(room, on), "{room} must not depend on {on}");
    }
}

fn manifests(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            manifests(&path, found);
        } else if path.ends_with("Cargo.toml") {
            found.insert(folder.strip_prefix(root()).unwrap().display().to_string());
        }
    }
}

/// A crate that is no member of the workspace would be asked nothing.
#[test]
fn every_service_is_in_the_workspace() {
    let mut found = BTreeSet::new();
    manifests(&root().join("services"), &mut found);
    let members: BTreeSet<_> = workspace().into_iter().filter_map(|package| package.room).collect();
    let missing: Vec<_> = found.difference(&members).collect();
    assert!(missing.is_empty(), "Cargo.toml: workspace.members lacks {missing:?}");
}

/// The rules decide from what they are given: no waiting, no chance, no clock, no store, no log.
const NOT_IN_RULES: &[&str] = &["getrandom", "rand", "rusqlite", "tokio", "tracing"];

#[test]
fn rules_are_pure() {
    let packages = workspace();
    let rules = packages.iter().find(|package| package.room.as_deref() == Some(RULES));
    let rules = rules.unwrap_or_else(|| panic!("{RULES} is no crate of the workspace"));
    for need in &rules.dependencies {
        let name = &need.name[..];
        assert!(!NOT_IN_RULES.contains(&name), "{RULES} must not depend on {name}");
        let is_random = name == "uuid" && need.features.iter().any(|feature| feature == "v4");
        assert!(!is_random, "{RULES} must not make random ids: uuid's v4");
    }
}
