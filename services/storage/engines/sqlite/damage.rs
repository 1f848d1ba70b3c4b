//! What of the file is known to be damaged: named once in the log, counted on `/metrics`, and not read again in vain.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use kernel::TopicPartition;
use kernel::metrics::{MetricKind, Page};
use parking_lot::Mutex;
use rules::documents::{DocumentKind, Key, PartitionDocument};
use tracing::{error, warn};

use super::schema::is_about_damage;
use crate::engines::StoreError;

/// How long a partition that cannot be read for another reason is not logged again.
const LOG_PAUSE: Duration = Duration::from_secs(60);
/// How many parts of each kind are remembered.
const REMEMBERED_MAX: usize = 1_000;
/// How many batches of each partition.
const BATCHES_MAX: usize = 16;

/// A part of the store that can be damaged by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Partition(TopicPartition),
    /// A document, or the first of several that are on one page.
    Document(Key),
    /// What was deleted of the log with this partition number; `None` is the list of all that was deleted.
    Garbage(Option<u32>),
    Journal,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Part::Partition(at) => write!(f, "{}", PartitionDocument::key(at)),
            Part::Document(key) => write!(f, "the document {key}"),
            Part::Garbage(Some(number)) => write!(f, "what was deleted of partition number {number}"),
            Part::Garbage(None) => f.write_str("the list of what was deleted"),
            Part::Journal => f.write_str("the journal"),
        }
    }
}

impl Part {
    /// What is not done for it any more.
    fn consequence(&self) -> &'static str {
        match self {
            Part::Partition(_) => "clients that need it get KAFKA_STORAGE_ERROR",
            Part::Document(_) => "calls that need it fail, and listings leave it out",
            Part::Garbage(_) => "its space is not freed",
            Part::Journal => "commits go on until it is too large",
        }
    }
}

/// The damage that was met since the store was opened.
#[derive(Default)]
pub(super) struct Damage(Mutex<Known>);

#[derive(Default)]
struct Known {
    /// Each with the first offsets of batches that were promised to a client and could not be read.
    partitions: HashMap<TopicPartition, BTreeSet<i64>>,
    documents: HashSet<Key>,
    garbage: HashSet<Option<u32>>,
    has_journal: bool,
    /// When a partition was logged that is not known to be damaged, and could not be read.
    failing: HashMap<TopicPartition, Instant>,
    is_full: bool,
}

impl Damage {
    /// Notes a damaged part, and names it in the log if it was not known.
    pub(super) fn note(&self, part: &Part, failure: &StoreError) {
        if self.0.lock().add(part) {
            error!("{part} is damaged, and {}: {failure}", part.consequence());
        }
    }

    /// Some part of which it is known.
    pub(super) fn some(&self) -> Option<Part> {
        let known = self.0.lock();
        let partition = known.partitions.keys().next().map(|at| Part::Partition(*at));
        partition.or_else(|| known.documents.iter().next().map(|key| Part::Document(key.clone())))
    }

    /// Notes that a partition cannot be read. If it is not damaged, that is logged once a minute, however many clients try.
    pub(super) fn not_read(&self, at: TopicPartition, failure: &StoreError) {
        if is_about_damage(failure) {
            return self.note(&Part::Partition(at), failure);
        }
        let mut known = self.0.lock();
        let now = Instant::now();
        if known.partitions.contains_key(&at) {
            return;
        }
        if known.failing.get(&at).is_some_and(|last| now - *last < LOG_PAUSE) {
            return;
        }
        if known.failing.len() == REMEMBERED_MAX {
            known.failing.clear();
        }
        known.failing.insert(at, now);
        drop(known);
        warn!(partition = ?at, "{failure}; readers of this part of the partition get KAFKA_STORAGE_ERROR");
    }

    /// Remembers a batch that cannot be read, so that later reads stop before it.
    pub(super) fn remember(&self, at: TopicPartition, offset: i64) {
        if let Some(batches) = self.0.lock().partitions.get_mut(&at)
            && batches.len() < BATCHES_MAX
        {
            batches.insert(offset);
        }
    }

    /// The first batch of a partition in a range of offsets that is known not to be readable.
    pub(super) fn damaged_in(&self, at: TopicPartition, offsets: Range<i64>) -> Option<i64> {
        self.0.lock().partitions.get(&at)?.range(offsets).next().copied()
    }

    /// A log begins later: batches before that are gone, and with the last of those that are damaged the damage.
    pub(super) fn trimmed(&self, at: TopicPartition, log_start: i64) {
        let mut known = self.0.lock();
        let Some(batches) = known.partitions.get_mut(&at).filter(|batches| !batches.is_empty()) else {
            return;
        };
        batches.retain(|offset| *offset >= log_start);
        if batches.is_empty() {
            known.partitions.remove(&at);
        }
    }

    /// A partition was deleted.
    pub(super) fn forget(&self, at: TopicPartition) {
        self.0.lock().partitions.remove(&at);
    }

    /// Writes how many parts are damaged.
    pub(super) fn collect(&self, page: &mut Page) {
        let known = self.0.lock();
        let counts = [
            ("partition", known.partitions.len()),
            ("document", known.documents.len()),
            ("garbage", known.garbage.len()),
            ("journal", usize::from(known.has_journal)),
        ];
        drop(known);
        let help = "Damaged parts of the store that were met since it was opened.";
        page.family("yagura_store_damaged", MetricKind::Gauge, help);
        for (what, count) in counts {
            page.sample(&[("what", what)], count as f64);
        }
    }
}

impl Known {
    /// Adds a part; false if it is known, or if there is no room for it.
    fn add(&mut self, part: &Part) -> bool {
        let is_known = match part {
            Part::Partition(at) => self.partitions.contains_key(at),
            Part::Document(key) => self.documents.contains(key),
            Part::Garbage(number) => self.garbage.contains(number),
            Part::Journal => std::mem::replace(&mut self.has_journal, true),
        };
        let count = self.partitions.len().max(self.documents.len()).max(self.garbage.len());
        if is_known || count >= REMEMBERED_MAX {
            if !is_known && !std::mem::replace(&mut self.is_full, true) {
                error!("more of the store is damaged than is named here: `yagura store verify` names all");
            }
            return false;
        }
        match part {
            Part::Partition(at) => self.partitions.insert(*at, BTreeSet::new()).is_none(),
            Part::Document(key) => self.documents.insert(key.clone()),
            Part::Garbage(number) => self.garbage.insert(*number),
            Part::Journal => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use kernel::TopicId;

    use super::super::schema::{damaged, failed};
    use super::*;

    fn at(partition: i32) -> TopicPartition {
        TopicPartition { topic: TopicId(uuid::Uuid::from_u128(7)), partition }
    }

    fn shown(damage: &Damage) -> String {
        let mut page = Page::default();
        damage.collect(&mut page);
        page.into_text()
    }

    #[test]
    fn damage_is_counted_once_and_until_it_is_gone() {
        let (damage, failure) = (Damage::default(), failed("reading", &damaged("a page is torn")));
        for _ in 0..3 {
            damage.not_read(at(0), &failure);
            damage.note(&Part::Document(Key::from_text("group/g")), &failure);
        }
        damage.remember(at(0), 5);
        damage.remember(at(1), 5);
        assert_eq!((damage.damaged_in(at(0), 0..9), damage.damaged_in(at(1), 0..9)), (Some(5), None));
        let page = shown(&damage);
        assert!(page.contains("yagura_store_damaged{what=\"partition\"} 1"), "{page}");
        assert!(page.contains("yagura_store_damaged{what=\"document\"} 1"), "{page}");
        damage.trimmed(at(0), 5);
        assert_eq!(damage.damaged_in(at(0), 0..9), Some(5));
        damage.trimmed(at(0), 6);
        assert!(shown(&damage).contains("yagura_store_damaged{what=\"partition\"} 0"));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (damage, failure) = (Damage::default(), failed("reading", &damaged("a page is torn")));
        (0..2_000).for_each(|partition| damage.note(&Part::Partition(at(partition)), &failure));
        let page = shown(&damage);
        assert!(page.contains("yagura_store_damaged{what=\"partition\"} 1000"), "{page}");
    }

    #[test]
    fn what_fails_without_damage_is_not_counted() {
        let damage = Damage::default();
        damage.not_read(at(0), &StoreError("the store is closed".to_owned()));
        assert!(shown(&damage).contains("yagura_store_damaged{what=\"partition\"} 0"));
    }
}
