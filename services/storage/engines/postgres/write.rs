//! Writes what commands have decided: batches, logs and documents, within the transaction of a commit.
//!
//! Appends are gathered and written together. All else that concerns logs is seldom, and written at once, after what was
//! gathered before it.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures_util::join;
use kernel::TopicPartition;
use kernel::records::{Batch, StoredHeader, settled};
use rules::commands::{BatchFacts, CleanedRun, Effect};
use rules::documents::{DocumentKind, PartitionDocument, Prefix, deleted_with_log};
use tokio_postgres::Error;

use super::documents::Written;
use super::errors::{Failure, is_lost};
use super::gathered::Gathered;
use super::ids::Ids;
use super::index::{BLOCK_BATCHES, Known, Searched, Span, Step, Want, look};
use super::layout::{Layout, TopicChanges};
use super::locks::{Held, LogRow};
use super::outbox::Settled;
use super::rows::rows_of;
use super::session::{Params, Session};
use crate::engines::StoreError;
use crate::engines::resident::Times;

/// The offset that all batches of a deleted log are before.
const WHOLE_LOG: i64 = i64::MAX;
/// Bytes that are gathered at most: a compressed batch may have many more as rows.
const GATHERED_BYTES_MAX: usize = 16 << 20;

const UPDATE_LOGS: &str =
    "UPDATE logs l SET log_start = s.log_start, bytes = s.bytes, tail_start = s.tail_start,
    tail_batches = s.tail_batches FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::int[])
    AS s(id, log_start, bytes, tail_start, tail_batches) WHERE l.id = s.id";
const DELETE_LOG: &str = "DELETE FROM logs WHERE id = $1";
const NOTE_GARBAGE: &str = "INSERT INTO garbage VALUES ($1, $2, NULL)
    ON CONFLICT (log, before_offset) DO UPDATE SET since_ms = NULL";
const OLD_BATCHES: &str =
    "SELECT base_offset, next_offset, bytes::bigint, max_timestamp, undated_ms FROM batches
    WHERE log = $1 AND base_offset >= $2 AND base_offset < $3 ORDER BY base_offset";
const DELETE_BATCHES: &str = "WITH gone AS (DELETE FROM batches WHERE log = $1 AND base_offset >= $2
    AND base_offset < $3 RETURNING data) DELETE FROM batch_data d USING gone WHERE d.id = gone.data";
const DELETE_ROWS: &str =
    "DELETE FROM record_rows WHERE log = $1 AND record_offset >= $2 AND record_offset < $3";
const REFRESH_SPANS: &str = "SELECT refresh_spans($1, $2, $3, $4)";

/// The statements that are sent together with others.
pub(super) const STATEMENTS: [&str; 1] = [UPDATE_LOGS];

/// How a transaction has ended that was to be committed.
pub(super) enum Ended {
    Committed,
    /// It was rolled back.
    Failed(Error),
    /// Only the server knows: the connection was lost.
    Unknown(Error),
}

/// What is written in one transaction.
pub(super) struct Write<'a> {
    session: &'a Session,
    held: &'a mut Held,
    ids: &'a mut Ids,
    gathered: Gathered,
    /// Logs whose rows have changed.
    changed: BTreeSet<TopicPartition>,
    topics: &'a TopicChanges,
}

impl<'a> Write<'a> {
    pub(super) fn new(
        session: &'a Session,
        held: &'a mut Held,
        ids: &'a mut Ids,
        topics: &'a TopicChanges,
    ) -> Self {
        Self { session, held, ids, gathered: Gathered::default(), changed: BTreeSet::new(), topics }
    }

    /// Writes effects, or gathers them.
    pub(super) async fn apply(&mut self, effects: &[Effect]) -> Result<(), Failure> {
        self.provide_ids(effects).await.map_err(writing)?;
        for effect in effects {
            match effect {
                Effect::CreateLog { partition } => self.create(*partition)?,
                Effect::Append { partition, base_offset, leader_epoch, batch, appended_ms, payload } => {
                    let header = batch.stored(*base_offset, *leader_epoch);
                    let batch = span(batch, *base_offset, *appended_ms);
                    self.append(*partition, batch, &payload.0, &header)?;
                    if self.gathered.bytes() >= GATHERED_BYTES_MAX {
                        self.flush().await.map_err(writing)?;
                    }
                }
                Effect::Trim { partition, was, log_start } => {
                    self.trim(*partition, (*was, *log_start)).await?;
                }
                Effect::Clean { partition, run } => self.clean(*partition, run).await?,
                Effect::DropLog { partition } => self.drop_log(*partition).await?,
            }
        }
        Ok(())
    }

    async fn provide_ids(&mut self, effects: &[Effect]) -> Result<(), Error> {
        let (mut logs, mut data) = (0, 0);
        for effect in effects {
            match effect {
                Effect::CreateLog { .. } => logs += 1,
                Effect::Append { .. } => data += 1,
                Effect::Clean { run, .. } => data += run.batches.len(),
                Effect::Trim { .. } | Effect::DropLog { .. } => {}
            }
        }
        self.ids.logs.provide(self.session, logs).await?;
        self.ids.data.provide(self.session, data).await
    }

    fn create(&mut self, at: TopicPartition) -> Result<(), Failure> {
        let id = self.ids.logs.take().ok_or_else(no_id)?;
        // Its topic is made, or changed, in the same commit.
        let layout = self.topics.known.get(&at.topic).copied().unwrap_or(Layout::Batches);
        self.held
            .logs
            .insert(at, LogRow { id, log_start: 0, bytes: 0, tail_start: 0, tail_batches: 0, layout });
        self.gathered.create(id, at);
        Ok(())
    }

    fn append(
        &mut self,
        at: TopicPartition,
        batch: Span,
        bytes: &Bytes,
        header: &StoredHeader,
    ) -> Result<(), Failure> {
        let batch = self.store(at, batch, bytes, header)?;
        let log = self.held.logs.get_mut(&at).ok_or_else(|| no_log(at))?;
        log.bytes += batch.bytes;
        log.tail_batches += 1;
        if log.tail_batches >= BLOCK_BATCHES {
            self.gathered.close_block(log.id, (log.tail_start, batch.next));
            (log.tail_start, log.tail_batches) = (batch.next, 0);
        }
        self.changed.insert(at);
        Ok(())
    }

    /// Gathers a batch as its topic says; returns it with the bytes that it has then.
    fn store(
        &mut self,
        at: TopicPartition,
        batch: Span,
        bytes: &Bytes,
        header: &StoredHeader,
    ) -> Result<Span, Failure> {
        let log = self.held.logs.get(&at).ok_or_else(|| no_log(at))?;
        let layout = self.topics.known.get(&at.topic).copied().unwrap_or(log.layout);
        let rows = if layout == Layout::Rows { rows_of(bytes, header) } else { None };
        match rows {
            Some(rows) => {
                let batch = Span { bytes: rows.bytes as i64, ..batch };
                self.gathered.add_rows(log.id, batch, rows);
                Ok(batch)
            }
            None => {
                let id = self.ids.data.take().ok_or_else(no_id)?;
                self.gathered.add(log.id, batch, (id, settled(bytes, header)));
                Ok(batch)
            }
        }
    }

    async fn trim(&mut self, at: TopicPartition, (was, log_start): (i64, i64)) -> Result<(), Failure> {
        self.flush().await.map_err(writing)?;
        let log = self.held.logs.get_mut(&at).ok_or_else(|| no_log(at))?;
        let searched = Searched { log: log.id, tail_start: log.tail_start, end: log_start };
        let freed = look(self.session, log.id, |known| freed(searched, known, was)).await;
        log.bytes -= freed.map_err(writing)?;
        log.log_start = log_start;
        let id = log.id;
        self.changed.insert(at);
        self.session.execute(NOTE_GARBAGE, &[&id, &log_start]).await.map_err(writing)?;
        Ok(())
    }

    /// Replaces batches that compaction has worked on.
    async fn clean(&mut self, at: TopicPartition, run: &CleanedRun) -> Result<(), Failure> {
        self.flush().await.map_err(writing)?;
        let log = *self.held.logs.get(&at).ok_or_else(|| no_log(at))?;
        let range = (log.id, run.from, run.until);
        let old = self.session.query(OLD_BATCHES, &[&range.0, &range.1, &range.2]).await.map_err(writing)?;
        let old: Vec<Span> = old.iter().map(Span::of).collect();
        for delete in [DELETE_BATCHES, DELETE_ROWS] {
            self.session.execute(delete, &[&range.0, &range.1, &range.2]).await.map_err(writing)?;
        }
        let mut tail_start = log.tail_start;
        let mut bytes = log.bytes - old.iter().map(|batch| batch.bytes).sum::<i64>();
        for batch in &run.batches {
            let before = old.binary_search_by_key(&batch.base_offset, |entry| entry.base);
            let times = before.map(|index| old[index].times).unwrap_or_default();
            let new = Span {
                base: batch.base_offset,
                next: batch.next_offset,
                bytes: batch.payload.0.len() as i64,
                times: times.replaced(batch.max_timestamp, batch.has_records),
            };
            let header = header_of(&batch.payload.0).ok_or_else(|| no_batch(at, batch.base_offset))?;
            let new = self.store(at, new, &batch.payload.0, &header)?;
            bytes += new.bytes;
            if new.base < log.tail_start {
                tail_start = tail_start.max(new.next);
            }
        }
        self.flush().await.map_err(writing)?;
        if run.from < log.tail_start {
            let range: Params<'_> = &[&log.id, &run.from, &run.until, &tail_start];
            self.session.query(REFRESH_SPANS, range).await.map_err(writing)?;
        }
        self.held.logs.insert(at, LogRow { bytes, tail_start, ..log });
        self.changed.insert(at);
        Ok(())
    }

    async fn drop_log(&mut self, at: TopicPartition) -> Result<(), Failure> {
        // A damaged topic can still be deleted.
        let Some(log) = self.held.logs.remove(&at) else { return Ok(()) };
        self.changed.remove(&at);
        self.flush().await.map_err(writing)?;
        self.session.execute(NOTE_GARBAGE, &[&log.id, &WHOLE_LOG]).await.map_err(writing)?;
        self.session.execute(DELETE_LOG, &[&log.id]).await.map(drop).map_err(writing)
    }

    /// Writes what was gathered.
    async fn flush(&mut self) -> Result<(), Error> {
        std::mem::take(&mut self.gathered).write(self.session).await
    }

    /// Writes what is left, and the documents, and commits: all that in one go, so each of these is one statement.
    pub(super) async fn commit(self, documents: &Written, settled: &Settled) -> Ended {
        if let Err(error) = self.gathered.copy(self.session).await {
            // Nobody has asked to commit yet.
            return Ended::Failed(error);
        }
        let session = self.session;
        let changed = self.changed.iter().filter_map(|at| self.held.logs.get(at));
        let logs: Vec<LogRow> = changed.copied().collect();
        let (written, logs, settled, topics, gone, put, deleted, dropped, committed) = join!(
            self.gathered.insert(session),
            update_logs(session, &logs),
            settled.write(session),
            self.topics.put(session),
            self.topics.delete(session),
            documents.put(session),
            documents.delete(session),
            documents.delete_ranges(session),
            session.run("COMMIT"),
        );
        let written = written.and(logs).and(settled).and(topics).and(gone).and(put).and(deleted).and(dropped);
        ended(written, committed)
    }
}

/// How a transaction has ended whose statements and COMMIT were sent together. After one that failed, the server answers COMMIT
/// by rolling back, and says that this went well.
fn ended(written: Result<(), Error>, committed: Result<(), Error>) -> Ended {
    match (written, committed) {
        (Ok(()), Ok(())) => Ended::Committed,
        (Err(error), _) | (Ok(()), Err(error)) if is_lost(&error) => Ended::Unknown(error),
        (Err(_), Err(error)) if is_lost(&error) => Ended::Unknown(error),
        (Err(error), _) | (Ok(()), Err(error)) => Ended::Failed(error),
    }
}

async fn update_logs(session: &Session, rows: &[LogRow]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let column = |value: fn(&LogRow) -> i64| rows.iter().map(value).collect::<Vec<i64>>();
    let batches: Vec<i32> = rows.iter().map(|row| row.tail_batches).collect();
    let (ids, bytes, tails) = (column(|row| row.id), column(|row| row.bytes), column(|row| row.tail_start));
    let starts = column(|row| row.log_start);
    session.execute(UPDATE_LOGS, &[&ids, &starts, &bytes, &tails, &batches]).await.map(drop)
}

/// The bytes of the batches of a log that begin at or after an offset.
fn freed(log: Searched, known: &Known, from: i64) -> Result<i64, Want> {
    let mut freed = 0;
    log.search(known, from, &mut |span| {
        freed += span.bytes;
        Step::Over
    })?;
    Ok(freed)
}

/// The keys of the documents that are deleted with the logs of a commit.
pub(super) fn deleted_documents(effects: &[Effect]) -> Vec<Prefix> {
    let dropped = effects.iter().filter_map(|effect| match effect {
        Effect::DropLog { partition } => Some(*partition),
        _ => None,
    });
    dropped.flat_map(deleted_with_log).collect()
}

fn span(batch: &BatchFacts, base: i64, appended_ms: i64) -> Span {
    let next = base + i64::from(batch.record_count);
    Span { base, next, bytes: i64::from(batch.bytes), times: Times::of(batch, appended_ms) }
}

fn writing(error: Error) -> Failure {
    Failure::of("writing", &error)
}

fn no_id() -> Failure {
    Failure::Failed(StoreError(
        "a commit needs more ids than were counted; this is a bug in Yagura".to_owned(),
    ))
}

/// What the header of a batch says already.
fn header_of(batch: &Bytes) -> Option<StoredHeader> {
    let batch = Batch::split_first(&mut batch.clone())?;
    Some(StoredHeader {
        base_offset: batch.base_offset(),
        leader_epoch: batch.leader_epoch(),
        attributes: batch.attributes(),
        max_timestamp: batch.max_timestamp(),
    })
}

fn no_batch(at: TopicPartition, offset: i64) -> Failure {
    let key = PartitionDocument::key(&at);
    Failure::Failed(StoreError(format!(
        "compaction has made something that is no batch of {key} at offset {offset}; this is a bug in Yagura"
    )))
}

fn no_log(at: TopicPartition) -> Failure {
    let key = PartitionDocument::key(&at);
    Failure::Failed(StoreError(format!(
        "{key} has a document and no log; something other than Yagura has changed the store"
    )))
}
