//! What a partition's records must be, in the order in which Kafka checks it.
//!
//! Kafka 4.1 looks for the first batch, then at the request's version, then at the batch's offset and size, then at its
//! CRC, then at its counts. One thing it does that is not done here: it decompresses every batch to read its records.
//! A compressed batch whose CRC fits is opaque to Yagura, so what its producer packed wrongly, its consumers will see.

use std::fmt;

use bytes::Bytes;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kernel::ErrorCode;
use kernel::records::{BadBatch, Batch, Codec, NO_PRODUCER_ID, PREFIX_BYTES};

use super::rejected::Rejected;
use rules::configs::EffectiveConfig;

/// The batch length stands behind the base offset.
const LENGTH_AT: usize = 8;
/// The magic byte stands at the same place in all formats.
const MAGIC_AT: usize = 16;
const MAGIC: u8 = 2;
/// The second byte of the attributes, which has all bits that mean something.
const ATTRIBUTES_AT: usize = 22;
const CODEC_BITS: u8 = 0x07;
const TRANSACTIONAL_BIT: u8 = 0x10;
/// No record of any format is shorter than this behind its length.
const LENGTH_MIN: i32 = 14;
/// Before this version clients are not expected to know zstd (KIP-110).
const ZSTD_FROM: i16 = 7;

/// A partition as Kafka's messages name it.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartitionName<'a>(pub(super) &'a str, pub(super) i32);

impl fmt::Display for PartitionName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// Whether the records say that they belong to a transaction. Kafka asks this before anything else.
pub(super) fn is_transactional(partition: &PartitionProduceData) -> bool {
    let Some(records) = &partition.records else { return false };
    records.get(MAGIC_AT) == Some(&MAGIC)
        && records.get(ATTRIBUTES_AT).is_some_and(|bits| bits & TRANSACTIONAL_BIT != 0)
}

/// -1 (all), 0 or 1.
pub(super) fn check_acks(acks: i16) -> Result<(), Rejected> {
    match acks {
        -1..=1 => Ok(()),
        _ => {
            let message = format!("acks is {acks}; it must be 0, 1, or -1 for all");
            Err(Rejected::new(ErrorCode::InvalidRequiredAcks, message))
        }
    }
}

/// The one batch that the records must be. A few bytes behind it that are no batch are left away, as in Kafka.
pub(super) fn only_batch(records: Bytes, version: i16) -> Result<Bytes, Rejected> {
    let invalid = |what: &str| Rejected::invalid(format!("Produce requests with version {version} {what}"));
    let first = next_batch(&records)?;
    let first = first.ok_or_else(|| invalid("must have at least one record batch per partition"))?;
    if records[MAGIC_AT] != MAGIC {
        return Err(invalid("are only allowed to contain record batches with magic version 2"));
    }
    if version < ZSTD_FROM && i16::from(records[ATTRIBUTES_AT] & CODEC_BITS) == Codec::Zstd.bits() {
        let message =
            format!("Produce requests with version {version} are not allowed to use ZStandard compression");
        return Err(Rejected::new(ErrorCode::UnsupportedCompressionType, message));
    }
    if next_batch(&records[first..])?.is_some() {
        return Err(invalid("are only allowed to contain exactly one record batch per partition"));
    }
    Ok(records.slice(..first))
}

/// The length of the batch at the beginning of `records`, if one is there and whole. What is long enough to be one
/// and is none is corrupt.
fn next_batch(records: &[u8]) -> Result<Option<usize>, Rejected> {
    let corrupt = |message| Err(Rejected::new(ErrorCode::CorruptMessage, message));
    let length = records.get(LENGTH_AT..PREFIX_BYTES).and_then(|length| length.first_chunk::<4>());
    let Some(length) = length.map(|length| i32::from_be_bytes(*length)) else { return Ok(None) };
    if length < LENGTH_MIN {
        return corrupt(format!(
            "Record size {length} is less than the minimum record overhead ({LENGTH_MIN})"
        ));
    }
    match records.get(MAGIC_AT) {
        None => Ok(None),
        Some(magic) if *magic > MAGIC => corrupt(format!("Invalid magic found in record: {}", *magic as i8)),
        Some(_) => {
            // At least LENGTH_MIN, so not negative.
            let total = PREFIX_BYTES + length as usize;
            Ok((total <= records.len()).then_some(total))
        }
    }
}

/// `max.message.bytes`.
pub(super) fn check_size(
    batch: &Bytes,
    config: &EffectiveConfig,
    name: PartitionName<'_>,
) -> Result<(), Rejected> {
    let (bytes, bytes_max) = (batch.len(), config.max_message_bytes);
    if usize::try_from(bytes_max).is_ok_and(|bytes_max| bytes <= bytes_max) {
        return Ok(());
    }
    let message = format!(
        "The record batch size in the append to {name} is {bytes} bytes which exceeds the maximum configured value of {bytes_max}."
    );
    Err(Rejected::new(ErrorCode::MessageTooLarge, message))
}

/// Everything that can be seen without opening the batch.
pub(super) fn check_batch(
    bytes: Bytes,
    config: &EffectiveConfig,
    name: PartitionName<'_>,
) -> Result<Batch, Rejected> {
    let base_offset = bytes.first_chunk::<8>().map_or(0, |offset| i64::from_be_bytes(*offset));
    if base_offset != 0 {
        return Err(Rejected::invalid(format!(
            "The baseOffset of the record batch in the append to {name} should be 0, but it is {base_offset}"
        )));
    }
    check_size(&bytes, config, name)?;
    let batch = Batch::check(bytes.clone()).map_err(|bad| bad_batch(bad, bytes))?;
    if batch.is_control() {
        let message = format!("Clients are not allowed to write control records in topic partition {name}");
        return Err(Rejected::invalid(message));
    }
    if batch.producer_id() > NO_PRODUCER_ID && batch.base_sequence() < 0 {
        return Err(Rejected::invalid(format!(
            "Invalid sequence number {} in record batch with producerId {} in topic partition {name}",
            batch.base_sequence(),
            batch.producer_id()
        )));
    }
    Ok(batch)
}

/// Bytes that changed on the way may be sent again: CORRUPT_MESSAGE. Bytes that came as they were meant and are
/// wrong may not: INVALID_RECORD.
fn bad_batch(bad: BadBatch, mut bytes: Bytes) -> Rejected {
    let error = match bad {
        BadBatch::Format(_) => ErrorCode::UnsupportedForMessageFormat,
        BadBatch::UnknownCodec(_) => ErrorCode::UnsupportedCompressionType,
        BadBatch::Corrupt(_) => match Batch::split_first(&mut bytes).is_some_and(|batch| batch.crc_fits()) {
            true => ErrorCode::InvalidRecord,
            false => ErrorCode::CorruptMessage,
        },
    };
    Rejected::new(error, bad.to_string())
}
