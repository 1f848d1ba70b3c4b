//! What `yagura store verify` finds in a store, and the checks of documents that all engines share.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use rules::documents::{
    CopyMark, Document, DocumentKind, Due, DueComplete, DueSubject, Key, PartitionDocument, TopicDocument,
    TopicName,
};

pub(in crate::engines) mod transactions;

use transactions::verify_transactions;

/// What was read, and the faults found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VerifyReport {
    /// Documents.
    pub documents: u64,
    /// Record batches.
    pub batches: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of batches.
    pub bytes: u64,
    /// A sentence per fault; empty if the store is sound.
    pub faults: Vec<String>,
    /// How many more there are than are listed.
    pub faults_unlisted: u64,
}

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { documents, batches, records, bytes, faults, faults_unlisted } = self;
        write!(f, "{documents} documents, {batches} batches, {records} records, {bytes} bytes: ")?;
        if faults.is_empty() {
            return f.write_str("all is well, and every batch was opened");
        }
        write!(f, "{} fault(s)", faults.len() as u64 + faults_unlisted)?;
        faults.iter().try_for_each(|fault| write!(f, "\n  {fault}"))?;
        if *faults_unlisted > 0 {
            write!(f, "\n  and {faults_unlisted} more")?;
        }
        Ok(())
    }
}

/// Limit on listed faults; a badly damaged file would list every row.
const FAULTS_MAX: usize = 100;

impl VerifyReport {
    pub(in crate::engines) fn fault(&mut self, fault: String) {
        if self.faults.len() < FAULTS_MAX {
            self.faults.push(fault);
        } else {
            self.faults_unlisted += 1;
        }
    }
}

/// Checks that documents fit together.
pub(in crate::engines) fn verify_documents(all: &HashMap<Key, Document>, report: &mut VerifyReport) {
    let mark = all.get(&CopyMark::key(&())).and_then(|mark| mark.get::<CopyMark>());
    if let Some(refusal) = mark.filter(|mark| mark.until_ms.is_none()).and_then(|mark| mark.refusal(0)) {
        // What is missing is no news.
        return report.fault(refusal.to_owned());
    }
    for topic in all.values().filter_map(Document::get::<TopicDocument>) {
        let partitions = topic.all_partitions().map(|at| PartitionDocument::key(&at));
        for key in partitions.chain([TopicName::key(&topic.id)]).filter(|key| !all.contains_key(key)) {
            report.fault(format!("topic {} has no document {key}", topic.name));
        }
    }
    verify_due(all, report);
    verify_transactions(all, report);
}

/// Checks that each log that has records, and a limit on their age, is in the due index.
fn verify_due(all: &HashMap<Key, Document>, report: &mut VerifyReport) {
    if !all.contains_key(&DueComplete::key(&())) {
        return;
    }
    let due: HashSet<DueSubject> = all.keys().filter_map(|key| Some(Due::parse_key(key)?.subject)).collect();
    let topics = all.values().filter_map(Document::get::<TopicDocument>);
    let limited = topics.filter(|topic| topic.effective().retention_ms.is_some());
    for topic in limited.filter(|topic| !due.contains(&DueSubject::Topic(Arc::clone(&topic.name)))) {
        for at in topic.all_partitions().filter(|at| !due.contains(&DueSubject::Partition(*at))) {
            let key = PartitionDocument::key(&at);
            let log = all.get(&key).and_then(Document::get::<PartitionDocument>);
            if log.is_some_and(|log| !log.is_empty()) {
                report.fault(format!("{key} has records, and nothing says when they expire"));
            }
        }
    }
}
