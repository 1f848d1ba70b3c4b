//! Finds files of a crate that depend on each other in a circle.
//!
//! A file depends on another if its code names what the other defines: in a `use`, or by a path such as
//! `super::rules::decide`. A name counts for the file that defines it, however many `pub use` it comes through; so a
//! `mod.rs` that only declares its children and re-exports their names closes no circle. Tests, comments and texts
//! do not count. What a macro makes, and paths in texts such as those of serde's attributes, are not seen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::path::Path;

use super::modules::{Target, Tree};
use super::parse::Import;

/// Files that depend on each other.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Circle {
    /// The way round, such as `a.rs -> b.rs -> a.rs`.
    pub(crate) way: String,
    /// The line behind each step of the way.
    pub(crate) steps: Vec<String>,
}

impl fmt::Display for Circle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n    {}", self.way, self.steps.join("\n    "))
    }
}

/// For each file those it depends on, with the first line that says so.
type Edges = BTreeMap<String, BTreeMap<String, usize>>;

/// The circles of the crate whose `lib.rs` or `main.rs` is in `crate_root`: for each step from file to file that is
/// part of any circle, the shortest one. So each set of files that all depend on each other is there, and a new step in
/// such a set makes a new circle.
pub(crate) fn circles(crate_root: &Path) -> Vec<Circle> {
    let edges = edges(&Tree::read(crate_root));
    let mut found = BTreeSet::new();
    for (from, needs) in &edges {
        found.extend(needs.keys().filter_map(|to| Some(circle(&edges, shortest(&edges, to, from)?))));
    }
    found.into_iter().collect()
}

fn edges(tree: &Tree) -> Edges {
    let mut edges = Edges::new();
    for (from, node) in tree.nodes.iter().enumerate() {
        let inline = node.module.paths.iter();
        let inline = inline.filter_map(|named| Some((tree.resolve(from, &named.path)?.item?, named.line)));
        let imports = node.module.imports.iter();
        let imports = imports.filter_map(|import| Some((imported(tree, from, import)?, import.line)));
        for (file, line) in inline.chain(imports).filter(|(file, _)| *file != node.file) {
            let needs = edges.entry(tree.files[node.file].clone()).or_default();
            let first = needs.entry(tree.files[file].clone()).or_insert(line);
            *first = line.min(*first);
        }
    }
    edges
}

/// The file that a module depends on by an import alone. A `pub use` of what stands below is only an alias.
fn imported(tree: &Tree, from: usize, import: &Import) -> Option<usize> {
    let Target { module, item } = tree.resolve(from, &import.path)?;
    // What is named by way of an imported module is a path of the code, and counts there.
    let of_glob = module.filter(|_| import.name.is_none()).map(|module| tree.nodes[module].file);
    let file = item.or(of_glob)?;
    let mut modules_of_file = (0..tree.nodes.len()).filter(|module| tree.nodes[*module].file == file);
    let is_alias = import.is_public && modules_of_file.any(|module| tree.is_below(module, from));
    (!is_alias).then_some(file)
}

/// The shortest way between two files, both included.
fn shortest(edges: &Edges, from: &str, to: &str) -> Option<Vec<String>> {
    let mut ways = VecDeque::from([vec![from.to_owned()]]);
    let mut seen = BTreeSet::new();
    while let Some(way) = ways.pop_front() {
        let last = &way[way.len() - 1];
        if last == to {
            return Some(way);
        }
        for next in edges.get(last).into_iter().flat_map(BTreeMap::keys) {
            if seen.insert(next) {
                ways.push_back(way.iter().chain([next]).cloned().collect());
            }
        }
    }
    None
}

/// The circle of these files, beginning with the one that comes first in the alphabet.
fn circle(edges: &Edges, mut files: Vec<String>) -> Circle {
    let first = (0..files.len()).min_by_key(|at| &files[*at]).unwrap_or(0);
    files.rotate_left(first);
    files.extend(files.first().cloned());
    let step = |pair: &[String]| format!("{}:{} needs {}", pair[0], edges[&pair[0]][&pair[1]], pair[1]);
    Circle { way: files.join(" -> "), steps: files.windows(2).map(step).collect() }
}
