//! Record batches of format 2 (KIP-98): the header, its checks, and the records inside.
//!
//! A batch is validated once, its header by [`Batch::check_header`] and its records by [`Batch::walk`], and otherwise
//! opaque. What a broker sets in its header is written when it is stored ([`settle`]), and it is decompressed only where
//! the records are needed.

mod build;
mod codec;
pub mod control;
mod fields;
mod iterate;
mod open;
mod pack;
mod pieces;
mod retain;
pub mod rows;
mod snappy;
mod stored;
mod walk;

pub use build::{BatchBuilder, NewRecord, recompress};
pub use codec::{Codec, CodecError};
use iterate::BatchHeader;
pub use iterate::{Record, RecordHeader, Records};
pub use retain::Selection;
pub use stored::StoredRecord;
pub use walk::{BadRecords, RecordTimes, WalkedRecord};

use std::fmt;

use bytes::Bytes;

/// The size of the batch header.
pub const HEADER_BYTES: usize = 61;
/// Base offset and batch length, which the batch length does not include.
pub const PREFIX_BYTES: usize = 12;
/// The CRC covers everything from the attributes on.
const CRC_FROM: usize = 21;
/// "No producer": the batch is not idempotent.
pub const NO_PRODUCER_ID: i64 = -1;
/// The epoch of a batch that is not idempotent.
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// "No timestamp", of a record or of a batch whose records have none.
pub const NO_TIMESTAMP: i64 = -1;
/// The attribute bit of a batch whose records all have its greatest timestamp, which the broker has set.
pub const LOG_APPEND_TIME: i16 = 0x08;

/// Other attribute bits.
pub(crate) const CODEC_MASK: i16 = 0x07;
const TRANSACTIONAL: i16 = 0x10;
const CONTROL: i16 = 0x20;
/// The attribute bit of a batch whose base timestamp is its delete horizon (KIP-534). A cleaner sets it.
pub const DELETE_HORIZON: i16 = 0x40;

/// Why a batch cannot be accepted. Each is one Kafka error code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BadBatch {
    /// Message format 0 or 1, or an unknown magic.
    Format(i8),
    /// Its CRC, length or counts are wrong.
    Corrupt(String),
    /// The codec bits are not a known codec.
    UnknownCodec(i16),
}

impl fmt::Display for BadBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadBatch::Format(magic) => write!(f, "message format {magic} is not supported, only 2 is"),
            BadBatch::Corrupt(what) => write!(f, "the record batch is corrupt: {what}"),
            BadBatch::UnknownCodec(bits) => write!(f, "compression codec {bits} is not known"),
        }
    }
}

impl std::error::Error for BadBatch {}

/// One record batch, whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    bytes: Bytes,
}

fn int<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[at..at + N]);
    value
}

impl Batch {
    /// Splits the first batch off `bytes` by its length alone; `None` when it is truncated.
    pub fn split_first(bytes: &mut Bytes) -> Option<Batch> {
        if bytes.len() < PREFIX_BYTES {
            return None;
        }
        let length = i32::from_be_bytes(int(bytes, 8));
        let total = usize::try_from(length).ok()?.checked_add(PREFIX_BYTES)?;
        if total < HEADER_BYTES || total > bytes.len() {
            return None;
        }
        Some(Batch { bytes: bytes.split_to(total) })
    }

    /// The batches in `bytes`, in order, up to the first truncated one.
    pub fn split_all(mut bytes: Bytes) -> impl Iterator<Item = Batch> {
        std::iter::from_fn(move || Batch::split_first(&mut bytes))
    }

    /// Takes exactly one batch and checks all that can be checked without its records.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check_header(bytes: Bytes) -> Result<Batch, BadBatch> {
        let corrupt = |what: &str| Err(BadBatch::Corrupt(what.to_owned()));
        // The magic byte is at the same offset in all formats.
        match bytes.get(16) {
            Some(2) => {}
            Some(magic) => return Err(BadBatch::Format(*magic as i8)),
            None => return corrupt("it ends within its header"),
        }
        let mut rest = bytes;
        let Some(batch) = Batch::split_first(&mut rest) else {
            return corrupt("its length is not that of its bytes");
        };
        if !rest.is_empty() {
            return corrupt("bytes follow the batch");
        }
        if !batch.crc_fits() {
            return corrupt("its CRC does not fit");
        }
        if batch.codec().is_none() {
            return Err(BadBatch::UnknownCodec(batch.attributes() & CODEC_MASK));
        }
        if batch.record_count() < 1 {
            return corrupt("it has no records");
        }
        if batch.last_offset_delta() != batch.record_count() - 1 {
            return corrupt("its last offset delta is not its count less one");
        }
        Ok(batch)
    }

    /// Takes exactly one batch and checks all that can be checked without decompressing it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(bytes: Bytes) -> Result<Batch, BadBatch> {
        let batch = Batch::check_header(bytes)?;
        if batch.codec() == Some(Codec::None) {
            batch.walk(usize::MAX, |_| {}).map_err(|bad| match bad {
                BadRecords::Malformed(what) => BadBatch::Corrupt(what),
                BadRecords::Unreadable(error) => BadBatch::Corrupt(error.to_string()),
            })?;
        }
        Ok(batch)
    }

    /// Walks over all records, and checks what consumers rely on. Compressed ones are decompressed in pieces, `bytes_max`
    /// bytes at most. `each` sees every record, with its own timestamp even if the batch has log append time.
    ///
    /// # Errors
    /// What is wrong with the first record that is.
    pub fn walk(&self, bytes_max: usize, each: impl FnMut(WalkedRecord)) -> Result<RecordTimes, BadRecords> {
        let codec = self.codec().ok_or(CodecError::Unknown(self.attributes() & CODEC_MASK))?;
        let mut records = &self.bytes[HEADER_BYTES..];
        let bytes_max =
            if codec == Codec::None { usize::MAX } else { bytes_max.min(codec.opened_bytes_max(records)) };
        let (count, base_timestamp) = (self.record_count(), self.base_timestamp());
        let announced = walk::Announced { count, base_timestamp, bytes_max };
        if codec == Codec::None {
            return walk::walk(&mut records, &announced, each);
        }
        walk::walk(&mut *codec.open(records)?, &announced, each)
    }

    /// The whole batch.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Offset of the first record.
    pub fn base_offset(&self) -> i64 {
        i64::from_be_bytes(int(&self.bytes, 0))
    }

    /// Offset after the last record. The greatest one there is, if a broker sends a batch beyond it.
    pub fn next_offset(&self) -> i64 {
        self.base_offset().saturating_add(i64::from(self.last_offset_delta()) + 1)
    }

    /// The epoch of the leader that appended it.
    pub fn leader_epoch(&self) -> i32 {
        i32::from_be_bytes(int(&self.bytes, 12))
    }

    fn crc(&self) -> u32 {
        u32::from_be_bytes(int(&self.bytes, 17))
    }

    /// Whether the CRC matches.
    pub fn crc_fits(&self) -> bool {
        self.crc() == crc32c::crc32c(&self.bytes[CRC_FROM..])
    }

    /// The attribute bits.
    pub fn attributes(&self) -> i16 {
        i16::from_be_bytes(int(&self.bytes, 21))
    }

    /// The codec; `None` when the bits are not a known codec.
    pub fn codec(&self) -> Option<Codec> {
        Codec::from_bits(self.attributes() & CODEC_MASK)
    }

    /// Whether it uses log append time.
    pub fn has_append_time(&self) -> bool {
        self.attributes() & LOG_APPEND_TIME != 0
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes() & TRANSACTIONAL != 0
    }

    /// Whether it is a control batch.
    pub fn is_control(&self) -> bool {
        self.attributes() & CONTROL != 0
    }

    /// When tombstones in the batch, or the marker that it is, may go, in ms since the epoch; `None` until a cleaning has
    /// found that one could go (KIP-534).
    pub fn delete_horizon_ms(&self) -> Option<i64> {
        (self.attributes() & DELETE_HORIZON != 0).then(|| self.base_timestamp())
    }

    /// Offset of the last record, counted from the base offset.
    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(int(&self.bytes, 23))
    }

    /// Timestamp that the records' deltas are added to, in ms since the epoch.
    pub fn base_timestamp(&self) -> i64 {
        i64::from_be_bytes(int(&self.bytes, 27))
    }

    /// The latest timestamp, in ms since the epoch.
    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(int(&self.bytes, 35))
    }

    /// The idempotent producer, or [`NO_PRODUCER_ID`].
    pub fn producer_id(&self) -> i64 {
        i64::from_be_bytes(int(&self.bytes, 43))
    }

    /// That producer's epoch.
    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(int(&self.bytes, 51))
    }

    /// The sequence number of the first record.
    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(int(&self.bytes, 53))
    }

    /// The number of records.
    pub fn record_count(&self) -> i32 {
        i32::from_be_bytes(int(&self.bytes, 57))
    }

    /// The records of the batch, decompressed into at most `bytes_max` bytes.
    pub fn records(&self, bytes_max: usize) -> Result<Records, CodecError> {
        let codec = self.codec().ok_or(CodecError::Unknown(self.attributes() & CODEC_MASK))?;
        let plain = codec.decompress(self.bytes.slice(HEADER_BYTES..), bytes_max)?;
        let header = BatchHeader {
            record_count: self.record_count(),
            base_offset: self.base_offset(),
            base_timestamp: self.base_timestamp(),
            append_time: self.has_append_time().then(|| self.max_timestamp()),
        };
        Ok(Records::new(plain, &header))
    }
}

/// What a broker sets in the header of a batch that it stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// The epoch of the leader that appends it.
    pub leader_epoch: i32,
    /// The attribute bits.
    pub attributes: i16,
    /// The latest timestamp, in ms since the epoch.
    pub max_timestamp: i64,
}

/// Writes the header fields of a stored batch in place. The CRC is computed anew only if a field that it covers changes;
/// the first two are not among those.
pub fn settle(batch: &mut [u8], header: &StoredHeader) {
    batch[..8].copy_from_slice(&header.base_offset.to_be_bytes());
    batch[12..16].copy_from_slice(&header.leader_epoch.to_be_bytes());
    let (attributes, max_timestamp) = (header.attributes.to_be_bytes(), header.max_timestamp.to_be_bytes());
    if batch[21..23] != attributes || batch[35..43] != max_timestamp {
        batch[21..23].copy_from_slice(&attributes);
        batch[35..43].copy_from_slice(&max_timestamp);
        let crc = crc32c::crc32c(&batch[CRC_FROM..]);
        batch[17..21].copy_from_slice(&crc.to_be_bytes());
    }
}

/// The same for a batch that is not copied if it need not be: its beginning, with the header as it is stored, and the rest.
pub fn settled(batch: &Bytes, header: &StoredHeader) -> [Bytes; 2] {
    let (attributes, max_timestamp) = (header.attributes.to_be_bytes(), header.max_timestamp.to_be_bytes());
    let is_covered_by_crc = batch[21..23] != attributes || batch[35..43] != max_timestamp;
    let copied = if is_covered_by_crc { batch.len() } else { HEADER_BYTES };
    let mut head = batch[..copied].to_vec();
    settle(&mut head, header);
    [head.into(), batch.slice(copied..)]
}

#[cfg(test)]
mod tests;
