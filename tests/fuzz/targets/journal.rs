//! Rows of the SQLite engine's journal, which opening a store reads: the length of the changes, these, and the batches.

use bytes::Bytes;

use super::{Bounds, Target, words};

/// The target.
pub(super) struct Journal;

/// Changes as they stand in a row (`engines/sqlite/journal.rs`).
const PUT: u8 = 1;
const DELETE: u8 = 2;
const DROP_LOG: u8 = 8;
const TAGS: [u8; 8] = [3, 4, 5, 6, 7, DROP_LOG, 9, 10];

fn text(row: &mut Vec<u8>, text: &str) {
    // All are shorter than 128 bytes.
    row.push(text.len() as u8);
    row.extend_from_slice(text.as_bytes());
}

fn input(changes: &[u8], batches: &[u8]) -> Vec<u8> {
    [&(changes.len() as u16).to_be_bytes()[..], changes, batches].concat()
}

impl Target for Journal {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let mut documents = vec![1, PUT];
        text(&mut documents, "counters");
        text(&mut documents, "{\"next_producer_id\":7}");
        documents.push(DELETE);
        text(&mut documents, "topic/a");
        let mut seeds = vec![input(&documents, b""), input(&[1], b"")];
        for tag in TAGS {
            // A partition, and as many numbers as any of them has: what follows is then another change, or none.
            let mut change = vec![1, tag];
            change.extend([0; 16]);
            change.extend([0, 5, 3, 4, 8, 1]);
            seeds.push(input(&change, b"batch"));
        }
        seeds
    }

    fn words(&self) -> Vec<Vec<u8>> {
        let mut all = words(&["topic/a", "counters", "{}"]);
        all.extend([vec![0xff; 9], vec![0xff, 0xff, 0xff, 0xff, 0x0f], vec![0; 16]]);
        all
    }

    fn bounds(&self) -> Bounds {
        Bounds { input_bytes_max: 16 << 10, constant: 1 << 20, per_byte: 100 }
    }

    fn run(&mut self, input: &[u8]) -> Result<(), String> {
        let Some((length, rest)) = input.split_first_chunk::<2>() else { return Ok(()) };
        let (changes, batches) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        let read = storage::fuzzing::journal_row(changes, &Bytes::copy_from_slice(batches));
        match read {
            Some(count) if count > changes.len() => {
                Err(format!("{count} changes are read from {} bytes", changes.len()))
            }
            _ => Ok(()),
        }
    }
}
