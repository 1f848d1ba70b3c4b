//! The records of one partition from one fetch.

use std::collections::HashSet;
use std::sync::Arc;

use kafka_protocol::messages::fetch_response::{AbortedTransaction, PartitionData};
use kernel::records::{Batch, Record, control};

use super::super::error::Error;
use super::super::isolation::Isolation;
use super::Assignment;

/// The largest decompressed batch. Brokers do not limit this; the client must.
const BATCH_BYTES_MAX: usize = 1 << 30;

/// Whole batches of one partition.
#[derive(Debug)]
pub struct Fetched {
    topic: Arc<str>,
    /// Their partition.
    pub partition: i32,
    /// The high watermark.
    pub high_watermark: i64,
    from: i64,
    until: Option<i64>,
    /// The offset after the last record.
    next: Option<i64>,
    /// Those with records to be read, and markers.
    batches: Vec<Batch>,
}

impl Fetched {
    /// Splits a response into batches and checks their format; brokers may truncate the last batch. Their CRCs are checked
    /// when they are opened, so that what comes before a damaged one is read.
    pub(super) fn read(
        topic: Arc<str>,
        at: Assignment,
        data: PartitionData,
        isolation: Isolation,
    ) -> Result<Fetched, String> {
        let partition = data.partition_index;
        let records = data.records.unwrap_or_default();
        let is_empty = records.is_empty();
        let batches: Vec<Batch> = Batch::split_all(records).collect();
        let place = format!("partition {partition} of topic {topic:?} from offset {} on", at.offset);
        if batches.is_empty() && !is_empty {
            return Err(format!("less than one record batch, in {place}"));
        }
        for batch in &batches {
            // The magic byte is at the same offset in every format.
            match batch.bytes().get(16) {
                Some(2) => {}
                other => return Err(format!("a record batch of format {other:?} and not 2, in {place}")),
            }
        }
        let (from, until) = (at.offset, at.until);
        let next = batches.last().map(Batch::next_offset);
        let batches = match isolation {
            Isolation::ReadUncommitted => batches,
            Isolation::ReadCommitted => committed(batches, data.aborted_transactions.unwrap_or_default()),
        };
        Ok(Fetched { topic, partition, high_watermark: data.high_watermark, from, until, next, batches })
    }

    /// The offset after the last record.
    pub(super) fn next_offset(&self) -> Option<i64> {
        self.next
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// The size of the batches as received, compressed or not.
    pub fn bytes(&self) -> usize {
        self.batches.iter().map(|batch| batch.bytes().len()).sum()
    }

    /// The records from the requested offset up to `until`, without transaction markers. An error ends it.
    pub fn records(&self) -> impl Iterator<Item = Result<Record, Error>> + '_ {
        let asked = self.from..self.until.unwrap_or(i64::MAX);
        let batches = self.batches.iter().filter(|batch| !batch.is_control());
        batches
            .flat_map(move |batch| self.open(batch))
            .filter(move |record| record.as_ref().map_or(true, |record| asked.contains(&record.offset)))
    }

    fn open<'a>(&'a self, batch: &'a Batch) -> Box<dyn Iterator<Item = Result<Record, Error>> + 'a> {
        let unreadable = move |cause: String| {
            let (offset, partition, topic) = (batch.base_offset(), self.partition, &self.topic);
            Error::unreadable(format!(
                "the batch at offset {offset} of partition {partition} of topic {topic:?} cannot be read: {cause}"
            ))
        };
        if !batch.crc_fits() {
            let damaged =
                "it is damaged, its CRC does not fit; `--from` an offset behind it goes on".to_owned();
            return Box::new(std::iter::once(Err(unreadable(damaged))));
        }
        match batch.records(BATCH_BYTES_MAX) {
            Ok(records) => Box::new(records.map(move |record| record.map_err(&unreadable))),
            Err(error) => Box::new(std::iter::once(Err(unreadable(error.to_string())))),
        }
    }
}

/// The batches without those of aborted transactions: such a transaction begins at the offset that the broker has told, and
/// ends at the next marker of its producer.
fn committed(batches: Vec<Batch>, mut aborted: Vec<AbortedTransaction>) -> Vec<Batch> {
    aborted.sort_unstable_by_key(|aborted| aborted.first_offset);
    let (mut aborted, mut skipped) = (aborted.into_iter().peekable(), HashSet::new());
    let is_committed = |batch: &Batch| {
        while let Some(begun) = aborted.next_if(|begun| begun.first_offset < batch.next_offset()) {
            skipped.insert(begun.producer_id.0);
        }
        if control::read_marker(batch).is_some_and(|marker| !marker.commit) {
            skipped.remove(&batch.producer_id());
        }
        !batch.is_transactional() || !skipped.contains(&batch.producer_id())
    };
    batches.into_iter().filter(is_committed).collect()
}
