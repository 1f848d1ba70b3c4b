//! Random commands of transactional producers for the engine model test, and what readers of committed records see of them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use kernel::records::{Batch, BatchBuilder, Codec, NewRecord, control};
use kernel::{ProducerId, TopicId, TopicPartition};
use rules::commands::{
    Append, BatchFacts, Command, CommitTransactionOffsets, EndTransaction, IfNotAdded, InitTransaction,
    ProducerIdAndEpoch, TransactionCommand, TransactionOfAppend, WriteMarker,
};
use rules::documents::{
    DocumentKind, OpenTransaction, PartitionDocument, ProducerDocument, ProducerKey, TransactionDocument,
};

use super::memory::Memory;
use super::model_groups::GROUPS;
use super::model_tests::{Dice, records_of};
use super::{Engine, Isolation, ReadFrom, ReadLimits, ReadOutcome, ReadSpec};
use crate::store::{Aborted, aborted_in};

/// The transactional ids of the test.
const IDS: [&str; 3] = ["x", "y/1", ""];
/// The attribute bit of a batch in a transaction.
const TRANSACTIONAL: i16 = 0x10;

/// A document of the model.
async fn get<T: DocumentKind>(model: &Memory, key: &T::Key) -> Option<Arc<T>> {
    model.get(vec![T::key(key)]).await.unwrap().remove(0)?.get_arc()
}

impl Dice {
    /// A command on what the model has: mostly one of the current producer, so that transactions come to something.
    pub(super) async fn transaction_command(
        &mut self,
        model: &Memory,
        ids: &[TopicId],
        step: usize,
    ) -> Command {
        let (now_ms, leader_epoch) = (10 * step as i64, (step / 25) as i32);
        let id = Arc::<str>::from(self.pick(&IDS));
        let known = get::<TransactionDocument>(model, &id).await;
        let producer = self.producer_of(known.as_deref());
        let command = match self.roll(14) {
            0 => TransactionCommand::Init(self.initialization(producer, now_ms, leader_epoch)),
            1 => TransactionCommand::AddPartitions {
                producer,
                partitions: (0..self.roll(4)).map(|_| self.partition(ids)).collect(),
                now_ms,
            },
            2 => TransactionCommand::AddGroup { producer, group: Arc::from(self.pick(&GROUPS)), now_ms },
            3 => TransactionCommand::CommitOffsets(Box::new(self.transaction_offsets(producer, ids, now_ms))),
            4 | 5 => TransactionCommand::End(EndTransaction {
                producer,
                commit: self.roll(2) == 0,
                version: self.pick(&[1, 2]),
                now_ms,
                leader_epoch,
            }),
            6 => TransactionCommand::Expire {
                taken_ms: self.pick(&[0, 1_000, 60_000]),
                now_ms: now_ms + self.pick(&[0, 2_000, 70_000, TransactionDocument::EXPIRY_MS + 3_600_000]),
                leader_epoch,
            },
            7 => {
                let marker = WriteMarker {
                    partition: self.partition(ids),
                    producer,
                    commit: self.roll(4) == 0,
                    coordinator_epoch: self.roll(2) as i32,
                    now_ms,
                    leader_epoch,
                };
                return Command::WriteMarker(marker);
            }
            _ => {
                let partition = self.partition(ids);
                let append = self.transactional_append(model, partition, id, producer).await;
                return Command::Append(Append { now_ms, leader_epoch, ..append });
            }
        };
        Command::Transaction { id, command }
    }

    fn producer_of(&mut self, known: Option<&TransactionDocument>) -> ProducerIdAndEpoch {
        let Some(known) = known else { return ProducerIdAndEpoch { id: ProducerId(1 << 20), epoch: 0 } };
        let id = if self.roll(20) == 0 { ProducerId(known.producer_id.0 + 1) } else { known.producer_id };
        let epoch = match self.roll(10) {
            0 => known.epoch - 1,
            1 => known.last_epoch.unwrap_or(known.epoch),
            _ => known.epoch,
        };
        ProducerIdAndEpoch { id, epoch }
    }

    fn initialization(
        &mut self,
        producer: ProducerIdAndEpoch,
        now_ms: i64,
        leader_epoch: i32,
    ) -> InitTransaction {
        InitTransaction {
            timeout_ms: self.pick(&[50, 60_000]),
            producer: (self.roll(2) == 0).then_some(producer),
            version: self.pick(&[1, 2]),
            seed: self.roll(3) as u32,
            now_ms,
            leader_epoch,
        }
    }

    fn transaction_offsets(
        &mut self,
        producer: ProducerIdAndEpoch,
        ids: &[TopicId],
        now_ms: i64,
    ) -> CommitTransactionOffsets {
        CommitTransactionOffsets {
            producer,
            group: Arc::from(self.pick(&GROUPS)),
            member: self.member(),
            offsets: (0..self.roll(3)).map(|_| self.offset(ids, now_ms)).collect(),
            if_not_added: self.if_not_added(),
            now_ms,
        }
    }

    fn if_not_added(&mut self) -> IfNotAdded {
        self.pick(&[IfNotAdded::Join, IfNotAdded::Join, IfNotAdded::RefuseAbortable, IfNotAdded::Refuse])
    }

    /// A batch with the next sequence number, mostly; now and then outside the transaction.
    async fn transactional_append(
        &mut self,
        model: &Memory,
        partition: TopicPartition,
        id: Arc<str>,
        producer: ProducerIdAndEpoch,
    ) -> Append {
        let key = ProducerKey { partition, producer: producer.id, origin: None };
        let known = get::<ProducerDocument>(model, &key).await;
        let last = known.filter(|known| known.epoch == producer.epoch);
        let last = last.and_then(|known| known.batches.last().map(|batch| batch.last_sequence));
        let sequence = if self.roll(10) == 0 { self.roll(4) as i32 } else { last.map_or(0, |last| last + 1) };
        let value = vec![b'x'; self.pick(&[1, 100, 5_000])];
        let mut builder = BatchBuilder::new(Codec::None).producer(producer.id.0, producer.epoch, sequence);
        for _ in 0..=self.roll(2) {
            builder.push(NewRecord { timestamp: 5, value: Some(&value), ..NewRecord::default() });
        }
        let batch = Batch::check(builder.build().unwrap()).unwrap();
        let append = Append::new(partition, &batch, 0);
        let facts = if self.roll(8) == 0 { append.batch.with_append_time() } else { append.batch };
        let is_beside = self.roll(12) == 0;
        let attributes = facts.attributes | if is_beside { 0 } else { TRANSACTIONAL };
        let transaction = TransactionOfAppend { id, if_not_added: self.if_not_added() };
        let transaction = (self.roll(20) != 0).then_some(transaction);
        Append { batch: BatchFacts { attributes, ..facts }, transaction, ..append }
    }
}

/// What becomes of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Committed,
    Aborted,
    /// Its transaction is open.
    Open,
}

/// The batches that are there of a partition, with their fates: a marker decides what its producer has written before it.
async fn fates(engine: &dyn Engine, at: TopicPartition) -> Vec<(Batch, Fate)> {
    let Some(log) = engine.get(vec![PartitionDocument::key(&at)]).await.unwrap().remove(0) else {
        return Vec::new();
    };
    let log_start = log.get::<PartitionDocument>().unwrap().log_start;
    let spec = ReadSpec::uncommitted(at, ReadFrom::Offset(log_start), usize::MAX);
    let all = engine.read(vec![spec], ReadLimits::all_now(usize::MAX)).await.unwrap().remove(0);
    let batches: Vec<Batch> = Batch::split_all(records_of(all, usize::MAX).await.into()).collect();
    let (mut decided, mut fates) = (HashMap::<i64, Fate>::new(), Vec::new());
    for batch in batches.into_iter().rev() {
        if let Some(marker) = control::read_marker(&batch) {
            decided.insert(batch.producer_id(), if marker.commit { Fate::Committed } else { Fate::Aborted });
        }
        let of_producer = decided.get(&batch.producer_id()).copied().unwrap_or(Fate::Open);
        let is_decided = !batch.is_transactional() || batch.is_control();
        fates.push((batch, if is_decided { Fate::Committed } else { of_producer }));
    }
    fates.reverse();
    fates
}

/// The base offsets of the batches that a client takes for committed, by the list that it gets with them.
fn kept_by_client(records: Bytes, mut aborted: Vec<Aborted>) -> Vec<i64> {
    aborted.sort_by_key(|aborted| aborted.first_offset);
    let (mut aborted, mut skipped) = (aborted.into_iter().peekable(), HashSet::new());
    let mut kept = Vec::new();
    for batch in Batch::split_all(records) {
        while let Some(begun) = aborted.next_if(|aborted| aborted.first_offset < batch.next_offset()) {
            skipped.insert(begun.producer.0);
        }
        if batch.is_control() {
            if control::read_marker(&batch).is_some_and(|marker| !marker.commit) {
                skipped.remove(&batch.producer_id());
            }
        } else if !batch.is_transactional() || !skipped.contains(&batch.producer_id()) {
            kept.push(batch.base_offset());
        }
    }
    kept
}

/// Reads as readers of committed records do, and compares the engines with each other, and with what the log itself says.
pub(super) async fn same_committed(
    model: &Memory,
    engine: &dyn Engine,
    dice: &mut Dice,
    ids: &[TopicId],
    context: &str,
) {
    let at = dice.partition(ids);
    let fates = fates(model, at).await;
    let from = dice.roll(60) as i64 - 1;
    let (bytes_max, now_max) = (dice.pick(&[1, 20_000, 1 << 20]), dice.pick(&[0, 5_000, usize::MAX]));
    let isolation = Isolation::ReadCommitted;
    let spec = ReadSpec { partition: at, from: ReadFrom::Offset(from), bytes_max, isolation };
    let limits = ReadLimits { bytes_max, now_max };
    let read = engine.read(vec![spec], limits).await.unwrap().remove(0);
    let ReadOutcome::Read { log_start, high_watermark, last_stable, last_aborted, .. } = read else { return };
    let context = format!("{context}: {spec:?}");
    let mut open = fates.iter().filter(|(_, fate)| *fate == Fate::Open);
    let first_open = open.next().map_or(high_watermark, |(batch, _)| batch.base_offset().max(log_start));
    // The first records of an open transaction may have been trimmed: then it still begins before all that is left.
    let earliest = model.scan(OpenTransaction::of_partition(at), None, 1).await.unwrap();
    let earliest = earliest.first().and_then(|(key, _)| OpenTransaction::parse_key(key));
    let is_trimmed = earliest.is_some_and(|open| open.offset < log_start);
    let expected = if is_trimmed { log_start } else { first_open };
    assert_eq!(last_stable, expected, "{context}");
    let records = Bytes::from(records_of(read, 1 << 20).await);
    let Some(last) = Batch::split_all(records.clone()).last() else { return };
    assert!(last.next_offset() <= last_stable, "{context}: past the last stable offset {last_stable}");
    let range = from..last.next_offset();
    let limit = dice.pick(&[0, 1, 1_000]);
    let expected = aborted_in(model, at, range.clone(), limit).await.unwrap();
    assert_eq!(aborted_in(engine, at, range.clone(), limit).await.unwrap(), expected, "{context} by {limit}");
    let aborted = aborted_in(engine, at, range.clone(), usize::MAX).await.unwrap().unwrap();
    assert!(aborted.is_empty() || last_aborted >= Some(from), "{context}: nobody would look for them");
    let within = |batch: &Batch| batch.next_offset() > range.start && batch.base_offset() < range.end;
    let committed =
        fates.iter().filter(|(batch, fate)| within(batch) && !batch.is_control() && *fate == Fate::Committed);
    let committed: Vec<i64> = committed.map(|(batch, _)| batch.base_offset()).collect();
    assert_eq!(kept_by_client(records, aborted.clone()), committed, "{context}: {aborted:?}");
}
