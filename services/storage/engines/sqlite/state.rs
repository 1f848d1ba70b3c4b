//! What is in memory: the changes that are not folded yet, and a bounded cache of what is in the file.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use kernel::TopicPartition;
use rules::documents::{Document, DocumentKind, Key, PartitionDocument, Prefix, deleted_with_log, log_of};

use super::cache::Cache;
use super::logs::Log;

/// Memory that an entry of the cache takes beside its key and value.
const ENTRY_BYTES: usize = 160;
/// A document takes about this much more memory than its text.
const TEXT_FACTOR: usize = 3;

/// Documents and logs that were changed since they were last written to their place in the file; the journal has their
/// changes. Only the writer changes it, once a commit is durable.
#[derive(Debug, Default)]
pub(super) struct Unfolded {
    documents: BTreeMap<Key, Changed>,
    /// About what all of these take.
    memory: usize,
    /// `None` is a log that was deleted.
    pub(super) logs: HashMap<TopicPartition, Option<Log>>,
}

/// A changed document.
#[derive(Debug)]
struct Changed {
    /// `None` is a document that was deleted.
    document: Option<Document>,
    memory: usize,
}

impl Unfolded {
    /// About how much memory the documents take. Their texts in the journal are a fraction of it.
    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// A document, if it has changed.
    pub(super) fn document(&self, key: &Key) -> Option<&Option<Document>> {
        self.documents.get(key).map(|changed| &changed.document)
    }

    /// A document has changed, and its text has `bytes`.
    pub(super) fn put(&mut self, key: Key, document: Option<Document>, bytes: usize) {
        let memory = document_memory(&key, bytes);
        self.memory += memory;
        let before = self.documents.insert(key, Changed { document, memory });
        self.memory -= before.map_or(0, |before| before.memory);
    }

    /// Takes a document out.
    pub(super) fn take(&mut self, key: &Key) -> Option<Option<Document>> {
        let changed = self.documents.remove(key)?;
        self.memory -= changed.memory;
        Some(changed.document)
    }

    /// All changed documents after a key, in key order.
    pub(super) fn after<'a>(
        &'a self,
        after: Option<&Key>,
    ) -> impl Iterator<Item = (&'a Key, &'a Option<Document>)> + use<'a> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let left = self.documents.range::<Key, _>((from, Bound::Unbounded));
        left.map(|(key, changed)| (key, &changed.document))
    }

    /// Forgets the producers and transactions of a deleted partition.
    pub(super) fn drop_documents(&mut self, partition: TopicPartition) {
        for prefix in deleted_with_log(partition) {
            let gone: Vec<Key> = self.range(&prefix, None).map(|(key, _)| key.clone()).collect();
            gone.iter().for_each(|key| drop(self.take(key)));
        }
    }

    /// The changed documents of a prefix after a key, in key order.
    pub(super) fn range<'a>(
        &'a self,
        prefix: &'a Prefix,
        after: Option<&Key>,
    ) -> impl Iterator<Item = (&'a Key, &'a Option<Document>)> {
        let first = Key::from_text(prefix.as_str());
        let from = after.map_or(Bound::Included(&first), Bound::Excluded);
        let changed = self.documents.range((from, Bound::Unbounded));
        changed.take_while(|(key, _)| prefix.matches(key)).map(|(key, changed)| (key, &changed.document))
    }
}

/// About how much memory a document takes whose text has `bytes`.
fn document_memory(key: &Key, bytes: usize) -> usize {
    ENTRY_BYTES + 2 * key.as_str().len() + TEXT_FACTOR * bytes
}

/// A cache of what is in the file.
#[derive(Debug)]
pub(super) struct Clean {
    documents: Cache<Key, Option<Document>>,
    logs: Cache<TopicPartition, Option<Arc<Log>>>,
    /// Grows whenever the file's documents or logs change. What was read before must not be cached after.
    pub(super) version: u64,
}

impl Clean {
    pub(super) fn new(bytes_max: usize) -> Self {
        // Most logs are a hundred bytes, but their tails may have eight thousand.
        let logs_max = bytes_max / 4;
        Self { documents: Cache::new(bytes_max - logs_max), logs: Cache::new(logs_max), version: 0 }
    }

    /// A document, if it is known.
    pub(super) fn document(&mut self, key: &Key) -> Option<Option<Document>> {
        self.documents.get(key).cloned()
    }

    /// The same, as of a version of the file.
    pub(super) fn document_of(&mut self, key: &Key, version: u64) -> Option<Option<Document>> {
        if self.version == version { self.document(key) } else { None }
    }

    /// A log, if it is known.
    pub(super) fn log(&mut self, at: TopicPartition) -> Option<Option<Arc<Log>>> {
        self.logs.get(&at).cloned()
    }

    /// Keeps a document whose text has `bytes`.
    pub(super) fn put_document(&mut self, key: Key, document: Option<Document>, bytes: usize) {
        let bytes = document_memory(&key, bytes);
        self.documents.insert(key, document, bytes);
    }

    /// Keeps a log.
    pub(super) fn put_log(&mut self, at: TopicPartition, log: Option<Log>) {
        let bytes = ENTRY_BYTES + log.as_ref().map_or(0, Log::memory);
        self.logs.insert(at, log.map(Arc::new), bytes);
    }

    /// Takes a log out.
    pub(super) fn take_log(&mut self, at: TopicPartition) -> Option<Log> {
        self.logs.remove(&at)?.map(Arc::unwrap_or_clone)
    }

    /// Forgets the producers and transactions of deleted partitions.
    pub(super) fn drop_documents(&mut self, partitions: &[TopicPartition]) {
        let dropped: HashSet<TopicPartition> = partitions.iter().copied().collect();
        self.documents.retain(|key| log_of(key).is_none_or(|partition| !dropped.contains(&partition)));
    }
}

/// What is known of a partition without the file; `None` within for one that does not exist.
pub(super) fn known_partition(
    unfolded: &Unfolded,
    clean: &mut Clean,
    at: TopicPartition,
) -> Option<Option<PartitionDocument>> {
    let document = known_document(unfolded, clean, &PartitionDocument::key(&at))?;
    Some(document.and_then(|document| document.get::<PartitionDocument>().copied()))
}

/// A document, if it is known without the file.
pub(super) fn known_document(unfolded: &Unfolded, clean: &mut Clean, key: &Key) -> Option<Option<Document>> {
    unfolded.document(key).cloned().or_else(|| clean.document(key))
}
