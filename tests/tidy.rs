//! The house rules that no lint knows: which way dependencies point, how long a file may get, and that the README's
//! tables are true.

#![allow(clippy::unwrap_used)] // Every line of this crate is a test.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") && !path.ends_with(".git") {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// What each room may depend on: `kernel <- layers, services <- config <- src`.
const ROOMS: &[(&str, &[&str])] = &[
    ("src/kernel", &[]),
    ("layers", &["kernel"]),
    ("services/storage", &["kernel"]),
    ("config", &["kernel", "layers", "storage"]),
];

#[test]
fn dependencies_point_one_way() {
    let all = ["kernel", "layers", "storage", "config", "yagura"];
    for (room, allowed) in ROOMS {
        let manifest = read(format!("{room}/Cargo.toml"));
        let named =
            |name: &&&str| manifest.lines().any(|line| line.split(['.', ' ', '=']).next() == Some(name));
        let forbidden: Vec<_> = all.iter().filter(named).filter(|name| !allowed.contains(name)).collect();
        assert!(forbidden.is_empty(), "{room} must not depend on {forbidden:?}");
    }
}

#[test]
fn layers_do_not_name_each_other() {
    let names = ["framing", "limits", "metrics", "route", "trace"];
    let mut files = Vec::new();
    rust_files(&root().join("layers"), &mut files);
    for file in files.iter().filter(|file| !file.ends_with("layers/lib.rs")) {
        let relative = file.strip_prefix(root().join("layers")).unwrap();
        let own = relative.components().next().unwrap().as_os_str().to_string_lossy();
        let own = own.trim_end_matches(".rs");
        let text = fs::read_to_string(file).unwrap();
        for name in names.iter().filter(|name| **name != own && names.contains(&own)) {
            assert!(!text.contains(&format!("crate::{name}")), "{} names the layer {name}", file.display());
        }
    }
}

/// Long files have more than one job. Generated tables and tests are excused.
const FILE_LINES_MAX: usize = 500;

#[test]
fn no_file_is_a_warehouse() {
    let mut files = Vec::new();
    rust_files(root(), &mut files);
    let is_excused = |file: &Path| {
        let text = file.to_string_lossy();
        text.ends_with("schema/table.rs") || text.contains("tests")
    };
    for file in files.iter().filter(|file| !is_excused(file)) {
        let lines = fs::read_to_string(file).unwrap().lines().count();
        assert!(lines <= FILE_LINES_MAX, "{} has {lines} lines; split it", file.display());
    }
}

/// The text between two marker comments of the README.
fn section(readme: &str, name: &str) -> String {
    let (begin, end) = (format!("<!-- begin {name} -->\n"), format!("<!-- end {name} -->"));
    let after = readme.split_once(&begin).unwrap_or_else(|| panic!("README.md has no section {name}")).1;
    after.split_once(&end).unwrap_or_else(|| panic!("section {name} of README.md has no end")).0.to_owned()
}

/// Compares a generated section, or writes it when YAGURA_BLESS is set.
fn is_true(name: &str, expected: &str) {
    let readme = read("README.md");
    let found = section(&readme, name);
    if std::env::var_os("YAGURA_BLESS").is_some() {
        let begin = format!("<!-- begin {name} -->\n");
        let changed = readme.replace(&format!("{begin}{found}"), &format!("{begin}{expected}"));
        fs::write(root().join("README.md"), changed).unwrap();
    } else {
        assert_eq!(found, expected, "section {name} of README.md is not true; YAGURA_BLESS=1 rewrites it");
    }
}

/// One test, because both sections are written to one file.
#[test]
fn the_readme_tables_are_true() {
    let mut apis = String::from("| API | key | versions |\n|---|---|---|\n");
    for served in storage::served_apis() {
        let versions = format!("{}-{}", served.served_min, served.max);
        let _ = writeln!(apis, "| {} | {} | {versions} |", served.api.name(), served.api.0);
    }
    is_true("apis", &apis);
    is_true("config", &config::reference_markdown());
}
