//! The input that a worker is at, in a file that outlives the worker whatever becomes of it.
#![allow(unsafe_code)] // A file's mapping is only as sound as the file; the proof is at the call.

use std::fs::{self, OpenOptions};
use std::path::Path;

use memmap2::MmapMut;

/// A worker's file: the length of its input, and the input.
pub(crate) struct Record(MmapMut);

const LENGTH_BYTES: usize = 8;

impl Record {
    /// Makes the file, for inputs of at most `bytes_max` bytes.
    pub(crate) fn create(path: &Path, bytes_max: usize) -> std::io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len((LENGTH_BYTES + bytes_max) as u64)?;
        // SAFETY: the file is this process's own: nobody else writes it or cuts it while it is mapped.
        Ok(Self(unsafe { MmapMut::map_mut(&file)? }))
    }

    /// Notes the input that comes next.
    pub(crate) fn write(&mut self, input: &[u8]) {
        let bytes = input.len().min(self.0.len() - LENGTH_BYTES);
        self.0[..LENGTH_BYTES].copy_from_slice(&(bytes as u64).to_le_bytes());
        self.0[LENGTH_BYTES..LENGTH_BYTES + bytes].copy_from_slice(&input[..bytes]);
    }
}

/// The input in a worker's file.
pub(crate) fn read(path: &Path) -> Option<Vec<u8>> {
    let bytes = fs::read(path).ok()?;
    let (length, rest) = bytes.split_first_chunk::<LENGTH_BYTES>()?;
    let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
    rest.get(..length).map(<[u8]>::to_vec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_input_is_read_back() {
        let path = std::env::temp_dir().join(format!("yagura-fuzz-record-{}", std::process::id()));
        let mut record = Record::create(&path, 100).unwrap();
        record.write(b"a longer one");
        record.write(b"the last");
        assert_eq!(read(&path).unwrap(), b"the last");
        record.write(&[7; 200]);
        assert_eq!(read(&path).unwrap(), [7; 100], "what does not fit is cut");
        fs::remove_file(&path).unwrap();
        assert_eq!(read(&path), None);
    }
}
