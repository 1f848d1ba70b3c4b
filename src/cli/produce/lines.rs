//! Reads lines of stdin in chunks, on a separate thread.
//!
//! Reading stdin blocks, and a command that has failed must not wait for it, so the thread is not joined on
//! exit. It is never more than a few chunks ahead.

use std::io::{self, Read};

use tokio::sync::mpsc;

const CHUNK_BYTES: usize = 64 << 10;
const CHUNKS_MAX: usize = 4;
/// The longest line. No broker accepts a record of this size, and a file without line ends should not fill
/// the memory.
const LINE_BYTES_MAX: usize = 256 << 20;

/// The receiving side.
pub(super) struct Lines(mpsc::Receiver<io::Result<Chunk>>);

/// One or more whole lines.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Chunk(Vec<u8>);

impl Lines {
    /// The lines of `source`.
    pub(super) fn of(source: impl Read + Send + 'static) -> Self {
        let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
        std::thread::spawn(move || {
            let failure = sender.clone();
            if let Err(error) = read(source, |chunk| sender.blocking_send(Ok(chunk)).is_ok()) {
                // A dropped receiver needs no report.
                let _ = failure.blocking_send(Err(error));
            }
        });
        Self(receiver)
    }

    /// The next lines; `None` at the end.
    pub(super) async fn next(&mut self) -> Option<io::Result<Chunk>> {
        self.0.recv().await
    }
}

impl Chunk {
    /// Each line without its newline. All other bytes belong to the record, including a carriage return.
    pub(super) fn lines(&self) -> impl Iterator<Item = &[u8]> {
        let whole = self.0.strip_suffix(b"\n").unwrap_or(&self.0);
        whole.split(|byte| *byte == b'\n')
    }
}

/// Passes on whole lines as soon as they are read, until `take` stops.
fn read(mut source: impl Read, mut take: impl FnMut(Chunk) -> bool) -> io::Result<()> {
    let mut begun = Vec::new();
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        let length = match source.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let read = &buffer[..length];
        let Some(end) = read.iter().rposition(|byte| *byte == b'\n') else {
            begun.extend_from_slice(read);
            if begun.len() > LINE_BYTES_MAX {
                let text =
                    format!("a line is longer than {} MiB; is it a file of lines?", LINE_BYTES_MAX >> 20);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            continue;
        };
        let mut chunk = std::mem::take(&mut begun);
        chunk.extend_from_slice(&read[..=end]);
        begun.extend_from_slice(&read[end + 1..]);
        if !take(Chunk(chunk)) {
            return Ok(());
        }
    }
    if !begun.is_empty() {
        take(Chunk(begun));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a few bytes per read.
    struct Drip(Vec<u8>, usize);

    impl Read for Drip {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = self.1.min(self.0.len()).min(buffer.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0.drain(..length);
            Ok(length)
        }
    }

    fn lines(text: &str, at_a_time: usize) -> Vec<String> {
        let mut lines = Vec::new();
        read(Drip(text.as_bytes().to_vec(), at_a_time), |chunk| {
            lines.extend(chunk.lines().map(|line| String::from_utf8(line.to_vec()).unwrap()));
            true
        })
        .unwrap();
        lines
    }

    #[test]
    fn lines_are_the_same_however_they_come() {
        for at_a_time in [1, 2, 3, 7, 100] {
            assert_eq!(lines("one\n\nthree\r\nfour", at_a_time), ["one", "", "three\r", "four"]);
            assert_eq!(lines("one\n", at_a_time), ["one"]);
            assert_eq!(lines("\n", at_a_time), [""]);
            assert!(lines("", at_a_time).is_empty());
        }
    }

    #[test]
    fn reading_stops_when_nobody_takes() {
        let mut taken = 0;
        read(Drip(b"a\nb\nc\n".to_vec(), 2), |_| {
            taken += 1;
            false
        })
        .unwrap();
        assert_eq!(taken, 1);
    }

    #[tokio::test]
    async fn a_failure_to_read_comes_last() {
        struct Broken(bool);
        impl Read for Broken {
            fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    return Err(io::Error::other("the tape tore"));
                }
                buffer[..2].copy_from_slice(b"a\n");
                Ok(2)
            }
        }
        let mut lines = Lines::of(Broken(false));
        assert_eq!(lines.next().await.unwrap().unwrap(), Chunk(b"a\n".to_vec()));
        assert!(lines.next().await.unwrap().is_err());
        assert!(lines.next().await.is_none());
    }
}
