//! Checks that what documents say of transactions fits together.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kernel::TopicPartition;
use rules::documents::{
    AbortedTransaction, Document, DocumentKind, Key, LogTransactionKey, OpenTransaction, PartitionDocument,
    PendingOffset, PendingOffsetKey, ProducerDocument, ProducerKey, TransactionDocument, TransactionDue,
    TransactionDueKey, TransactionGroup, TransactionOffset, TransactionOffsetKey, TransactionPartition,
};

use super::VerifyReport;

/// Checks that the last stable offset of each partition is that of its open transactions, that their producers know of them,
/// and that transactional ids will be looked at.
pub(super) fn verify_transactions(all: &HashMap<Key, Document>, report: &mut VerifyReport) {
    let mut first = HashMap::<TopicPartition, i64>::new();
    for (key, open) in all.keys().filter_map(|key| Some((key, OpenTransaction::parse_key(key)?))) {
        let earliest = first.entry(open.partition).or_insert(open.offset);
        *earliest = open.offset.min(*earliest);
        let producer = ProducerKey { partition: open.partition, producer: open.producer, origin: None };
        let producer = all.get(&ProducerDocument::key(&producer)).and_then(Document::get::<ProducerDocument>);
        if producer.is_none_or(|producer| producer.transaction != Some(open.offset)) {
            report.fault(format!("the producer of {key} does not know of it: nothing will end it"));
        }
    }
    let mut last_aborted = HashMap::<TopicPartition, i64>::new();
    for aborted in all.keys().filter_map(AbortedTransaction::parse_key) {
        let last = last_aborted.entry(aborted.partition).or_default();
        *last = aborted.offset.max(*last);
    }
    for (key, document) in all {
        if let (Some(log), Some(at)) =
            (document.get::<PartitionDocument>(), PartitionDocument::parse_key(key))
        {
            let first = first.get(&at).copied();
            if log.first_unstable != first {
                let known = log.first_unstable;
                report.fault(format!(
                    "{key} has {known:?} for its first open transaction, which is at {first:?}"
                ));
            }
            let last = last_aborted.get(&at).copied();
            if log.last_aborted < last {
                let known = log.last_aborted;
                report.fault(format!(
                    "{key} has {known:?} for the last marker that has aborted a transaction, which is at {last:?}"
                ));
            }
        } else if let (Some(producer), Some(own)) =
            (document.get::<ProducerDocument>(), ProducerDocument::parse_key(key))
        {
            let open = producer.transaction.map(|offset| LogTransactionKey {
                partition: own.partition,
                offset,
                producer: own.producer,
            });
            if open.is_some_and(|open| !all.contains_key(&OpenTransaction::key(&open))) {
                report.fault(format!("{key} has a transaction that is not among the open ones"));
            }
        } else if let (Some(transaction), Some(id)) =
            (document.get::<TransactionDocument>(), TransactionDocument::parse_key(key))
        {
            let entry = TransactionDueKey { at_ms: transaction.look_ms, transaction: id };
            if !all.contains_key(&TransactionDue::key(&entry)) {
                report.fault(format!("nothing says when {key} is to be looked at"));
            }
        }
    }
    verify_contents(all, report);
}

/// Checks that what is in transactions belongs to one that is open, and that what is pending in groups is in a transaction.
fn verify_contents(all: &HashMap<Key, Document>, report: &mut VerifyReport) {
    let ongoing = |id: &Arc<str>| {
        let document = all.get(&TransactionDocument::key(id)).and_then(Document::get::<TransactionDocument>);
        document.filter(|document| document.is_ongoing())
    };
    let mut in_transactions = HashSet::new();
    for key in all.keys() {
        let offset = TransactionOffset::parse_key(key);
        let id = offset.as_ref().map(|offset| Arc::clone(&offset.transaction));
        let id = id.or_else(|| TransactionPartition::parse_key(key).map(|key| key.transaction));
        let id = id.or_else(|| TransactionGroup::parse_key(key).map(|key| key.transaction));
        let Some(id) = id else { continue };
        let Some(transaction) = ongoing(&id) else {
            report.fault(format!("{key} is in a transaction that is not open"));
            continue;
        };
        in_transactions.extend(offset.map(|TransactionOffsetKey { group, topic, partition, .. }| {
            PendingOffsetKey { group, topic, partition, producer: transaction.producer_id }
        }));
    }
    for (key, pending) in all.keys().filter_map(|key| Some((key, PendingOffset::parse_key(key)?))) {
        if !in_transactions.contains(&pending) {
            report.fault(format!("{key} is in no transaction: nothing will end it"));
        }
    }
}

#[cfg(test)]
pub(in crate::engines) mod tests {
    use kernel::{ProducerId, TopicId};
    use rules::documents::{
        Contents, OffsetDocument, ProducedBatch, TransactionGroupKey, TransactionPartitionKey,
        TransactionState,
    };
    use uuid::Uuid;

    use super::*;

    pub(in crate::engines) const AT: TopicPartition =
        TopicPartition { topic: TopicId(Uuid::from_u128(1)), partition: 0 };
    const ID: ProducerId = ProducerId(7);

    /// The documents of a transaction that is open, and of one that was aborted.
    pub(in crate::engines) fn sound() -> HashMap<Key, Document> {
        let log = PartitionDocument {
            log_start: 0,
            end: 9,
            leader_epoch: 0,
            look_after_append: false,
            append_time_ms: None,
            first_unstable: Some(5),
            last_aborted: Some(4),
            cleaning: None,
        };
        let batch = ProducedBatch { first_sequence: 0, last_sequence: 0, base_offset: 5, is_aborted: false };
        let producer = ProducerDocument {
            epoch: 0,
            batches: vec![batch],
            last_ms: 1,
            transaction: Some(5),
            coordinator_epoch: None,
        };
        let transaction = TransactionDocument {
            producer_id: ID,
            epoch: 0,
            last_epoch: None,
            previous_id: None,
            timeout_ms: 10,
            state: TransactionState::Ongoing,
            version: 2,
            started_ms: Some(1),
            updated_ms: 1,
            contents: Contents::default(),
            look_ms: 1_000,
        };
        let id = Arc::<str>::from("x");
        let open = OpenTransaction { transactional_id: Arc::clone(&id), epoch: 0, started_ms: 1 };
        let producer_key = ProducerKey { partition: AT, producer: ID, origin: None };
        let mut all = HashMap::from([
            (PartitionDocument::key(&AT), Document::new::<PartitionDocument>(log)),
            (ProducerDocument::key(&producer_key), Document::new::<ProducerDocument>(producer)),
            (OpenTransaction::key(&open_key()), Document::new::<OpenTransaction>(open)),
            (TransactionDocument::key(&id), Document::new::<TransactionDocument>(transaction)),
            (TransactionDue::key(&due_key()), Document::new::<TransactionDue>(TransactionDue {})),
            (AbortedTransaction::key(&aborted_key(4)), aborted()),
        ]);
        all.extend(contents());
        all
    }

    /// What the open transaction has in it.
    fn contents() -> [(Key, Document); 4] {
        let (transaction, group) = (Arc::<str>::from("x"), Arc::<str>::from("g"));
        let partition = TransactionPartitionKey { transaction: Arc::clone(&transaction), partition: AT };
        let added = TransactionGroupKey { transaction: Arc::clone(&transaction), group: Arc::clone(&group) };
        let document = OffsetDocument {
            topic_id: AT.topic,
            offset: 3,
            leader_epoch: -1,
            metadata: Arc::from(""),
            committed_ms: 1,
            expires_ms: None,
            revision: 0,
            sent_after: Some(0),
            sent_as: 0,
        };
        let (topic, partition_index) = (Arc::<str>::from("t"), 0);
        let pending = PendingOffsetKey {
            group: Arc::clone(&group),
            topic: Arc::clone(&topic),
            partition: partition_index,
            producer: ID,
        };
        let offset = TransactionOffsetKey { transaction, group, topic, partition: partition_index };
        [
            (
                TransactionPartition::key(&partition),
                Document::new::<TransactionPartition>(TransactionPartition {}),
            ),
            (TransactionGroup::key(&added), Document::new::<TransactionGroup>(TransactionGroup {})),
            (
                TransactionOffset::key(&offset),
                Document::new::<TransactionOffset>(TransactionOffset(document)),
            ),
            (PendingOffset::key(&pending), Document::new::<PendingOffset>(PendingOffset::default())),
        ]
    }

    fn aborted_key(offset: i64) -> LogTransactionKey {
        LogTransactionKey { partition: AT, offset, producer: ID }
    }

    fn aborted() -> Document {
        Document::new::<AbortedTransaction>(AbortedTransaction { first_offset: 2, last_stable: 5 })
    }

    pub(in crate::engines) fn open_key() -> LogTransactionKey {
        LogTransactionKey { partition: AT, offset: 5, producer: ID }
    }

    fn due_key() -> TransactionDueKey {
        TransactionDueKey { at_ms: 1_000, transaction: Arc::from("x") }
    }

    pub(in crate::engines) fn faults(all: &HashMap<Key, Document>) -> usize {
        let mut report = VerifyReport::default();
        verify_transactions(all, &mut report);
        report.faults.len()
    }

    #[test]
    fn what_does_not_fit_is_a_fault() {
        assert_eq!(faults(&sound()), 0);
        let producer = ProducerDocument::key(&ProducerKey { partition: AT, producer: ID, origin: None });
        for (missing, expected) in [
            (OpenTransaction::key(&open_key()), 2),
            (producer, 1),
            (TransactionDue::key(&due_key()), 1),
            (PartitionDocument::key(&AT), 0),
            // Its partition, group and offset are in none, and what is pending.
            (TransactionDocument::key(&Arc::from("x")), 4),
        ] {
            let mut all = sound();
            all.remove(&missing).unwrap();
            assert_eq!(faults(&all), expected, "{missing}");
        }
        let mut unknown = sound();
        unknown.insert(AbortedTransaction::key(&aborted_key(6)), aborted());
        assert_eq!(faults(&unknown), 1, "readers would not look for it");
    }
}
