//! Finds records by timestamp. An engine finds the batch by its index; the record in it is found here. Records without a
//! timestamp are not found, as in Kafka.

use bytes::Bytes;
use kernel::TopicPartition;
use kernel::records::{Batch, CodecError, Record};
use tracing::warn;

use super::FoundOffset;
use crate::apis::common::decompress::{STORED_UNCOMPRESSED_BYTES_MAX, with_records};
use crate::broker::Broker;
use crate::engines::{ReadFrom, ReadLimits, ReadOutcome, ReadSpec, StoreError};

/// Reply memory of a search, and the bytes that each step after the first batch reads.
const STEP_BYTES: usize = 1 << 20;

/// The first record with the maximum timestamp.
pub(super) async fn latest(broker: &Broker, at: TopicPartition) -> Result<Option<FoundOffset>, StoreError> {
    let (log_start, batches) = read(broker, at, ReadFrom::MaxTimestamp, 1).await?;
    let whole = batches.first().map(Batch::max_timestamp);
    let cut = latest_in_cut(broker, at, log_start).await?;
    // A log whose records have no timestamps has none that is the greatest.
    match whole.max(cut).filter(|time| *time >= 0) {
        Some(time) => first_since(broker, at, time).await,
        None => Ok(None),
    }
}

/// The maximum timestamp in the batch that the log start offset cuts in two, of the records that are left.
async fn latest_in_cut(
    broker: &Broker,
    at: TopicPartition,
    log_start: i64,
) -> Result<Option<i64>, StoreError> {
    let (_, batches) = read(broker, at, ReadFrom::Offset(log_start), 1).await?;
    let Some(cut) = batches.into_iter().next().filter(|batch| batch.base_offset() < log_start) else {
        return Ok(None);
    };
    let left = move |batch: &Batch| {
        let records = batch.records(STORED_UNCOMPRESSED_BYTES_MAX)?.filter_map(Result::ok);
        let left = records.filter(|record| record.offset >= log_start);
        Ok::<_, CodecError>(left.map(|record| record.timestamp).max())
    };
    // One that cannot be opened has no records, as for every look-up by time.
    Ok(with_records(&cut, left).await?.unwrap_or(None))
}

/// The first record with a timestamp of at least `time`.
pub(super) async fn first_since(
    broker: &Broker,
    at: TopicPartition,
    time: i64,
) -> Result<Option<FoundOffset>, StoreError> {
    let _lease = broker.searches.take(STEP_BYTES).await;
    let (mut from, mut bytes_max) = (ReadFrom::Timestamp(time), 1);
    loop {
        let (log_start, batches) = read(broker, at, from, bytes_max).await?;
        let Some(next) = batches.last().map(Batch::next_offset) else { return Ok(None) };
        for batch in batches {
            if batch.max_timestamp() < time {
                continue;
            }
            if let Some(found) = first_in(batch, time, log_start).await? {
                return Ok(Some(found));
            }
        }
        // Such a record is before the log start offset, or only in the header. Continue after the batch.
        (from, bytes_max) = (ReadFrom::Offset(next), STEP_BYTES);
    }
}

async fn read(
    broker: &Broker,
    at: TopicPartition,
    from: ReadFrom,
    bytes_max: usize,
) -> Result<(i64, Vec<Batch>), StoreError> {
    let spec = ReadSpec::uncommitted(at, from, bytes_max);
    match broker.store.read(vec![spec], ReadLimits::all_now(bytes_max)).await?.into_iter().next() {
        Some(ReadOutcome::Read { log_start, batches, .. }) => {
            let whole = |mut bytes: Bytes| Batch::split_first(&mut bytes);
            Ok((log_start, batches.into_iter().filter_map(whole).collect()))
        }
        // The partition was deleted, or its log start offset moved: nothing is left to find.
        Some(ReadOutcome::Failed(error)) => Err(error),
        Some(ReadOutcome::OutOfRange { .. } | ReadOutcome::UnknownPartition) | None => Ok((0, Vec::new())),
    }
}

/// The first record of a batch with a timestamp of at least `time`, from the log start offset on. A batch
/// that cannot be decompressed has none: its producer encoded it wrongly, and the search must continue.
async fn first_in(batch: Batch, time: i64, log_start: i64) -> Result<Option<FoundOffset>, StoreError> {
    let leader_epoch = batch.leader_epoch();
    let base_offset = batch.base_offset();
    let searched = with_records(&batch, move |batch| search(batch, time, log_start)).await?;
    let record = searched.unwrap_or_else(|error| {
        warn!(base_offset, %error, "a batch cannot be searched by time, because it cannot be opened");
        None
    });
    Ok(record.map(|record| FoundOffset { offset: record.offset, timestamp: record.timestamp, leader_epoch }))
}

fn search(batch: &Batch, time: i64, log_start: i64) -> Result<Option<Record>, CodecError> {
    let mut records = batch.records(STORED_UNCOMPRESSED_BYTES_MAX)?.filter_map(Result::ok);
    Ok(records.find(|record| record.timestamp >= time && record.offset >= log_start))
}
