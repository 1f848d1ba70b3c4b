//! A store with a topic, and the commands of producers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::records::{Batch, BatchBuilder, Codec, NewRecord};
use kernel::{ErrorCode, ProducerId, TopicId, TopicPartition};
use uuid::Uuid;

use crate::commands::{
    Append, Applied, BatchFacts, Command, CommitTransactionOffsets, CommittedOffset, Effect, EndTransaction,
    GroupCommand, IfNotAdded, InitTransaction, MemberIdentity, Outcome, ProducerIdAndEpoch,
    TransactionCommand, TransactionOfAppend,
};
use crate::documents::{
    AbortedTransaction, Document, DocumentKind, LogTransactionKey, OffsetDocument, OffsetKey,
    OpenTransaction, PartitionDocument, PendingOffset, ProducerDocument, ProducerKey, TransactionDocument,
    TransactionDue, TransactionDueKey, TransactionGroup, TransactionOffset, TransactionPartition,
};
use crate::testing::MapStore;

pub(super) const TOPIC: TopicId = TopicId(Uuid::from_u128(1));
pub(super) const TIMEOUT_MS: i32 = 60_000;
/// The attribute bit of a batch in a transaction.
const TRANSACTIONAL: i16 = 0x10;

pub(super) fn at(partition: i32) -> TopicPartition {
    TopicPartition { topic: TOPIC, partition }
}

pub(super) fn text(text: &str) -> Arc<str> {
    Arc::from(text)
}

/// A store with a topic of three partitions.
pub(super) struct Bench {
    pub(super) store: MapStore,
    pub(super) now_ms: i64,
    pub(super) effects: Vec<Effect>,
}

impl Bench {
    pub(super) fn new() -> Self {
        let mut bench = Bench { store: MapStore::default(), now_ms: 1_000_000, effects: Vec::new() };
        let (name, configs) = (text("t"), BTreeMap::new());
        bench.run(Command::CreateTopic { name, id: TOPIC, partitions: 3, configs }).unwrap();
        bench
    }

    /// Runs a command, keeps its effects, and checks that all documents fit together.
    pub(super) fn run(&mut self, command: Command) -> Outcome {
        let (outcome, effects) = self.store.run(&command);
        self.effects = effects;
        self.check();
        outcome
    }

    pub(super) fn of(&mut self, id: &str, command: TransactionCommand) -> Outcome {
        self.run(Command::Transaction { id: text(id), command })
    }

    // --- commands

    pub(super) fn try_init(
        &mut self,
        id: &str,
        producer: Option<ProducerIdAndEpoch>,
    ) -> Result<ProducerIdAndEpoch, ErrorCode> {
        let init = InitTransaction {
            timeout_ms: TIMEOUT_MS,
            producer,
            version: 2,
            seed: 7,
            now_ms: self.now_ms,
            leader_epoch: 0,
        };
        match self.of(id, TransactionCommand::Init(init)) {
            Ok(Applied::TransactionalProducer(producer)) => Ok(producer),
            Err(refused) => Err(refused.error),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn init(&mut self, id: &str) -> ProducerIdAndEpoch {
        self.try_init(id, None).unwrap()
    }

    pub(super) fn add(&mut self, id: &str, producer: ProducerIdAndEpoch, partitions: &[i32]) -> Outcome {
        let partitions = partitions.iter().map(|partition| at(*partition)).collect();
        let now_ms = self.now_ms;
        self.of(id, TransactionCommand::AddPartitions { producer, partitions, now_ms })
    }

    pub(super) fn add_group(&mut self, id: &str, producer: ProducerIdAndEpoch, group: &str) -> Outcome {
        let (group, now_ms) = (text(group), self.now_ms);
        self.of(id, TransactionCommand::AddGroup { producer, group, now_ms })
    }

    pub(super) fn end(
        &mut self,
        id: &str,
        producer: ProducerIdAndEpoch,
        commit: bool,
        version: i16,
    ) -> Result<ProducerIdAndEpoch, ErrorCode> {
        let end = EndTransaction { producer, commit, version, now_ms: self.now_ms, leader_epoch: 0 };
        match self.of(id, TransactionCommand::End(end)) {
            Ok(Applied::TransactionEnded(producer)) => Ok(producer),
            Err(refused) => Err(refused.error),
            other => panic!("{other:?}"),
        }
    }

    /// An append of one record in a transaction, that joins it.
    pub(super) fn joining(
        &self,
        id: &str,
        producer: ProducerIdAndEpoch,
        partition: i32,
        sequence: i32,
    ) -> Append {
        let transaction = TransactionOfAppend { id: text(id), if_not_added: IfNotAdded::Join };
        let append = Append::new(at(partition), &batch(producer, sequence), self.now_ms);
        let batch = BatchFacts { attributes: append.batch.attributes | TRANSACTIONAL, ..append.batch };
        Append { batch, transaction: Some(transaction), ..append }
    }

    /// Appends one record in a transaction, and returns its offset.
    pub(super) fn append(
        &mut self,
        id: &str,
        producer: ProducerIdAndEpoch,
        partition: i32,
        sequence: i32,
    ) -> i64 {
        let append = self.joining(id, producer, partition, sequence);
        self.appended(append).unwrap()
    }

    pub(super) fn appended(&mut self, append: Append) -> Result<i64, ErrorCode> {
        match self.run(Command::Append(append)) {
            Ok(Applied::Appended { base_offset, .. }) => Ok(base_offset),
            Err(refused) => Err(refused.error),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn offsets(&self, producer: ProducerIdAndEpoch, offset: i64) -> CommitTransactionOffsets {
        let offsets = vec![CommittedOffset { topic: text("t"), partition: 0, document: self.offset(offset) }];
        CommitTransactionOffsets {
            producer,
            group: text("g"),
            member: simple(),
            offsets,
            if_not_added: IfNotAdded::Join,
            now_ms: self.now_ms,
        }
    }

    pub(super) fn commit_offsets(&mut self, id: &str, commit: CommitTransactionOffsets) -> Option<ErrorCode> {
        let outcome = self.of(id, TransactionCommand::CommitOffsets(Box::new(commit)));
        outcome.err().map(|refused| refused.error)
    }

    pub(super) fn offset(&self, offset: i64) -> OffsetDocument {
        OffsetDocument {
            topic_id: TOPIC,
            offset,
            leader_epoch: -1,
            metadata: text(""),
            committed_ms: self.now_ms,
            expires_ms: None,
            revision: 0,
            sent_after: None,
            sent_as: 0,
        }
    }

    /// Commits an offset outside of transactions.
    pub(super) fn commit_plainly(&mut self, offset: i64) {
        let offsets = vec![CommittedOffset { topic: text("t"), partition: 0, document: self.offset(offset) }];
        let (member, now_ms) = (simple(), self.now_ms);
        self.of_group(GroupCommand::CommitOffsets { member, offsets, knows_epochs: true, now_ms }).unwrap();
    }

    pub(super) fn of_group(&mut self, command: GroupCommand) -> Outcome {
        self.run(Command::Group { group: text("g"), command })
    }

    // --- what is stored

    pub(super) fn document(&self, id: &str) -> &TransactionDocument {
        self.store.get::<TransactionDocument>(&text(id)).unwrap()
    }

    /// Changes a transactional id as if much had happened.
    pub(super) fn change(&mut self, id: &str, change: impl FnOnce(&mut TransactionDocument)) {
        let mut document = self.document(id).clone();
        change(&mut document);
        let document = Document::new::<TransactionDocument>(document);
        self.store.0.insert(TransactionDocument::key(&text(id)), document);
    }

    pub(super) fn log(&self, partition: i32) -> PartitionDocument {
        *self.store.get::<PartitionDocument>(&at(partition)).unwrap()
    }

    pub(super) fn producer(&self, id: ProducerId, partition: i32) -> Option<&ProducerDocument> {
        self.store.get::<ProducerDocument>(&producer_key(id, at(partition)))
    }

    pub(super) fn all<T: DocumentKind>(&self) -> Vec<T::Key> {
        self.store.0.keys().filter_map(T::parse_key).collect()
    }

    /// First offset, offset of the marker, and last stable offset of what was aborted.
    pub(super) fn aborted(&self, partition: i32) -> Vec<(i64, i64, i64)> {
        let keys = self.all::<AbortedTransaction>().into_iter().filter(|key| key.partition == at(partition));
        let row = |key: LogTransactionKey| {
            let aborted = self.store.get::<AbortedTransaction>(&key).unwrap();
            (aborted.first_offset, key.offset, aborted.last_stable)
        };
        keys.map(row).collect()
    }

    pub(super) fn committed(&self) -> Option<i64> {
        let key = OffsetKey { group: text("g"), topic: text("t"), partition: 0 };
        Some(self.store.get::<OffsetDocument>(&key)?.offset)
    }

    pub(super) fn pending(&self) -> usize {
        self.all::<PendingOffset>().len()
    }

    fn check(&self) {
        let open = self.all::<OpenTransaction>();
        for partition in self.all::<PartitionDocument>() {
            let log = self.store.get::<PartitionDocument>(&partition).unwrap();
            let first = open.iter().filter(|key| key.partition == partition).map(|key| key.offset).min();
            assert_eq!(log.first_unstable, first, "{partition:?}");
            let aborted = self.all::<AbortedTransaction>().into_iter();
            let last = aborted.filter(|key| key.partition == partition).map(|key| key.offset).max();
            assert!(last <= log.last_aborted && log.last_aborted < Some(log.end), "{partition:?}");
        }
        let of_producers = self.all::<ProducerDocument>().into_iter().filter_map(|key| {
            let offset = self.store.get::<ProducerDocument>(&key)?.transaction?;
            Some(LogTransactionKey { partition: key.partition, offset, producer: key.producer })
        });
        assert_eq!(of_producers.collect::<BTreeSet<_>>(), open.into_iter().collect::<BTreeSet<_>>());
        for id in self.all::<TransactionDocument>() {
            let document = self.store.get::<TransactionDocument>(&id).unwrap();
            let due = self.all::<TransactionDue>().into_iter().filter(|due| due.transaction == id);
            let entry = TransactionDueKey { at_ms: document.look_ms, transaction: id.clone() };
            assert_eq!(due.collect::<Vec<_>>(), [entry]);
            let partitions = self.all::<TransactionPartition>().into_iter().map(|key| key.transaction);
            let groups = self.all::<TransactionGroup>().into_iter().map(|key| key.transaction);
            let offsets = self.all::<TransactionOffset>().into_iter().map(|key| key.transaction);
            let has_any = partitions.chain(groups).chain(offsets).any(|own| own == id);
            assert!(document.is_ongoing() || !has_any, "{id} is at rest");
            assert_eq!(document.is_ongoing(), document.open_since_ms().is_some());
        }
    }
}

pub(super) fn simple() -> MemberIdentity {
    MemberIdentity { generation: -1, ..MemberIdentity::default() }
}

pub(super) fn producer_key(producer: ProducerId, partition: TopicPartition) -> ProducerKey {
    ProducerKey { partition, producer, origin: None }
}

/// A batch of one record.
pub(super) fn batch(producer: ProducerIdAndEpoch, sequence: i32) -> Batch {
    let mut builder = BatchBuilder::new(Codec::None).producer(producer.id.0, producer.epoch, sequence);
    builder.push(NewRecord { value: Some(b"v"), ..NewRecord::default() });
    Batch::check(builder.build().unwrap()).unwrap()
}

pub(super) fn with_epoch(producer: ProducerIdAndEpoch, epoch: i16) -> ProducerIdAndEpoch {
    ProducerIdAndEpoch { epoch, ..producer }
}
