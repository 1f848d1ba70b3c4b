//! The transactions that a look through a log comes by.
//!
//! Batches of an aborted transaction can go at once: nobody may read them. A marker can go once no batch of its
//! transaction is left, because only then no reader needs it to tell whether it may read what came before.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use kernel::records::Batch;
use kernel::records::control::read_marker;

/// An aborted transaction of a partition, as it is kept beside the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AbortedTransaction {
    /// Offset of its first record.
    pub first_offset: i64,
    /// Offset of its marker.
    pub last_offset: i64,
    /// Its producer.
    pub producer_id: i64,
}

/// An aborted transaction that has begun and not ended yet.
struct Ongoing {
    transaction: AbortedTransaction,
    has_data: bool,
}

/// What is known of a marker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SeenMarker {
    /// Whether no batch of its transaction is left.
    pub(super) can_go: bool,
    /// The aborted transaction of which nothing but this marker is left.
    pub(super) ended: Option<AbortedTransaction>,
}

/// The state of transactions at a place of the log.
#[derive(Default)]
pub(super) struct Transactions {
    /// Aborted ones that begin later, the earliest on top.
    upcoming: BinaryHeap<Reverse<AbortedTransaction>>,
    /// By producer.
    aborted: HashMap<i64, Ongoing>,
    /// Producers with a transaction of which a batch was seen, and which was not aborted.
    committed: HashSet<i64>,
}

impl Transactions {
    /// Takes aborted transactions before any batch of theirs is seen. One may come more than once.
    pub(super) fn add_aborted(&mut self, transactions: impl IntoIterator<Item = AbortedTransaction>) {
        self.upcoming.extend(transactions.into_iter().map(Reverse));
    }

    /// Sees a batch of data, and says whether it belongs to an aborted transaction.
    pub(super) fn data(&mut self, batch: &Batch) -> bool {
        self.begin(batch);
        if !batch.is_transactional() {
            return false;
        }
        let producer_id = batch.producer_id();
        let aborted = self.aborted.get_mut(&producer_id);
        // Of one whose marker was passed, nothing can follow.
        let aborted = aborted.filter(|ongoing| ongoing.transaction.last_offset >= batch.base_offset());
        if let Some(ongoing) = aborted {
            ongoing.has_data = true;
            return true;
        }
        self.committed.insert(producer_id);
        false
    }

    /// Sees a control batch.
    pub(super) fn control(&mut self, batch: &Batch) -> SeenMarker {
        self.begin(batch);
        let producer_id = batch.producer_id();
        let is_ended = |ongoing: &Ongoing| ongoing.transaction.last_offset < batch.next_offset();
        let ongoing = if self.aborted.get(&producer_id).is_some_and(is_ended) {
            self.aborted.remove(&producer_id)
        } else {
            None
        };
        if batch.record_count() == 0 {
            // A cleaner has removed the marker before, and kept the batch for its producer.
            return SeenMarker { can_go: true, ended: None };
        }
        match read_marker(batch) {
            Some(marker) if marker.commit => {
                SeenMarker { can_go: !self.committed.remove(&producer_id), ended: None }
            }
            Some(_) => {
                let has_data = ongoing.as_ref().is_some_and(|ongoing| ongoing.has_data);
                let ended = ongoing.filter(|_| !has_data).map(|ongoing| ongoing.transaction);
                SeenMarker { can_go: !has_data, ended }
            }
            // What it says is not known, so it stays.
            None => SeenMarker { can_go: false, ended: None },
        }
    }

    /// Begins the aborted transactions whose first record is not after a batch.
    fn begin(&mut self, batch: &Batch) {
        while let Some(Reverse(next)) = self.upcoming.peek() {
            let transaction = *next;
            if transaction.first_offset >= batch.next_offset() {
                return;
            }
            self.upcoming.pop();
            if transaction.last_offset < batch.base_offset() {
                continue;
            }
            let ongoing = self.aborted.entry(transaction.producer_id);
            let ongoing = ongoing.or_insert(Ongoing { transaction, has_data: false });
            // One that ended while its marker was not seen.
            if ongoing.transaction.last_offset < transaction.first_offset {
                *ongoing = Ongoing { transaction, has_data: false };
            }
        }
    }
}
