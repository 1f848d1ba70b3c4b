//! Where inputs are kept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::coverage;
use crate::targets::Target;

/// The workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// What runs leave behind: inputs that covered something new, and those that failed.
pub(crate) fn output() -> PathBuf {
    root().join("target/fuzz")
}

/// The inputs in the tree, of which each once meant something.
fn in_tree(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

fn found(target: &str) -> PathBuf {
    output().join("corpus").join(target)
}

/// The inputs that a run of a target begins with: the same in every process, unless they are found by coverage.
pub(crate) fn load(name: &str, target: &dyn Target) -> Result<Vec<Vec<u8>>, String> {
    let mut inputs = files(&in_tree(name))?;
    inputs.extend(target.seeds());
    if coverage::is_on() {
        inputs.extend(files(&found(name))?);
    }
    // Something to begin with.
    if inputs.is_empty() {
        inputs.push(Vec::new());
    }
    inputs.iter_mut().for_each(|input| input.truncate(target.bounds().input_bytes_max));
    Ok(inputs)
}

/// The files of a folder in order of their names; none if there is no folder.
pub(crate) fn files(folder: &Path) -> Result<Vec<Vec<u8>>, String> {
    let failed = |error: io::Error| format!("{} cannot be read: {error}", folder.display());
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.retain(|path| path.is_file());
    paths.sort();
    paths.iter().map(|path| fs::read(path).map_err(failed)).collect()
}

/// Keeps an input that covers something new.
pub(crate) fn keep(target: &str, input: &[u8]) -> Result<(), String> {
    write(&found(target), input).map(drop)
}

/// Keeps an input that failed, and returns where.
pub(crate) fn keep_failed(target: &str, input: &[u8]) -> Result<PathBuf, String> {
    write(&output().join("failed").join(target), input)
}

fn write(folder: &Path, input: &[u8]) -> Result<PathBuf, String> {
    let path = folder.join(format!("{:08x}-{}", crc32c::crc32c(input), input.len()));
    let written = fs::create_dir_all(folder).and_then(|()| fs::write(&path, input));
    written.map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The corpus is for what was once found, and not for what a run can find again.
    const TREE_BYTES_MAX: usize = 200 << 10;

    #[test]
    fn the_corpus_in_the_tree_is_small_and_belongs_to_targets() {
        let mut bytes = 0;
        for entry in fs::read_dir(in_tree("")).unwrap() {
            let name = entry.unwrap().file_name().into_string().unwrap();
            assert!(crate::targets::find(&name).is_some(), "corpus/{name} is no target's");
            bytes += files(&in_tree(&name)).unwrap().iter().map(Vec::len).sum::<usize>();
        }
        assert!(bytes <= TREE_BYTES_MAX, "{bytes} bytes");
    }
}
