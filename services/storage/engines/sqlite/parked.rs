//! What cannot be folded, because its place in the file is damaged.
//!
//! It stays in memory as it is, and in one row of the journal, which is written anew when a fold ends; so the rows that are
//! folded can go, and a start finds it again and tries once more. Until then it can be read, and a command that would change
//! it is refused: what is parked does not grow.

use std::collections::HashSet;

use kernel::TopicPartition;
use rules::Changes;
use rules::commands::Effect;
use rules::documents::Key;
use rusqlite::{Connection, params};

use super::commit::text_of;
use super::damage::Part;
use super::journal::Row;
use super::schema::VERIFY_ADVICE;
use super::state::Unfolded;
use crate::engines::StoreError;

/// The number of its row, before all others.
pub(super) const PARKED_SEQ: i64 = -1;

/// Logs and documents that are not folded.
#[derive(Debug, Default)]
pub(super) struct Parked {
    logs: HashSet<TopicPartition>,
    documents: HashSet<Key>,
    /// Whether its row says something else.
    is_stale: bool,
}

impl Parked {
    /// Nothing is parked yet. A row that is there is replaced by the first fold.
    pub(super) fn after_replay(has_row: bool) -> Self {
        Self { is_stale: has_row, ..Self::default() }
    }

    /// Parks a log or a document.
    pub(super) fn add(&mut self, part: &Part) {
        self.is_stale = true;
        match part {
            Part::Partition(at) => {
                self.logs.insert(*at);
            }
            Part::Document(key) => {
                self.documents.insert(key.clone());
            }
            Part::Garbage(_) | Part::Journal => {}
        }
    }

    pub(super) fn has_log(&self, at: &TopicPartition) -> bool {
        self.logs.contains(at)
    }

    pub(super) fn has_document(&self, key: &Key) -> bool {
        self.documents.contains(key)
    }

    /// A partition was deleted: the next fold tries to delete its log's row.
    pub(super) fn release(&mut self, at: &TopicPartition) {
        let was_parked = self.logs.remove(at);
        self.is_stale |= was_parked || !self.documents.is_empty();
    }

    /// Refuses changes of what is parked, but that it is deleted.
    pub(super) fn check(&self, changes: &Changes, effects: &[Effect]) -> Result<(), StoreError> {
        let log = effects.iter().find_map(|effect| match effect {
            Effect::Append { partition, .. }
            | Effect::Trim { partition, .. }
            | Effect::Clean { partition, .. }
                if self.has_log(partition) =>
            {
                Some(Part::Partition(*partition))
            }
            _ => None,
        });
        let document = || changes.keys().find(|key| self.has_document(key)).cloned().map(Part::Document);
        match log.or_else(document) {
            Some(part) => Err(StoreError(format!("{part} cannot be changed{VERIFY_ADVICE}"))),
            None => Ok(()),
        }
    }

    /// Writes its row, within the transaction that deletes the rows that are folded.
    pub(super) fn write(&self, connection: &Connection, unfolded: &Unfolded) -> rusqlite::Result<()> {
        if !self.is_stale {
            return Ok(());
        }
        connection.execute("DELETE FROM journal WHERE seq = ?1", [PARKED_SEQ])?;
        if self.logs.is_empty() && self.documents.is_empty() {
            return Ok(());
        }
        let (mut row, mut batches) = (Row::new(), Vec::new());
        for key in &self.documents {
            match unfolded.document(key) {
                Some(Some(document)) => row.put(key, &text_of(document)?),
                Some(None) => row.delete(key),
                None => {}
            }
        }
        for at in &self.logs {
            if let Some(log) = unfolded.logs.get(at) {
                row.state(*at, log.as_ref(), &mut batches);
            }
        }
        let insert = "INSERT INTO journal VALUES (?1, ?2, ?3)";
        connection.execute(insert, params![PARKED_SEQ, row.changes, batches])?;
        Ok(())
    }

    /// The row was written.
    pub(super) fn written(&mut self) {
        self.is_stale = false;
    }
}
