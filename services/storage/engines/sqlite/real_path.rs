//! Which file a path names, and the names of files beside it.

use std::path::{Path, PathBuf};

/// Symbolic links that are followed.
const LINKS_MAX: usize = 40;

/// The file that a path names: a symbolic link to a store is that store, also while the store itself is not there.
pub(super) fn real_path(path: &Path) -> PathBuf {
    let mut real = path.to_owned();
    for _ in 0..LINKS_MAX {
        let Ok(target) = std::fs::read_link(&real) else { break };
        real = real.parent().map_or_else(|| target.clone(), |folder| folder.join(&target));
    }
    let folder = real.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    match (folder.canonicalize(), real.file_name()) {
        (Ok(folder), Some(name)) => folder.join(name),
        _ => real,
    }
}

/// The file whose name is another one's with a suffix.
pub(super) fn beside(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
