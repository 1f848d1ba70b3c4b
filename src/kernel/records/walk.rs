//! Walks over the records of a batch: checks all that a consumer relies on, and keeps nothing.
//!
//! A consumer that cannot read a batch asks for it for ever, so the walk accepts exactly what the header announces: so
//! many whole records, whose offsets count up from 0, and nothing after them. Lengths, counts and times are read; keys,
//! values and headers are skipped over. A record costs some ten varints, of one byte mostly, and no allocation: about
//! 10 ns, whatever its length. Records that lie whole in a piece of the stream are read as slices, in one loop; only the
//! one that a piece divides is read byte by byte.
//!
//! The walk ends at the first fault. So a stream that expands a thousandfold costs no more than the records that the
//! header counts, and a record is refused by its length before it is decompressed.

use std::fmt;
use std::io::{self, BufRead};

use super::CodecError;
use super::fields::{Divided, Fault, Fields, Stopped, int, long, skip_nullable};

/// A record, as a walk sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkedRecord {
    /// Its place in the batch, from 0.
    pub index: i32,
    /// Milliseconds since the epoch, or [`NO_TIMESTAMP`](super::NO_TIMESTAMP).
    pub timestamp: i64,
    /// Whether it has a key, which may be empty.
    pub has_key: bool,
}

/// The timestamps of all records of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordTimes {
    /// The greatest, in ms since the epoch; `None` if no record has one.
    pub latest: Option<i64>,
    /// Whether a record has none.
    pub has_undated: bool,
}

/// Why records cannot be accepted.
#[derive(Debug)]
pub enum BadRecords {
    /// They are not what the header announces, or not records.
    Malformed(String),
    /// They cannot be decompressed, or are too many bytes.
    Unreadable(CodecError),
}

impl fmt::Display for BadRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadRecords::Malformed(what) => write!(f, "the record batch is corrupt: {what}"),
            BadRecords::Unreadable(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BadRecords {}

impl From<CodecError> for BadRecords {
    fn from(error: CodecError) -> Self {
        BadRecords::Unreadable(error)
    }
}

impl From<io::Error> for BadRecords {
    fn from(error: io::Error) -> Self {
        BadRecords::Unreadable(CodecError::Broken(error))
    }
}

/// What the header of a batch says of its records.
pub(super) struct Announced {
    pub(super) count: i32,
    pub(super) base_timestamp: i64,
    /// The most bytes that all records may have.
    pub(super) bytes_max: usize,
}

/// Walks over all records of a stream, which must have nothing else.
pub(super) fn walk(
    source: &mut dyn BufRead,
    announced: &Announced,
    each: impl FnMut(WalkedRecord),
) -> Result<RecordTimes, BadRecords> {
    let walk = Walk { announced, each, index: 0, bytes: 0, latest: -1, has_undated: false };
    walk.run(source)
}

struct Walk<'a, E> {
    announced: &'a Announced,
    each: E,
    /// The place of the next record.
    index: i32,
    /// Bytes of the records before it.
    bytes: usize,
    latest: i64,
    has_undated: bool,
}

impl<E: FnMut(WalkedRecord)> Walk<'_, E> {
    fn run(mut self, source: &mut dyn BufRead) -> Result<RecordTimes, BadRecords> {
        while self.index < self.announced.count {
            let walked = self.whole_records(source.fill_buf()?)?;
            source.consume(walked);
            if self.index < self.announced.count {
                self.divided_record(source)?;
            }
        }
        if !source.fill_buf()?.is_empty() {
            let count = self.announced.count;
            return Err(BadRecords::Malformed(format!("bytes follow its {count} records")));
        }
        let latest = (self.latest >= 0).then_some(self.latest);
        Ok(RecordTimes { latest, has_undated: self.has_undated })
    }

    /// Walks over the records that lie whole in a piece, and returns their bytes.
    fn whole_records(&mut self, piece: &[u8]) -> Result<usize, BadRecords> {
        let mut rest = piece;
        while self.index < self.announced.count {
            let mut ahead = rest;
            let length = match int(&mut ahead) {
                Ok(length) => self.admit(length)?,
                Err(Fault::End) => break,
                Err(Fault::Wrong(what)) => return Err(self.wrong(what)),
            };
            let Some(mut record) = ahead.split_off(..length) else { break };
            match fields(&mut record, self.index) {
                Ok(found) => self.count(found, length),
                Err(fault) => return Err(self.wrong(fault.what())),
            }
            rest = ahead;
        }
        Ok(piece.len() - rest.len())
    }

    /// Walks over the next record, of which the source has only the beginning at hand.
    fn divided_record(&mut self, source: &mut dyn BufRead) -> Result<(), BadRecords> {
        let mut divided = Divided { source, left: usize::MAX, stopped: None };
        let length = match int(&mut divided) {
            Ok(length) => self.admit(length)?,
            Err(fault) => return Err(self.stopped(fault, divided.stopped)),
        };
        divided.left = length;
        match fields(&mut divided, self.index) {
            Ok(found) => self.count(found, length),
            Err(fault) => return Err(self.stopped(fault, divided.stopped)),
        }
        Ok(())
    }

    /// Checks the length of a record before any of it is read.
    fn admit(&self, length: i32) -> Result<usize, BadRecords> {
        let length = usize::try_from(length).map_err(|_| self.wrong("has a negative length"))?;
        if length >= self.announced.bytes_max.saturating_sub(self.bytes) {
            return Err(CodecError::TooLarge(self.announced.bytes_max).into());
        }
        Ok(length)
    }

    fn count(&mut self, (timestamp_delta, has_key): (i64, bool), length: usize) {
        let timestamp = self.announced.base_timestamp.wrapping_add(timestamp_delta);
        if timestamp < 0 {
            self.has_undated = true;
        } else {
            self.latest = self.latest.max(timestamp);
        }
        (self.each)(WalkedRecord { index: self.index, timestamp, has_key });
        // Its length has at least a byte.
        self.bytes += length + 1;
        self.index += 1;
    }

    #[cold]
    fn wrong(&self, what: &str) -> BadRecords {
        let (index, count) = (self.index, self.announced.count);
        BadRecords::Malformed(format!("record {index} of {count} {what}"))
    }

    #[cold]
    fn stopped(&self, fault: Fault, stopped: Option<Stopped>) -> BadRecords {
        match stopped {
            Some(Stopped::Failed(error)) => error.into(),
            Some(Stopped::Ended) => self.wrong("passes the end"),
            None => self.wrong(fault.what()),
        }
    }
}

/// Checks the fields of a record, and returns how much its timestamp differs from that of the batch, and whether it has a key.
#[inline]
fn fields(record: &mut impl Fields, index: i32) -> Result<(i64, bool), Fault> {
    record.byte().ok_or(Fault::Wrong("is empty"))?; // The attributes of a record are unused.
    let timestamp_delta = long(record)?;
    if int(record)? != index {
        return Err(Fault::Wrong("has an offset that is not its place"));
    }
    let has_key = skip_nullable(record)?;
    skip_nullable(record)?; // Value.
    let headers = int(record)?;
    if headers < 0 {
        return Err(Fault::Wrong("has a negative number of headers"));
    }
    for _ in 0..headers {
        // Names are not checked to be UTF-8, as in Kafka: its broker steps over them by their length, or keeps their bytes,
        // and its client reads U+FFFD for what is malformed.
        if !skip_nullable(record)? {
            return Err(Fault::Wrong("has a header without a name"));
        }
        skip_nullable(record)?;
    }
    if record.is_at_end() {
        Ok((timestamp_delta, has_key))
    } else {
        Err(Fault::Wrong("is longer than what is in it"))
    }
}
