//! One style of modules: a module with children is `x/mod.rs`, and a module is where its name says.

use std::path::{Path, PathBuf};

use super::lexer::tokens;
use super::{read, root, rust_files};

#[test]
fn one_module_style() {
    let mut files = Vec::new();
    for room in ["src", "layers", "services", "config"] {
        rust_files(&root().join(room), &mut files);
    }
    let beside = files.iter().filter(|file| has_folder(file, &files));
    let mut faults: Vec<_> =
        beside.map(|file| format!("{}: move it into its folder, as mod.rs", shown(file))).collect();
    for file in &files {
        let lines = path_attributes(&read(file));
        faults.extend(lines.iter().map(|line| format!("{}:{line}: no #[path]", shown(file))));
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap().display().to_string()
}

/// Whether a folder of the same name beside it has files of Rust in it.
fn has_folder(file: &Path, files: &[PathBuf]) -> bool {
    let folder = file.with_extension("");
    files.iter().any(|other| other.starts_with(&folder))
}

/// The lines of `#[path = "..."]`.
fn path_attributes(source: &str) -> Vec<usize> {
    let tokens = tokens(source);
    let starts = tokens
        .windows(4)
        .filter(|next| ["#", "[", "path", "="].iter().zip(*next).all(|(text, token)| token.is(text)));
    starts.map(|next| next[0].line).collect()
}

#[test]
fn faults_of_style_are_seen() {
    let files = ["a.rs", "a/b.rs", "c/mod.rs", "c/d.rs", "ab.rs"].map(PathBuf::from);
    let beside: Vec<_> = files.iter().filter(|file| has_folder(file, &files)).collect();
    assert_eq!(beside, [Path::new("a.rs")]);
    assert_eq!(path_attributes("mod a;\n#[path = \"x.rs\"]\nmod b; // #[path = \"y.rs\"]\n"), [2]);
}
