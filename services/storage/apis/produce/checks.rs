//! Checks of a partition's batch, in Kafka's order, before its records ([`super::records`]).
//!
//! Kafka checks that there is a batch, then the request's version, the batch's offset and size, its CRC,
//! and its counts.

use std::fmt;

use bytes::Bytes;
use kafka_protocol::messages::produce_request::PartitionProduceData;
use kernel::ErrorCode;
use kernel::records::{BadBatch, Batch, Codec, NO_PRODUCER_ID, PREFIX_BYTES};
use rules::configs::EffectiveConfig;

use super::rejected::Rejected;

/// Position of the batch length, after the base offset.
const LENGTH_AT: usize = 8;
/// Position of the magic byte, the same in all formats.
const MAGIC_AT: usize = 16;
const MAGIC: u8 = 2;
/// Position of the second attributes byte, which has all bits in use.
const ATTRIBUTES_AT: usize = 22;
const CODEC_BITS: u8 = 0x07;
const TRANSACTIONAL_BIT: u8 = 0x10;
/// Minimum length of a record of any format, without the length field.
const LENGTH_MIN: i32 = 14;
/// Before this version clients are not expected to support zstd (KIP-110).
const ZSTD_FROM: i16 = 7;

/// A partition as Kafka's error messages name it.
#[derive(Debug, Clone, Copy)]
pub(super) struct PartitionName<'a>(pub(super) &'a str, pub(super) i32);

impl fmt::Display for PartitionName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

/// Whether the batch has the transactional bit. Kafka checks this first.
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

/// The records as a single batch. Trailing bytes too short for a batch are dropped, as in Kafka.
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

/// The length of the batch at the start of `records`, if it is complete. Bytes long enough for a batch that
/// are not one are corrupt.
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

/// All checks that do not need the records.
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
    let batch = Batch::check_header(bytes.clone()).map_err(|bad| bad_batch(bad, bytes))?;
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

/// CORRUPT_MESSAGE, which clients retry, for bytes that changed in transit; INVALID_RECORD, which they do
/// not, for bytes that the producer encoded wrongly.
fn bad_batch(bad: BadBatch, mut bytes: Bytes) -> Rejected {
    let error = match bad {
        BadBatch::Format(_) => ErrorCode::UnsupportedForMessageFormat,
        BadBatch::UnknownCodec(_) => ErrorCode::UnsupportedCompressionType,
        BadBatch::Corrupt(_) => {
            if Batch::split_first(&mut bytes).is_some_and(|batch| batch.crc_fits()) {
                ErrorCode::InvalidRecord
            } else {
                ErrorCode::CorruptMessage
            }
        }
    };
    Rejected::new(error, bad.to_string())
}
