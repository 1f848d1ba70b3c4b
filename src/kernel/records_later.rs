//! The records of one partition in a reply: some in memory, the others read while the reply is sent.
//!
//! A reply of 50 MiB to a client that does not read it costs its length prefix and a position in the store, not 50 MiB.

use std::fmt;

use bytes::Bytes;

use crate::ports::BoxFuture;

/// The next bytes of records, and what is left after them.
pub type NextRecords = BoxFuture<'static, Result<(Vec<Bytes>, Box<dyn RecordSource>), String>>;

/// Reads records in pieces, in order. What it reads must not change: the length of a reply is announced before.
pub trait RecordSource: Send + Sync {
    /// The next `bytes` bytes, or fewer, but at least one.
    ///
    /// # Errors
    /// A sentence saying why they cannot be read; the rest of the reply cannot be sent then.
    fn read(self: Box<Self>, bytes: usize) -> NextRecords;
}

/// Records that are read when they are sent.
pub struct RecordsLater {
    /// How many bytes they are.
    pub bytes: u64,
    /// Reads them.
    pub source: Box<dyn RecordSource>,
}

impl fmt::Debug for RecordsLater {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordsLater({} bytes)", self.bytes)
    }
}

/// The records of one partition in a reply.
#[derive(Debug, Default)]
pub struct Records {
    /// Record batches in memory.
    pub ready: Vec<Bytes>,
    /// Those that follow them.
    pub later: Option<RecordsLater>,
}

impl Records {
    /// The length of all of them.
    pub fn bytes(&self) -> u64 {
        let ready: usize = self.ready.iter().map(Bytes::len).sum();
        ready as u64 + self.later.as_ref().map_or(0, |later| later.bytes)
    }
}

impl From<Bytes> for Records {
    fn from(records: Bytes) -> Self {
        Self { ready: vec![records], later: None }
    }
}
