//! What a salvage makes of transactions: of what is left, each can be ended, by its transactional id or by an operator.
//!
//! Damage may have taken a part of what is said of a transaction. Then the rest must not pass for the beginning of the next
//! transaction of that id, nor hold up readers for ever.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::{ProducerId, TopicPartition};
use rules::documents::{
    AbortedTransaction, Document, DocumentKind, Key, LogTransactionKey, OpenTransaction, PartitionDocument,
    PendingOffset, PendingOffsetKey, ProducerDocument, ProducerKey, TransactionDocument, TransactionGroup,
    TransactionOffset, TransactionOffsetKey, TransactionPartition,
};

/// What the documents say of transactions.
#[derive(Default)]
pub(super) struct KnownTransactions {
    /// The transactional ids whose transaction is open, and when that began, in ms.
    ongoing: BTreeMap<Arc<str>, (ProducerId, i64)>,
    /// Offsets in transactions.
    offsets: Vec<TransactionOffsetKey>,
    /// The same, as they are pending in their groups. See [`KnownTransactions::complete`].
    pending: BTreeSet<PendingOffsetKey>,
    /// What producers have open in partitions, and their epochs. Only with its producer's state it can be ended.
    open: BTreeMap<LogTransactionKey, i16>,
    /// What has a document of its own, which says that it is open.
    listed: BTreeSet<LogTransactionKey>,
    /// The last marker in each partition that has aborted a transaction.
    last_aborted: BTreeMap<TopicPartition, i64>,
}

impl KnownTransactions {
    pub(super) fn add(&mut self, key: &Key, document: &Document) {
        if let (Some(transaction), Some(id)) =
            (document.get::<TransactionDocument>(), TransactionDocument::parse_key(key))
        {
            let began_ms = transaction.open_since_ms();
            self.ongoing.extend(began_ms.map(|ms| (id, (transaction.producer_id, ms))));
        } else if let Some(offset) = TransactionOffset::parse_key(key) {
            self.offsets.push(offset);
        } else if let (Some(producer), Some(own)) =
            (document.get::<ProducerDocument>(), ProducerDocument::parse_key(key))
        {
            let ProducerKey { partition, producer: id, .. } = own;
            let open = |offset| (LogTransactionKey { partition, offset, producer: id }, producer.epoch);
            self.open.extend(producer.transaction.map(open));
        } else if let Some(open) = OpenTransaction::parse_key(key) {
            self.listed.insert(open);
        } else if let Some(aborted) = AbortedTransaction::parse_key(key) {
            let last = self.last_aborted.entry(aborted.partition).or_default();
            *last = aborted.offset.max(*last);
        }
    }

    /// All documents were added.
    pub(super) fn complete(&mut self) {
        let pending = self.offsets.drain(..).filter_map(|offset| {
            let (producer, _) = *self.ongoing.get(&offset.transaction)?;
            let TransactionOffsetKey { group, topic, partition, .. } = offset;
            Some(PendingOffsetKey { group, topic, partition, producer })
        });
        self.pending = pending.collect();
    }

    /// Whether a document is copied. What nothing would end is not.
    pub(super) fn keeps(&self, key: &Key) -> bool {
        if let Some(open) = OpenTransaction::parse_key(key) {
            return self.open.contains_key(&open);
        }
        if let Some(pending) = PendingOffset::parse_key(key) {
            return self.pending.contains(&pending);
        }
        let id = TransactionPartition::parse_key(key).map(|key| key.transaction);
        let id = id.or_else(|| TransactionGroup::parse_key(key).map(|key| key.transaction));
        let id = id.or_else(|| TransactionOffset::parse_key(key).map(|key| key.transaction));
        id.is_none_or(|id| self.ongoing.contains_key(&id))
    }

    /// What producers have open, but has lost the document that says so. It has the transactional id of its producer, if
    /// that is known to have a transaction open; what has none is for an operator to end.
    pub(super) fn unlisted(&self) -> Vec<(LogTransactionKey, OpenTransaction)> {
        let of_producers: BTreeMap<ProducerId, (&Arc<str>, i64)> =
            self.ongoing.iter().map(|(id, (producer, began_ms))| (*producer, (id, *began_ms))).collect();
        let open = self.open.iter().filter(|(key, _)| !self.listed.contains(key));
        let with_id = |(key, epoch): (&LogTransactionKey, &i16)| {
            let known = of_producers.get(&key.producer);
            let open = OpenTransaction {
                transactional_id: known.map_or_else(|| Arc::from(""), |(id, _)| Arc::clone(id)),
                epoch: *epoch,
                started_ms: known.map_or(0, |(_, began_ms)| *began_ms),
            };
            (*key, open)
        };
        open.map(with_id).collect()
    }

    /// The document of a partition. Its last stable offset is that of the transactions that can be ended.
    pub(super) fn partition(&self, at: TopicPartition, document: PartitionDocument) -> PartitionDocument {
        let first = LogTransactionKey { partition: at, offset: i64::MIN, producer: ProducerId(i64::MIN) };
        let open = self.open.range(first..).next().filter(|(open, _)| open.partition == at);
        let last_aborted = document.last_aborted.max(self.last_aborted.get(&at).copied());
        PartitionDocument { first_unstable: open.map(|(open, _)| open.offset), last_aborted, ..document }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::verified::transactions::tests::{AT, faults, open_key, sound};

    fn known(all: &[(Key, Document)]) -> KnownTransactions {
        let mut known = KnownTransactions::default();
        all.iter().for_each(|(key, document)| known.add(key, document));
        known.complete();
        known
    }

    /// What a salvage makes of documents of which some are lost.
    fn salvaged(is_lost: impl Fn(&Key) -> bool) -> Vec<(Key, Document)> {
        let left: Vec<_> = sound().into_iter().filter(|(key, _)| !is_lost(key)).collect();
        let known = known(&left);
        let mut new: Vec<_> = left.into_iter().filter(|(key, _)| known.keeps(key)).collect();
        let unlisted = known.unlisted().into_iter();
        new.extend(
            unlisted.map(|(key, open)| (OpenTransaction::key(&key), Document::new::<OpenTransaction>(open))),
        );
        let log = new.iter_mut().find(|(key, _)| *key == PartitionDocument::key(&AT));
        if let Some((_, document)) = log {
            let salvaged = known.partition(AT, *document.get::<PartitionDocument>().unwrap());
            *document = Document::new::<PartitionDocument>(salvaged);
        }
        new
    }

    #[test]
    fn whatever_is_lost_the_rest_fits_together() {
        let all = sound();
        for lost in all.keys() {
            let new = salvaged(|key| key == lost).into_iter().collect();
            // Salvage puts the entry of an id again.
            let is_entry = lost.to_string().starts_with("transaction-due");
            assert_eq!(faults(&new), usize::from(is_entry), "without {lost}");
        }
        assert_eq!(salvaged(|_| false).len(), all.len());
    }

    #[test]
    fn an_open_transaction_is_listed_again() {
        let open = OpenTransaction::key(&open_key());
        let find = |all: Vec<(Key, Document)>| all.into_iter().find(|(key, _)| *key == open).unwrap().1;
        let again = find(salvaged(|key| *key == open));
        let again = again.get::<OpenTransaction>().unwrap();
        assert_eq!(&*again.transactional_id, "x");
        let id = TransactionDocument::key(&Arc::from("x"));
        let alone = find(salvaged(|key| *key == open || *key == id));
        assert_eq!(&*alone.get::<OpenTransaction>().unwrap().transactional_id, "", "an operator ends it");
    }
}
