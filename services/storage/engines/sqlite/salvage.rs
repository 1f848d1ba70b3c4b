//! Copies what can be read of a damaged store into a new one.
//!
//! The source is only read. Of its tables, documents, journal and batches are copied, around what is damaged; the index is
//! built anew, and what was deleted is left out. Records keep their offsets: where a batch is lost, one without records takes
//! its place ([`super::gaps`]). If a document is lost, the groups lose their members, which join again, and the index of what
//! is due is built anew at the first start.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use kernel::{TopicId, TopicPartition};
use rules::documents::{
    AssignedPartition, Counters, Document, DocumentKind, DueComplete, GroupDocument, GroupTopics,
    InstanceDocument, Key, LiveGroup, MemberDocument, OpenTransaction, PartitionDocument, PendingDocument,
    ProducerDocument, TopicDocument, TopicName, TransactionDocument, TransactionDue, TransactionDueKey,
};
use rusqlite::Connection;

use super::commit::text_of;
use super::migrate::{COMMIT_BYTES, remove, write_new};
use super::real_path::{beside, real_path};
use super::salvage_log::{known_number, salvage_log};
use super::salvage_source::Source;
use super::salvage_transactions::KnownTransactions;
use super::schema::{VERIFY_ADVICE, failed};
use super::texts::{delete_text, put_text};
use crate::engines::StoreError;

/// Limit on what is listed of what was lost.
const LOST_MAX: usize = 1_000;

/// What was copied, and what could not be.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SalvageReport {
    /// Topics.
    pub topics: u64,
    /// Partitions.
    pub partitions: u64,
    /// Documents, such as offsets of groups.
    pub documents: u64,
    /// Record batches.
    pub batches: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// A line for each thing that was lost; empty if everything was read.
    pub lost: Vec<String>,
    /// How many more there are than are listed.
    pub lost_unlisted: u64,
}

impl SalvageReport {
    pub(super) fn lost(&mut self, what: String) {
        if self.lost.len() < LOST_MAX {
            self.lost.push(what);
        } else {
            self.lost_unlisted += 1;
        }
    }
}

impl fmt::Display for SalvageReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { topics, partitions, documents, batches, bytes, lost, lost_unlisted } = self;
        write!(
            f,
            "copied {topics} topics, {partitions} partitions, {documents} documents, {batches} batches, {bytes} bytes: "
        )?;
        if lost.is_empty() {
            return f.write_str("nothing was lost");
        }
        f.write_str("lost were")?;
        lost.iter().try_for_each(|what| write!(f, "\n  {what}"))?;
        if *lost_unlisted > 0 {
            write!(f, "\n  and {lost_unlisted} more")?;
        }
        Ok(())
    }
}

/// Copies what can be read of the store at `source`, which no broker may have open, into a new store at `target`. `progress`
/// gets about how many bytes were read, and how many there are.
///
/// # Errors
/// A sentence that says what failed; nothing is left at `target` then.
pub fn salvage(
    source: &Path,
    target: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<SalvageReport, String> {
    if target.exists() {
        return Err(format!("{} exists already; name a new file, nothing is overwritten", target.display()));
    }
    let unfinished = beside(&real_path(target), "-salvaging");
    let copied = copy(source, &unfinished, progress).and_then(|report| {
        std::fs::rename(&unfinished, target)
            .map_err(|error| StoreError(format!("{}: {error}", target.display())))
            .map(|()| report)
    });
    copied.map_err(|error| {
        let text = match error.0.strip_suffix(VERIFY_ADVICE) {
            Some(text) => format!("{text}; without it nothing can be found in the file: restore a backup"),
            None => error.0,
        };
        match remove(&unfinished) {
            Ok(()) => text,
            Err(error) => format!("{text}; {} cannot be removed: {error}", unfinished.display()),
        }
    })
}

fn copy(
    source: &Path,
    unfinished: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<SalvageReport, StoreError> {
    let source = Source::open(source, unfinished)?;
    let mut report = SalvageReport::default();
    write_new(unfinished, |new| {
        let total = source.bytes();
        let mut progress = |done: u64| progress(done.min(total), total);
        let mut salvage = Salvage {
            source: &source,
            new,
            report: &mut report,
            uncommitted: 0,
            progress: &mut progress,
            unclaimed: source.numbers(),
        };
        salvage.run()
    })?;
    Ok(report)
}

/// What the documents say of topics and partitions.
#[derive(Default)]
struct Known {
    topics: BTreeMap<TopicId, Arc<TopicDocument>>,
    names: BTreeMap<TopicId, Arc<str>>,
    partitions: BTreeMap<TopicPartition, PartitionDocument>,
    transactions: KnownTransactions,
    has_counters: bool,
    producer_id_max: i64,
    leader_epoch_max: i32,
}

impl Known {
    fn add(&mut self, key: &Key, document: &Document) {
        self.transactions.add(key, document);
        if let Some(topic) = document.get_arc::<TopicDocument>() {
            self.topics.insert(topic.id, topic);
        } else if let (Some(name), Some(id)) = (document.get::<TopicName>(), TopicName::parse_key(key)) {
            self.names.insert(id, Arc::clone(&name.0));
        } else if let (Some(log), Some(at)) =
            (document.get::<PartitionDocument>(), PartitionDocument::parse_key(key))
        {
            self.leader_epoch_max = self.leader_epoch_max.max(log.leader_epoch);
            self.partitions.insert(at, *log);
        } else if let Some(key) = ProducerDocument::parse_key(key) {
            self.producer_id_max = self.producer_id_max.max(key.producer.0);
        } else if let Some(transaction) = document.get::<TransactionDocument>() {
            self.producer_id_max = self.producer_id_max.max(transaction.producer_id.0);
        } else if document.get::<Counters>().is_some() {
            self.has_counters = true;
        }
    }
}

/// A salvage under way.
pub(super) struct Salvage<'a> {
    pub(super) source: &'a Source,
    pub(super) new: &'a Connection,
    pub(super) report: &'a mut SalvageReport,
    uncommitted: u64,
    progress: &'a mut dyn FnMut(u64),
    /// Partition numbers of batches that no partition has claimed.
    pub(super) unclaimed: BTreeSet<u32>,
}

impl Salvage<'_> {
    fn run(&mut self) -> Result<(), StoreError> {
        let mut known = Known { producer_id_max: -1, ..Known::default() };
        let mut lost = Vec::new();
        self.source.documents(&mut |what| lost.push(what), &mut |key, document| {
            known.add(&key, &document);
            Ok(())
        })?;
        known.transactions.complete();
        let gaps = self.source.journal.gaps;
        if gaps > 0 {
            let what =
                "of the journal: the last changes before a kill; documents may be older than they were";
            lost.push(format!("{gaps} part(s) {what}"));
        }
        let is_whole = lost.is_empty();
        lost.into_iter().for_each(|what| self.report.lost(what));
        let mut is_complete = self.copy_documents(&known, is_whole)?;
        is_complete &= self.complete_topics(&mut known)?;
        if !is_whole && !known.has_counters {
            let counters = Counters {
                next_producer_id: known.producer_id_max + 1,
                leader_epoch: known.leader_epoch_max,
            };
            self.put(&Counters::key(&()), &Document::new::<Counters>(counters))?;
        }
        is_complete &= self.copy_logs(&known)?;
        if is_whole && !is_complete {
            // What was put anew is not in the index of what is due: the first start builds that again.
            delete_text(self.new, &DueComplete::key(&())).map_err(writing)?;
        }
        for number in std::mem::take(&mut self.unclaimed) {
            self.report
                .lost(format!("the batches of partition number {number}: nothing says whose they are"));
        }
        Ok(())
    }

    /// Copies documents but those of partitions; returns whether all are as they were.
    fn copy_documents(&mut self, known: &Known, is_whole: bool) -> Result<bool, StoreError> {
        let source = self.source;
        source.documents(&mut |_| {}, &mut |key, document| {
            if document.get::<PartitionDocument>().is_some() {
                return Ok(());
            }
            if !known.transactions.keeps(&key) {
                return Ok(());
            }
            self.put_due_again(&key, &document)?;
            match salvaged(document, is_whole) {
                Some(document) => self.put(&key, &document),
                None => Ok(()),
            }
        })?;
        for (key, open) in known.transactions.unlisted() {
            self.put(&OpenTransaction::key(&key), &Document::new::<OpenTransaction>(open))?;
        }
        Ok(is_whole)
    }

    /// Puts the entry that a transactional id is found by when its time has come: that may be lost.
    fn put_due_again(&mut self, key: &Key, document: &Document) -> Result<(), StoreError> {
        let Some(TransactionDocument { look_ms, .. }) = document.get::<TransactionDocument>() else {
            return Ok(());
        };
        let Some(transaction) = TransactionDocument::parse_key(key) else { return Ok(()) };
        let entry = TransactionDueKey { at_ms: *look_ms, transaction };
        let text = text_of(&Document::new::<TransactionDue>(TransactionDue {})).map_err(writing)?;
        put_text(self.new, &TransactionDue::key(&entry), &text).map_err(writing)
    }

    fn put(&mut self, key: &Key, document: &Document) -> Result<(), StoreError> {
        let text = text_of(document).map_err(writing)?;
        put_text(self.new, key, &text).map_err(writing)?;
        self.report.documents += 1;
        self.wrote(text.len() as u64)
    }

    /// Puts names of topics, and topics, that are known only from each other; returns whether there was nothing to do.
    fn complete_topics(&mut self, known: &mut Known) -> Result<bool, StoreError> {
        let mut is_complete = true;
        for (id, topic) in &known.topics {
            if !known.names.contains_key(id) {
                self.put(
                    &TopicName::key(id),
                    &Document::new::<TopicName>(TopicName(Arc::clone(&topic.name))),
                )?;
                is_complete = false;
            }
        }
        let with_logs: BTreeSet<TopicId> = known.partitions.keys().map(|at| at.topic).collect();
        for id in with_logs {
            if known.topics.contains_key(&id) {
                continue;
            }
            let name =
                known.names.get(&id).cloned().unwrap_or_else(|| Arc::from(format!("salvaged-{}", id.0)));
            let indexes = known.partitions.keys().filter(|at| at.topic == id).map(|at| at.partition);
            let partitions = indexes.max().map_or(0, |last| last + 1);
            self.report.lost(format!(
                "the configs of topic {name}, and whether it had more than {partitions} partition(s)"
            ));
            let topic = Arc::new(TopicDocument::new(Arc::clone(&name), id, partitions, BTreeMap::new()));
            self.put(&TopicDocument::key(&name), &Document::new::<TopicDocument>(Arc::clone(&topic)))?;
            self.put(&TopicName::key(&id), &Document::new::<TopicName>(TopicName(name)))?;
            known.topics.insert(id, topic);
            is_complete = false;
        }
        Ok(is_complete)
    }

    /// Copies the logs of all partitions of all topics; returns whether each had a document.
    fn copy_logs(&mut self, known: &Known) -> Result<bool, StoreError> {
        let (mut is_complete, mut next_number) = (true, 0);
        for at in known.topics.values().flat_map(|topic| topic.all_partitions()) {
            if let Some(number) = known_number(self.source, at) {
                self.unclaimed.remove(&number);
            }
        }
        for topic in known.topics.values() {
            self.report.topics += 1;
            for at in topic.all_partitions() {
                let name = format!("{}-{}", topic.name, at.partition);
                let document = known.partitions.get(&at).copied();
                is_complete &= document.is_some();
                let document = salvage_log(self, at, &name, document, next_number)?;
                let document = known.transactions.partition(at, document);
                self.put(&PartitionDocument::key(&at), &Document::new::<PartitionDocument>(document))?;
                self.report.partitions += 1;
                next_number += 1;
            }
        }
        let sql = "UPDATE counters SET value = ?1 WHERE name = 'next_number'";
        self.new.execute(sql, [next_number]).map_err(writing)?;
        Ok(is_complete)
    }

    /// Counts bytes, and commits some at a time.
    pub(super) fn wrote(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.uncommitted += bytes;
        if self.uncommitted >= COMMIT_BYTES {
            self.uncommitted = 0;
            self.new.execute_batch("COMMIT; BEGIN IMMEDIATE").map_err(writing)?;
        }
        (self.progress)(self.report.bytes);
        Ok(())
    }
}

pub(super) fn writing(error: rusqlite::Error) -> StoreError {
    failed("writing the new store", &error)
}

/// The document in the new store. If others are lost, nobody knows whether a group has all its members: they join again.
fn salvaged(document: Document, is_whole: bool) -> Option<Document> {
    if is_whole {
        return Some(document);
    }
    if let Some(group) = document.get::<GroupDocument>() {
        let GroupDocument { generation, protocol_type, since_ms, .. } = group.clone();
        let empty = GroupDocument { generation, protocol_type, ..GroupDocument::empty(since_ms) };
        return Some(Document::new::<GroupDocument>(empty));
    }
    let is_dropped = document.get::<MemberDocument>().is_some()
        || document.get::<InstanceDocument>().is_some()
        || document.get::<AssignedPartition>().is_some()
        || document.get::<PendingDocument>().is_some()
        || document.get::<GroupTopics>().is_some()
        || document.get::<LiveGroup>().is_some()
        || document.get::<DueComplete>().is_some();
    (!is_dropped).then_some(document)
}
