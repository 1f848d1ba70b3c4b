//! Writes what commands have decided: batches, logs and documents, within the transaction of a commit.
//!
//! Appends are gathered and written together. All else that concerns logs is seldom, and written at once, after what was
//! gathered before it.

use std::collections::BTreeSet;

use bytes::{BufMut, Bytes, BytesMut};
use futures_util::{SinkExt, join};
use kernel::TopicPartition;
use kernel::records::settled;
use rules::commands::{BatchFacts, CleanedRun, Effect};
use rules::documents::{DocumentKind, PartitionDocument, Prefix, deleted_with_log};
use tokio_postgres::Error;
use uuid::Uuid;

use super::documents::Written;
use super::errors::{Failure, is_lost};
use super::ids::Ids;
use super::index::{BLOCK_BATCHES, FAN_OUT, Known, Searched, Span, Step, Want, look};
use super::locks::{Held, LogRow};
use super::session::{Params, Session};
use crate::engines::StoreError;
use crate::engines::resident::Times;

/// From so many bytes on, batches are copied: that costs a round trip more, and spares the server the array.
const COPY_BYTES_MIN: usize = 256 << 10;
/// The offset that all batches of a deleted log are before.
const WHOLE_LOG: i64 = i64::MAX;

const INSERT_LOGS: &str = "INSERT INTO logs SELECT id, topic, partition, 0, 0, 0
    FROM unnest($1::bigint[], $2::uuid[], $3::int[]) AS s(id, topic, partition)";
const INSERT_DATA: &str = "INSERT INTO batch_data SELECT * FROM unnest($1::bigint[], $2::bytea[])";
const COPY_DATA: &str = "COPY batch_data (id, bytes) FROM STDIN (FORMAT BINARY)";
const INSERT_BATCHES: &str =
    "INSERT INTO batches SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[],
    $4::int[], $5::bigint[], $6::bigint[], $7::bigint[])";
const UPDATE_LOGS: &str =
    "UPDATE logs l SET bytes = s.bytes, tail_start = s.tail_start, tail_batches = s.tail_batches
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::int[]) AS s(id, bytes, tail_start, tail_batches)
    WHERE l.id = s.id";
const CLOSE_BLOCKS: &str = "SELECT close_block(s.log, s.first, s.upto, $4)
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS s(log, first, upto)";
const DELETE_LOG: &str = "DELETE FROM logs WHERE id = $1";
const NOTE_GARBAGE: &str = "INSERT INTO garbage VALUES ($1, $2, NULL)
    ON CONFLICT (log, before_offset) DO UPDATE SET since_ms = NULL";
const OLD_BATCHES: &str =
    "SELECT base_offset, next_offset, bytes::bigint, max_timestamp, undated_ms FROM batches
    WHERE log = $1 AND base_offset >= $2 AND base_offset < $3 ORDER BY base_offset";
const DELETE_BATCHES: &str = "WITH gone AS (DELETE FROM batches WHERE log = $1 AND base_offset >= $2
    AND base_offset < $3 RETURNING data) DELETE FROM batch_data d USING gone WHERE d.id = gone.data";
const REFRESH_SPANS: &str = "SELECT refresh_spans($1, $2, $3, $4)";

/// The statements that are sent together with others.
pub(super) const STATEMENTS: [&str; 5] =
    [INSERT_LOGS, INSERT_DATA, INSERT_BATCHES, UPDATE_LOGS, CLOSE_BLOCKS];

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
}

/// What is to be written together.
#[derive(Default)]
struct Gathered {
    created: (Vec<i64>, Vec<Uuid>, Vec<i32>),
    data: Vec<(i64, [Bytes; 2])>,
    batches: Vec<(i64, Span, i64)>,
    /// Ranges of offsets that become spans, by log.
    blocks: (Vec<i64>, Vec<i64>, Vec<i64>),
    bytes: usize,
}

impl<'a> Write<'a> {
    pub(super) fn new(session: &'a Session, held: &'a mut Held, ids: &'a mut Ids) -> Self {
        Self { session, held, ids, gathered: Gathered::default(), changed: BTreeSet::new() }
    }

    /// Writes effects, or gathers them.
    pub(super) async fn apply(&mut self, effects: &[Effect]) -> Result<(), Failure> {
        self.provide_ids(effects).await.map_err(writing)?;
        for effect in effects {
            match effect {
                Effect::CreateLog { partition } => self.create(*partition)?,
                Effect::Append { partition, base_offset, leader_epoch, batch, appended_ms, payload } => {
                    let bytes = settled(&payload.0, &batch.stored(*base_offset, *leader_epoch));
                    self.append(*partition, span(batch, *base_offset, *appended_ms), bytes)?;
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
        self.held.logs.insert(at, LogRow { id, bytes: 0, tail_start: 0, tail_batches: 0 });
        let (ids, topics, partitions) = &mut self.gathered.created;
        ids.push(id);
        topics.push(at.topic.0);
        partitions.push(at.partition);
        Ok(())
    }

    fn append(&mut self, at: TopicPartition, batch: Span, bytes: [Bytes; 2]) -> Result<(), Failure> {
        let log = self.held.logs.get_mut(&at).ok_or_else(|| no_log(at))?;
        self.gathered.add((log.id, batch), (self.ids.data.take().ok_or_else(no_id)?, bytes));
        log.bytes += batch.bytes;
        log.tail_batches += 1;
        if log.tail_batches >= BLOCK_BATCHES {
            let (logs, from, until) = &mut self.gathered.blocks;
            logs.push(log.id);
            from.push(log.tail_start);
            until.push(batch.next);
            (log.tail_start, log.tail_batches) = (batch.next, 0);
        }
        self.changed.insert(at);
        Ok(())
    }

    async fn trim(&mut self, at: TopicPartition, (was, log_start): (i64, i64)) -> Result<(), Failure> {
        self.flush().await.map_err(writing)?;
        let log = self.held.logs.get_mut(&at).ok_or_else(|| no_log(at))?;
        let searched = Searched { log: log.id, tail_start: log.tail_start, end: log_start };
        let freed = look(self.session, log.id, |known| freed(searched, known, was)).await;
        log.bytes -= freed.map_err(writing)?;
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
        self.session.execute(DELETE_BATCHES, &[&range.0, &range.1, &range.2]).await.map_err(writing)?;
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
            let id = self.ids.data.take().ok_or_else(no_id)?;
            // Its header is final.
            self.gathered.add((log.id, new), (id, [Bytes::new(), batch.payload.0.clone()]));
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
        let gathered = std::mem::take(&mut self.gathered);
        gathered.copy(self.session).await?;
        let (created, data, batches, blocks) = join!(
            gathered.create(self.session),
            gathered.insert_data(self.session),
            gathered.insert_batches(self.session),
            gathered.close_blocks(self.session),
        );
        created.and(data).and(batches).and(blocks)
    }

    /// Writes what is left, and the documents, and commits: all that in one go.
    pub(super) async fn commit(self, documents: &Written) -> Ended {
        if let Err(error) = self.gathered.copy(self.session).await {
            // Nobody has asked to commit yet.
            return Ended::Failed(error);
        }
        let (session, gathered) = (self.session, &self.gathered);
        let rows: Vec<LogRow> =
            self.changed.iter().filter_map(|at| self.held.logs.get(at)).copied().collect();
        let (created, data, batches, logs, blocks, put, deleted, dropped, committed) = join!(
            gathered.create(session),
            gathered.insert_data(session),
            gathered.insert_batches(session),
            update_logs(session, &rows),
            gathered.close_blocks(session),
            documents.put(session),
            documents.delete(session),
            documents.delete_ranges(session),
            session.run("COMMIT"),
        );
        let written = created.and(data).and(batches).and(logs).and(blocks);
        let written = written.and(put).and(deleted).and(dropped);
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

impl Gathered {
    fn add(&mut self, (log, batch): (i64, Span), (id, bytes): (i64, [Bytes; 2])) {
        self.bytes += bytes.iter().map(Bytes::len).sum::<usize>();
        self.data.push((id, bytes));
        self.batches.push((log, batch, id));
    }

    /// Copies the bytes of batches, if they are many.
    async fn copy(&self, session: &Session) -> Result<(), Error> {
        if self.bytes < COPY_BYTES_MIN {
            return Ok(());
        }
        let sink = session.copy_in(COPY_DATA).await?;
        let mut sink = std::pin::pin!(sink);
        let mut buffer = BytesMut::new();
        // The signature, no flags, no extension.
        buffer.put_slice(b"PGCOPY\n\xff\r\n\0");
        buffer.put_i32(0);
        buffer.put_i32(0);
        for (id, [head, rest]) in &self.data {
            // Two columns, each after its length.
            buffer.put_i16(2);
            buffer.put_i32(8);
            buffer.put_i64(*id);
            buffer.put_i32((head.len() + rest.len()) as i32);
            sink.feed(buffer.split().freeze()).await?;
            sink.feed(head.clone()).await?;
            // What is large goes to the socket without being copied before.
            sink.feed(rest.clone()).await?;
        }
        buffer.put_i16(-1);
        sink.feed(buffer.freeze()).await?;
        sink.finish().await.map(drop)
    }

    async fn create(&self, session: &Session) -> Result<(), Error> {
        let (ids, topics, partitions) = &self.created;
        if ids.is_empty() {
            return Ok(());
        }
        session.execute(INSERT_LOGS, &[ids, topics, partitions]).await.map(drop)
    }

    /// Inserts the bytes of batches, if they are few.
    async fn insert_data(&self, session: &Session) -> Result<(), Error> {
        if self.data.is_empty() || self.bytes >= COPY_BYTES_MIN {
            return Ok(());
        }
        let (ids, bytes): (Vec<i64>, Vec<Vec<u8>>) =
            self.data.iter().map(|(id, parts)| (*id, parts.concat())).unzip();
        session.execute(INSERT_DATA, &[&ids, &bytes]).await.map(drop)
    }

    async fn insert_batches(&self, session: &Session) -> Result<(), Error> {
        if self.batches.is_empty() {
            return Ok(());
        }
        let column =
            |value: fn(&(i64, Span, i64)) -> i64| self.batches.iter().map(value).collect::<Vec<i64>>();
        let bytes: Vec<i32> = self.batches.iter().map(|(_, batch, _)| batch.bytes as i32).collect();
        let (logs, base) = (column(|(log, ..)| *log), column(|(_, batch, _)| batch.base));
        let (next, data) = (column(|(_, batch, _)| batch.next), column(|(.., data)| *data));
        let latest = column(|(_, batch, _)| batch.times.written().0);
        let undated = column(|(_, batch, _)| batch.times.written().1);
        session
            .execute(INSERT_BATCHES, &[&logs, &base, &next, &bytes, &latest, &undated, &data])
            .await
            .map(drop)
    }

    async fn close_blocks(&self, session: &Session) -> Result<(), Error> {
        let (logs, from, until) = &self.blocks;
        if logs.is_empty() {
            return Ok(());
        }
        session.query(CLOSE_BLOCKS, &[logs, from, until, &FAN_OUT]).await.map(drop)
    }
}

async fn update_logs(session: &Session, rows: &[LogRow]) -> Result<(), Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let column = |value: fn(&LogRow) -> i64| rows.iter().map(value).collect::<Vec<i64>>();
    let batches: Vec<i32> = rows.iter().map(|row| row.tail_batches).collect();
    let (ids, bytes, tails) = (column(|row| row.id), column(|row| row.bytes), column(|row| row.tail_start));
    session.execute(UPDATE_LOGS, &[&ids, &bytes, &tails, &batches]).await.map(drop)
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

fn no_log(at: TopicPartition) -> Failure {
    let key = PartitionDocument::key(&at);
    Failure::Failed(StoreError(format!(
        "{key} has a document and no log; something other than Yagura has changed the store"
    )))
}
