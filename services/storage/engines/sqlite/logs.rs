//! What this engine keeps of a partition besides its document: a number and the size of its batches.
//!
//! The key of a batch's row packs the partition's number (20 bits) and the batch's base offset (43 bits).
//! These limits and the sizes are specific to this engine, so the rules do not know them. The file has them
//! in the documents of partitions and counters, next to the fields of the rules (format 1).

use std::collections::HashMap;

use kernel::{ErrorCode, TopicPartition};
use rules::WorkingSet;
use rules::commands::{Command, Effect, Refused};
use rules::documents::{Counters, Document, DocumentKind, Key, PartitionDocument, ReadError, TopicDocument};
use serde::{Deserialize, Serialize};

use super::schema::{OFFSET_MAX, PARTITION_NUMBERS_MAX};

/// A partition's number in this store, which is never reused, and the size of its batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogFacts {
    pub(super) number: u32,
    pub(super) bytes: u64,
}

/// The facts of all partitions.
#[derive(Debug, Default)]
pub(super) struct Logs {
    by_partition: HashMap<TopicPartition, LogFacts>,
    next_number: u32,
}

/// A partition document in the file.
#[derive(Serialize, Deserialize)]
struct StoredPartition {
    number: u32,
    log_start: i64,
    end: i64,
    bytes: u64,
    leader_epoch: i32,
}

/// The counters document in the file.
#[derive(Serialize, Deserialize)]
struct StoredCounters {
    next_producer_id: i64,
    next_partition_number: u32,
}

impl Logs {
    pub(super) fn get(&self, at: TopicPartition) -> Option<LogFacts> {
        self.by_partition.get(&at).copied()
    }

    /// Loads a document of the file, if it is a partition or the counters.
    pub(super) fn load(&mut self, key: &Key, text: &str) -> Result<(), ReadError> {
        let damaged = |error: serde_json::Error| ReadError::Damaged(error.to_string());
        if let Some(at) = PartitionDocument::parse_key(key) {
            let stored: StoredPartition = serde_json::from_str(text).map_err(damaged)?;
            let facts = LogFacts { number: stored.number, bytes: stored.bytes };
            self.by_partition.insert(at, facts);
        } else if Counters::parse_key(key).is_some() {
            let stored: StoredCounters = serde_json::from_str(text).map_err(damaged)?;
            self.next_number = stored.next_partition_number;
        }
        Ok(())
    }

    /// Applies the changes of a commit.
    pub(super) fn apply(&mut self, changes: LogChanges) {
        self.next_number = changes.next_number;
        for (at, facts) in changes.changed {
            match facts {
                Some(facts) => drop(self.by_partition.insert(at, facts)),
                None => drop(self.by_partition.remove(&at)),
            }
        }
    }
}

/// The changes of a commit, computed while its commands are decided.
pub(super) struct LogChanges {
    changed: HashMap<TopicPartition, Option<LogFacts>>,
    next_number: u32,
    first_number: u32,
}

impl LogChanges {
    pub(super) fn new(logs: &Logs) -> Self {
        let next_number = logs.next_number;
        Self { changed: HashMap::new(), next_number, first_number: next_number }
    }

    /// The facts of a partition after the changes so far.
    pub(super) fn get(&self, logs: &Logs, at: TopicPartition) -> Option<LogFacts> {
        self.changed.get(&at).copied().unwrap_or_else(|| logs.get(at))
    }

    /// Applies an effect. The bytes of a trim are known only from the file: see [`LogChanges::trimmed`].
    pub(super) fn apply(&mut self, logs: &Logs, effect: &Effect) {
        match effect {
            Effect::CreateLog { partition } => {
                let facts = LogFacts { number: self.next_number, bytes: 0 };
                self.changed.insert(*partition, Some(facts));
                self.next_number += 1;
            }
            Effect::Append { partition, batch, .. } => {
                if let Some(facts) = self.get(logs, *partition) {
                    let bytes = facts.bytes + u64::from(batch.bytes);
                    self.changed.insert(*partition, Some(LogFacts { bytes, ..facts }));
                }
            }
            Effect::Trim { .. } | Effect::DropLog { .. } => {}
        }
    }

    /// Subtracts the bytes of a trim from a partition's size.
    pub(super) fn trimmed(&mut self, logs: &Logs, at: TopicPartition, bytes: u64) {
        if let Some(facts) = self.get(logs, at) {
            let bytes = facts.bytes.saturating_sub(bytes);
            self.changed.insert(at, Some(LogFacts { bytes, ..facts }));
        }
    }

    /// Removes a partition; its number is not reused.
    pub(super) fn dropped(&mut self, at: TopicPartition) {
        self.changed.insert(at, None);
    }

    /// Refuses a command that exceeds this store's limits.
    pub(super) fn check(&self, command: &Command, set: &WorkingSet<'_>) -> Result<(), Refused> {
        match command {
            Command::Append(append) => {
                let end = set.get::<PartitionDocument>(&append.partition).map_or(0, |log| log.end);
                if end + i64::from(append.batch.record_count) > OFFSET_MAX {
                    let message = format!("The partition is full: its offsets have reached {end}.");
                    return Err(Refused::new(ErrorCode::KafkaStorageError, message));
                }
                Ok(())
            }
            Command::CreateTopic { partitions, .. } => self.check_numbers(*partitions),
            Command::CreatePartitions { name, count } => {
                let has = set.get::<TopicDocument>(name).map_or(0, |topic| topic.partitions);
                self.check_numbers(count.saturating_sub(has))
            }
            Command::Check(inner) => self.check(inner, set),
            _ => Ok(()),
        }
    }

    fn check_numbers(&self, wanted: i32) -> Result<(), Refused> {
        let left = PARTITION_NUMBERS_MAX.saturating_sub(self.next_number);
        if u32::try_from(wanted).unwrap_or(0) <= left {
            return Ok(());
        }
        let message = format!(
            "This store has given out {} of its {PARTITION_NUMBERS_MAX} partition numbers; start a new one.",
            self.next_number
        );
        Err(Refused::new(ErrorCode::PolicyViolation, message))
    }

    /// Whether numbers were assigned, so that the counters must be written.
    pub(super) fn has_new_numbers(&self) -> bool {
        self.next_number != self.first_number
    }

    /// A document in the file's format.
    pub(super) fn text_of(
        &self,
        logs: &Logs,
        key: &Key,
        document: &Document,
    ) -> Result<String, serde_json::Error> {
        if let Some(counters) = document.get::<Counters>() {
            return self.counters_text(counters);
        }
        let log = document.get::<PartitionDocument>().zip(PartitionDocument::parse_key(key));
        let Some((log, at)) = log else { return document.write() };
        let LogFacts { number, bytes } = self.get(logs, at).unwrap_or(LogFacts { number: 0, bytes: 0 });
        let PartitionDocument { log_start, end, leader_epoch } = *log;
        serde_json::to_string(&StoredPartition { number, log_start, end, bytes, leader_epoch })
    }

    /// The counters in the file's format.
    pub(super) fn counters_text(&self, counters: &Counters) -> Result<String, serde_json::Error> {
        let next_partition_number = self.next_number;
        let next_producer_id = counters.next_producer_id;
        serde_json::to_string(&StoredCounters { next_producer_id, next_partition_number })
    }
}
