//! The tree of a crate's modules, and where a path leads in it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::lexer::tokens;
use super::parse::{Child, Import, Module, parse};
use super::test_code::without_tests;

/// The modules of a crate, without those of tests.
#[derive(Default)]
pub(crate) struct Tree {
    /// Relative to the crate's root.
    pub(crate) files: Vec<String>,
    /// The first one is the crate.
    pub(crate) nodes: Vec<Node>,
}

/// A module in its tree; `usize` is an index of a module or a file.
pub(crate) struct Node {
    parent: Option<usize>,
    pub(crate) file: usize,
    children: BTreeMap<String, usize>,
    pub(crate) module: Module,
}

/// What a path leads to. A name may be a module and an item at once; it is neither if another crate defines it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) module: Option<usize>,
    /// The file that defines the item.
    pub(crate) item: Option<usize>,
}

/// How many imports one name may lead through. Imports of each other would never end.
const IMPORTS_MAX: usize = 8;

impl Tree {
    /// Reads the crate in `root`, the folder of its `lib.rs` or `main.rs`.
    pub(crate) fn read(root: &Path) -> Self {
        let is_there = |name: &&&str| root.join(name).is_file();
        let names = ["lib.rs", "main.rs"];
        let name = names.iter().find(is_there).unwrap_or_else(|| panic!("no crate in {}", root.display()));
        let mut tree = Self::default();
        tree.add_file(root, Path::new(name), None);
        tree
    }

    fn add_file(&mut self, root: &Path, file: &Path, parent: Option<usize>) -> usize {
        let path = root.join(file);
        let source = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let module = parse(&without_tests(&tokens(&source)));
        self.files.push(file.display().to_string());
        let here = file.parent().unwrap_or(Path::new(""));
        let owns_folder = file.ends_with("mod.rs") || parent.is_none();
        let folder = if owns_folder { here.to_owned() } else { file.with_extension("") };
        self.add(root, Place { file: self.files.len() - 1, here, folder: &folder }, module, parent)
    }

    fn add(&mut self, root: &Path, place: Place, mut module: Module, parent: Option<usize>) -> usize {
        let (children, inline) = (std::mem::take(&mut module.children), std::mem::take(&mut module.inline));
        let index = self.nodes.len();
        self.nodes.push(Node { parent, file: place.file, children: BTreeMap::new(), module });
        for child in children {
            let added = self.add_file(root, &file_of(root, place, &child), Some(index));
            self.nodes[index].children.insert(child.name, added);
        }
        for (name, module) in inline {
            let folder = place.folder.join(&name);
            let inside = Place { here: &folder, folder: &folder, ..place };
            let added = self.add(root, inside, module, Some(index));
            self.nodes[index].children.insert(name, added);
        }
        index
    }

    /// Whether a module is `above` or stands below it.
    pub(crate) fn is_below(&self, module: usize, above: usize) -> bool {
        module == above || self.nodes[module].parent.is_some_and(|parent| self.is_below(parent, above))
    }

    /// Where `path` leads when the module `from` says it; nothing if it is of another crate.
    pub(crate) fn resolve(&self, from: usize, path: &[String]) -> Option<Target> {
        self.follow(from, path, IMPORTS_MAX, true)
    }

    fn follow(&self, from: usize, path: &[String], left: usize, with_globs: bool) -> Option<Target> {
        let (mut at, mut rest, mut is_rooted) = (from, path, false);
        while let Some((first, more)) = rest.split_first() {
            at = match &first[..] {
                "crate" => 0,
                "self" => at,
                "super" => self.nodes[at].parent?,
                _ => break,
            };
            (rest, is_rooted) = (more, true);
        }
        while let Some((name, more)) = rest.split_first() {
            let target = match self.look_up(at, name, left, with_globs || is_rooted) {
                Some(target) => target,
                // Made by a macro, or unknown: its module knows.
                None if is_rooted => return Some(Target { module: None, item: Some(self.nodes[at].file) }),
                None => return None,
            };
            match target.module {
                Some(module) if !more.is_empty() => at = module,
                _ => return Some(target),
            }
            (rest, is_rooted) = (more, true);
        }
        Some(Target { module: Some(at), item: None })
    }

    /// What `name` means in a module.
    fn look_up(&self, module: usize, name: &str, left: usize, with_globs: bool) -> Option<Target> {
        let node = &self.nodes[module];
        let mut found: Option<Target> =
            node.children.get(name).map(|child| Target { module: Some(*child), item: None });
        if node.module.items.contains(name) {
            found.get_or_insert_default().item = Some(node.file);
            return found;
        }
        let left = left.checked_sub(1)?;
        for import in node.module.imports.iter().filter(|import| import.name.as_deref() == Some(name)) {
            let target = self.follow(module, &import.path, left, false).unwrap_or_default();
            let known = found.get_or_insert_default();
            *known = Target { module: known.module.or(target.module), item: known.item.or(target.item) };
        }
        if found.is_some() || !with_globs {
            return found;
        }
        let globs = node.module.imports.iter().filter(|import| import.name.is_none());
        globs
            .filter_map(|glob| self.glob_module(module, glob, left))
            .find_map(|from| self.look_up(from, name, left, true))
    }

    /// The module whose names a `*` imports; that of an enum is none.
    fn glob_module(&self, module: usize, glob: &Import, left: usize) -> Option<usize> {
        self.follow(module, &glob.path, left, false)?.module.filter(|from| *from != module)
    }
}

/// Where a module stands on disk.
#[derive(Clone, Copy)]
struct Place<'a> {
    file: usize,
    /// What a `#[path]` in it is relative to.
    here: &'a Path,
    /// Where its children are.
    folder: &'a Path,
}

fn file_of(root: &Path, place: Place, child: &Child) -> PathBuf {
    if let Some(path) = &child.path {
        return place.here.join(path);
    }
    let flat = place.folder.join(format!("{}.rs", child.name));
    if root.join(&flat).is_file() { flat } else { place.folder.join(&child.name).join("mod.rs") }
}
