//! A transactional producer for the tests of APIs that read, by commands.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use kernel::records::Batch;
use kernel::{Ticket, TopicPartition};
use rules::commands::{
    Append, Applied, BatchFacts, Command, CommitTransactionOffsets, CommittedOffset, EndTransaction,
    IfNotAdded, InitTransaction, MemberIdentity, ProducerIdAndEpoch, TransactionCommand, TransactionOfAppend,
};
use rules::documents::{OffsetDocument, TopicDocument};

use super::testing::{NOW_MS, idempotent_batch};
use crate::broker::Broker;

/// The attribute bit of a batch in a transaction.
const TRANSACTIONAL: i16 = 0x10;

/// A producer with a transactional id. Its clients know transaction version 2.
pub(crate) struct Transactional {
    broker: Arc<Broker>,
    id: Arc<str>,
    /// Its producer id and epoch.
    pub(crate) producer: ProducerIdAndEpoch,
    sequences: HashMap<TopicPartition, i32>,
}

impl Transactional {
    /// Initializes the producer of a transactional id.
    pub(crate) async fn new(broker: &Arc<Broker>, id: &str) -> Self {
        let init = InitTransaction {
            timeout_ms: 60_000,
            producer: None,
            version: 2,
            seed: 7,
            now_ms: NOW_MS,
            leader_epoch: 0,
        };
        let id = Arc::<str>::from(id);
        let command = Command::Transaction { id: Arc::clone(&id), command: TransactionCommand::Init(init) };
        match broker.store.commit_one(&Ticket::only(), command).await.expect("the store is open") {
            Ok(Applied::TransactionalProducer(producer)) => {
                Self { broker: Arc::clone(broker), id, producer, sequences: HashMap::new() }
            }
            other => panic!("the producer was not initialized: {other:?}"),
        }
    }

    /// Appends a batch to its transaction, and returns the base offset.
    pub(crate) async fn append(&mut self, at: TopicPartition, records: usize) -> i64 {
        let batch = |id, epoch, sequence| idempotent_batch(id, epoch, sequence, records);
        self.append_batch(at, records, batch).await
    }

    /// The same with a batch of the test's, of so many records, which it builds from producer id, epoch and sequence number.
    pub(crate) async fn append_batch(
        &mut self,
        at: TopicPartition,
        records: usize,
        batch: impl FnOnce(i64, i16, i32) -> Bytes,
    ) -> i64 {
        let sequence = self.sequences.entry(at).or_default();
        let batch = batch(self.producer.id.0, self.producer.epoch, *sequence);
        *sequence += i32::try_from(records).expect("it fits");
        let batch = Batch::check(batch).expect("a test's batch is whole");
        let append = Append::new(at, &batch, NOW_MS);
        let attributes = append.batch.attributes | TRANSACTIONAL;
        let batch = BatchFacts { attributes, ..append.batch };
        let transaction = TransactionOfAppend { id: Arc::clone(&self.id), if_not_added: IfNotAdded::Join };
        let append = Append { batch, transaction: Some(transaction), ..append };
        match self.broker.store.commit_one(&Ticket::only(), Command::Append(append)).await {
            Ok(Ok(Applied::Appended { base_offset, .. })) => base_offset,
            other => panic!("the batch was not appended: {other:?}"),
        }
    }

    /// Commits offsets of partitions of a topic in its transaction, all the same.
    pub(crate) async fn commit_offsets(
        &mut self,
        group: &str,
        topic: &TopicDocument,
        partitions: std::ops::Range<i32>,
        offset: i64,
    ) {
        let document = OffsetDocument {
            topic_id: topic.id,
            offset,
            leader_epoch: -1,
            metadata: Arc::from(""),
            committed_ms: NOW_MS,
            expires_ms: None,
            revision: 0,
            sent_after: None,
            sent_as: 0,
        };
        let committed = |partition| CommittedOffset {
            topic: Arc::clone(&topic.name),
            partition,
            document: document.clone(),
        };
        let commit = CommitTransactionOffsets {
            producer: self.producer,
            group: Arc::from(group),
            member: MemberIdentity { generation: -1, ..MemberIdentity::default() },
            offsets: partitions.map(committed).collect(),
            if_not_added: IfNotAdded::Join,
            now_ms: NOW_MS,
        };
        match self.transact(TransactionCommand::CommitOffsets(Box::new(commit))).await {
            Applied::Changed => {}
            other => panic!("the offsets were not committed: {other:?}"),
        }
    }

    /// Commits or aborts its transaction.
    pub(crate) async fn end(&mut self, commit: bool) {
        let producer = self.producer;
        let end = EndTransaction { producer, commit, version: 2, now_ms: NOW_MS, leader_epoch: 0 };
        match self.transact(TransactionCommand::End(end)).await {
            // The next transaction has an epoch of its own.
            Applied::TransactionEnded(producer) => self.producer = producer,
            other => panic!("the transaction did not end: {other:?}"),
        }
        self.sequences.clear();
    }

    async fn transact(&self, command: TransactionCommand) -> Applied {
        let command = Command::Transaction { id: Arc::clone(&self.id), command };
        let outcome = self.broker.store.commit_one(&Ticket::only(), command).await;
        outcome.expect("the store is open").expect("the command is valid")
    }
}
