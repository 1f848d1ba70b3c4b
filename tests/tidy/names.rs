//! Who must not name whom within a crate, or across crates that depend on each other.

use std::path::{Path, PathBuf};

use super::lexer::{Token, tokens};
use super::parse::parse;
use super::{read, root, rust_files};

/// The paths that a file's code names, tests included, each with its line.
fn named(source: &str) -> Vec<(String, usize)> {
    let module = parse(&tokens(source));
    module.all_paths().into_iter().map(|(path, line)| (path.join("::"), line)).collect()
}

/// Whether a path is `whole` or goes on from there.
fn is_within(path: &str, whole: &str) -> bool {
    path.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// Where one of `files` names one of `forbidden`.
fn faults(files: &[PathBuf], forbidden: &[String]) -> Vec<String> {
    let mut faults = Vec::new();
    for file in files {
        let shown = file.strip_prefix(root()).unwrap().display();
        for (path, line) in named(&read(file)) {
            if forbidden.iter().any(|whole| is_within(&path, whole)) {
                faults.push(format!("{shown}:{line} names {path}"));
            }
        }
    }
    faults
}

fn files_of(folders: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for folder in folders {
        rust_files(&root().join(folder), &mut files);
    }
    files
}

/// The layers in the list of `layers/lib.rs`, and the floor that they stand on.
fn layers() -> Vec<String> {
    let mut names = listed(&read("layers/lib.rs"));
    assert!(!names.is_empty(), "layers/lib.rs has no list of the form [LayerKind::of::<NAME::Type>(), ...]");
    names.push(ROUTE.to_owned());
    names
}

const ROUTE: &str = "route";

/// The names in `of::<NAME::Type>()`.
fn listed(source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let is_list = |words: &&[Token]| {
        words[0].is("of") && words[1].is("::") && words[2].is("<") && words[3].is_word() && words[4].is("::")
    };
    tokens.windows(5).filter(is_list).map(|words| words[3].text.to_owned()).collect()
}

#[test]
fn the_list_of_layers_is_read() {
    let source = "/// [`LayerKind::of::<no::Layer>`]\npub static LAYERS: [LayerKind; 2] = [\n    \
                  LayerKind::of::<limits::Limits>(),\n    LayerKind::of::<framing::Framing>(),\n];\n";
    assert_eq!(listed(source), ["limits", "framing"]);
}

#[test]
fn a_name_in_braces_is_a_name() {
    let source = "use layers::{\n    trace,\n    limits::{self, Limits},\n};\nfn f() { layers::route::g() } // layers::x\n";
    let names: Vec<_> = named(source).into_iter().filter(|(path, _)| is_within(path, "layers")).collect();
    let expected =
        [("layers::route::g", 5), ("layers::trace", 2), ("layers::limits", 3), ("layers::limits::Limits", 3)];
    assert_eq!(names, expected.map(|(path, line)| (path.to_owned(), line)));
    assert!(!is_within("layers::routes", "layers::route"));
}

#[test]
fn layers_do_not_name_each_other() {
    let names = layers();
    let mut found = Vec::new();
    for own in &names {
        let others: Vec<_> =
            names.iter().filter(|name| *name != own).map(|name| format!("crate::{name}")).collect();
        let is_own = |file: &PathBuf| {
            let inside = file.strip_prefix(root().join("layers")).unwrap();
            inside.iter().next().is_some_and(|first| Path::new(first).file_stem().unwrap() == &own[..])
        };
        let files: Vec<_> = files_of(&["layers"]).into_iter().filter(is_own).collect();
        assert!(!files.is_empty(), "layers has no file of the layer {own}");
        found.extend(faults(&files, &others));
    }
    assert!(found.is_empty(), "{found:#?}");
}

/// A config names layers by the words of its file, so a new layer needs no line outside `layers`.
#[test]
fn nothing_else_names_a_layer() {
    let forbidden: Vec<_> =
        layers().iter().filter(|name| *name != ROUTE).map(|name| format!("layers::{name}")).collect();
    let mut files = files_of(&["config", "src"]);
    files.retain(|file| !file.starts_with(root().join("src/kernel")));
    let found = faults(&files, &forbidden);
    assert!(found.is_empty(), "{found:#?}");
}

/// What an API must not know: how calls come to it.
const ABOVE_THE_APIS: &[&str] = &["crate::dispatch", "crate::port"];

#[test]
fn dispatch_stands_above_the_apis() {
    let mut files = files_of(&["services/storage/apis"]);
    // Tests send calls through the door.
    files.retain(|file| !file.to_string_lossy().contains("test"));
    assert!(!files.is_empty(), "services/storage/apis has moved");
    let found = faults(&files, &ABOVE_THE_APIS.iter().map(|path| (*path).to_owned()).collect::<Vec<_>>());
    assert!(found.is_empty(), "{found:#?}");
}
