//! One style of modules: a module with children is `x/mod.rs`, and a module is where its name says. And examples are where
//! they are run.

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

/// Whose crates have `doctest = false`: to look for examples that are not there takes seconds for each.
const WITHOUT_EXAMPLES: [&str; 4] = ["src", "layers", "services", "tests/fuzz"];

/// What blocks of documentation have that are no examples.
const OTHER_LANGUAGES: [&str; 4] = ["json", "sh", "text", "toml"];

#[test]
fn every_example_is_run() {
    let mut files = Vec::new();
    for room in WITHOUT_EXAMPLES {
        rust_files(&root().join(room), &mut files);
    }
    let mut faults = Vec::new();
    for file in &files {
        let lines = examples(&read(file));
        faults.extend(lines.iter().map(|line| format!("{}:{line}: an example that is not run", shown(file))));
    }
    let remedy = "take `doctest = false` out of its Cargo.toml, and its folder out of WITHOUT_EXAMPLES";
    assert!(faults.is_empty(), "{remedy}\n{}", faults.join("\n"));
}

/// The lines at which documentation begins an example: a block in no other language, or an indented one.
fn examples(source: &str) -> Vec<usize> {
    let (mut examples, mut is_in_block, mut is_after_blank) = (Vec::new(), false, false);
    for (line, number) in source.lines().map(str::trim_start).zip(1..) {
        let Some(text) = line.strip_prefix("//!").or_else(|| line.strip_prefix("///")) else {
            (is_in_block, is_after_blank) = (false, false);
            continue;
        };
        let is_example = match text.trim_start().strip_prefix("```") {
            Some(language) => {
                is_in_block = !is_in_block;
                is_in_block && !OTHER_LANGUAGES.contains(&language.trim())
            }
            None => !is_in_block && is_after_blank && text.starts_with("     "),
        };
        if is_example {
            examples.push(number);
        }
        is_after_blank = text.trim().is_empty();
    }
    examples
}

#[test]
fn faults_of_style_are_seen() {
    let files = ["a.rs", "a/b.rs", "c/mod.rs", "c/d.rs", "ab.rs"].map(PathBuf::from);
    let beside: Vec<_> = files.iter().filter(|file| has_folder(file, &files)).collect();
    assert_eq!(beside, [Path::new("a.rs")]);
    assert_eq!(path_attributes("mod a;\n#[path = \"x.rs\"]\nmod b; // #[path = \"y.rs\"]\n"), [2]);
    let block = "/// A\n/// ```toml\n/// a = 1\n/// ```\nfn a() {}\n//! ```\n//! a();\n//! ```\n";
    assert_eq!(examples(&format!("{block}///\n///     a();\n/// - b\n///   c\n")), [6, 10]);
}
