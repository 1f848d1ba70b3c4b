//! The house rules that no lint knows: which way dependencies point, who names whom, what Yagura is built from, how
//! long a file may get, and that the README's tables are true.

#![allow(clippy::unwrap_used)] // Every line of this crate is a test.

mod circles;
mod circles_tests;
mod lexer;
mod licences;
mod metadata;
mod modules;
mod names;
mod newest_kafka;
mod parse;
mod rooms;
mod spdx;
mod style;
mod test_code;

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

/// The crates in which no files import each other in a circle.
const WITHOUT_CIRCLES: &[&str] = &["src/kernel", "layers", "config", "services/storage/rules"];

#[test]
fn no_files_import_each_other_in_a_circle() {
    let found = |room: &&str| {
        let circles = circles::circles(&root().join(room));
        circles.into_iter().map(|circle| format!("{room}: {circle}")).collect::<Vec<_>>()
    };
    let all: Vec<String> = WITHOUT_CIRCLES.iter().flat_map(found).collect();
    assert!(all.is_empty(), "\n{}", all.join("\n"));
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

/// The APIs that are served beside those of the newest Kafka, and what it has more.
fn apis() -> String {
    let newest = newest_kafka::RELEASE;
    let mut page = format!("| API | key | versions | Kafka {newest} |\n|---|---|---|---|\n");
    let mut all = storage::served();
    all.insert(kernel::ServedApi::all_versions(kernel::Api::API_VERSIONS));
    for served in all.apis() {
        let (name, key) = (served.api.name(), served.api.0);
        let (.., min, max) = newest_kafka::APIS.iter().find(|(other, ..)| *other == key).unwrap();
        let is_behind = (served.served_min, served.max) != (*min, *max);
        let theirs = if is_behind { format!("**{min}-{max}**") } else { format!("{min}-{max}") };
        let _ = writeln!(page, "| {name} | {key} | {}-{} | {theirs} |", served.served_min, served.max);
    }
    let more = newest_kafka::APIS.iter().filter(|(key, ..)| all.find(kernel::Api(*key)).is_none());
    let more: Vec<&str> = more.map(|(_, name, ..)| *name).collect();
    let _ = writeln!(page, "\nKafka {newest} also has {}.", more.join(", "));
    page
}

/// One test, because all sections are written to one file.
#[test]
fn the_readme_tables_are_true() {
    is_true("apis", &apis());
    is_true("config", &config::reference_markdown());
    is_true("configs", &storage::reference_markdown());
}
