//! What a commit appends, gathered to be written together.

use bytes::Bytes;
use futures_util::join;
use kernel::TopicPartition;
use kernel::records::rows::{RowRecord, Rows};
use tokio_postgres::Error;
use uuid::Uuid;

use super::index::{FAN_OUT, Span};
use super::parts::{self, Data};
use super::rows::{self, Divided};
use super::session::Session;

/// From so many bytes on, batches are copied: that costs a round trip more, and spares the server the arrays.
const COPY_BYTES_MIN: usize = 256 << 10;

const INSERT_LOGS: &str = "INSERT INTO logs SELECT id, topic, partition, 0, 0, 0, 0
    FROM unnest($1::bigint[], $2::uuid[], $3::int[]) AS s(id, topic, partition)";
const INSERT_BATCHES: &str =
    "INSERT INTO batches SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[],
    $4::int[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bytea[])";
const CLOSE_BLOCKS: &str = "SELECT close_block(s.log, s.first, s.upto, $4)
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS s(log, first, upto)";

/// The statements that are sent together with others.
pub(super) const STATEMENTS: [&str; 3] = [INSERT_LOGS, INSERT_BATCHES, CLOSE_BLOCKS];

/// What is to be written together.
#[derive(Default)]
pub(super) struct Gathered {
    created: (Vec<i64>, Vec<Uuid>, Vec<i32>),
    data: Data,
    divided: Divided,
    batches: Vec<Entry>,
    /// Ranges of offsets that become spans, by log.
    blocks: (Vec<i64>, Vec<i64>, Vec<i64>),
    bytes_as_sent: usize,
    bytes_in_rows: usize,
    records: usize,
}

/// The row of a batch.
struct Entry {
    log: i64,
    batch: Span,
    /// Where its bytes are, or the header that gives it back.
    data: Option<i64>,
    header: Option<Bytes>,
}

impl Gathered {
    /// Adds a log that is created.
    pub(super) fn create(&mut self, id: i64, at: TopicPartition) {
        let (ids, topics, partitions) = &mut self.created;
        ids.push(id);
        topics.push(at.topic.0);
        partitions.push(at.partition);
    }

    /// Adds a batch that is kept as it was sent, in two parts.
    pub(super) fn add(&mut self, log: i64, batch: Span, (id, bytes): (i64, [Bytes; 2])) {
        self.bytes_as_sent += batch.bytes as usize;
        self.data.push((id, bytes));
        self.batches.push(Entry { log, batch, data: Some(id), header: None });
    }

    /// Adds a batch that is kept as rows.
    pub(super) fn add_rows(&mut self, log: i64, batch: Span, rows: Rows) {
        self.bytes_in_rows += batch.bytes as usize;
        self.records += rows.records.len();
        self.batches.push(Entry { log, batch, data: None, header: Some(rows.header.clone()) });
        self.divided.push((log, rows));
    }

    /// Makes a span of a range of offsets of a log.
    pub(super) fn close_block(&mut self, log: i64, (from, until): (i64, i64)) {
        let (logs, first, upto) = &mut self.blocks;
        logs.push(log);
        first.push(from);
        upto.push(until);
    }

    /// About how much memory it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes_as_sent + self.bytes_in_rows + self.records * size_of::<RowRecord>()
    }

    /// Writes all of it, within a transaction that goes on.
    pub(super) async fn write(self, session: &Session) -> Result<(), Error> {
        self.copy(session).await?;
        self.insert(session).await
    }

    /// Writes what was not copied, by statements that are sent together.
    pub(super) async fn insert(&self, session: &Session) -> Result<(), Error> {
        let (created, data, rows, batches, blocks) = join!(
            self.insert_logs(session),
            self.insert_data(session),
            self.insert_rows(session),
            self.insert_batches(session),
            self.close_blocks(session),
        );
        created.and(data).and(rows).and(batches).and(blocks)
    }

    /// Copies the bytes of batches and rows, if they are many. What is left is written by one statement each.
    pub(super) async fn copy(&self, session: &Session) -> Result<(), Error> {
        if self.bytes_as_sent >= COPY_BYTES_MIN {
            parts::copy(session, &self.data).await?;
        }
        if self.bytes_in_rows >= COPY_BYTES_MIN {
            rows::copy_all(session, &self.divided).await?;
        }
        Ok(())
    }

    async fn insert_logs(&self, session: &Session) -> Result<(), Error> {
        let (ids, topics, partitions) = &self.created;
        if ids.is_empty() {
            return Ok(());
        }
        session.execute(INSERT_LOGS, &[ids, topics, partitions]).await.map(drop)
    }

    /// Inserts the bytes of batches, if they are few.
    async fn insert_data(&self, session: &Session) -> Result<(), Error> {
        if self.data.is_empty() || self.bytes_as_sent >= COPY_BYTES_MIN {
            return Ok(());
        }
        parts::insert(session, &self.data).await
    }

    /// Inserts rows, if they are few.
    async fn insert_rows(&self, session: &Session) -> Result<(), Error> {
        if self.bytes_in_rows >= COPY_BYTES_MIN {
            return Ok(());
        }
        rows::insert(session, &self.divided).await
    }

    async fn insert_batches(&self, session: &Session) -> Result<(), Error> {
        if self.batches.is_empty() {
            return Ok(());
        }
        let column = |value: fn(&Entry) -> i64| self.batches.iter().map(value).collect::<Vec<i64>>();
        let (logs, base, next) =
            (column(|of| of.log), column(|of| of.batch.base), column(|of| of.batch.next));
        let latest = column(|of| of.batch.times.written().0);
        let undated = column(|of| of.batch.times.written().1);
        let bytes: Vec<i32> = self.batches.iter().map(|of| of.batch.bytes as i32).collect();
        let data: Vec<Option<i64>> = self.batches.iter().map(|of| of.data).collect();
        let headers: Vec<Option<&[u8]>> = self.batches.iter().map(|of| of.header.as_deref()).collect();
        let columns: [&(dyn tokio_postgres::types::ToSql + Sync); 8] =
            [&logs, &base, &next, &bytes, &latest, &undated, &data, &headers];
        session.execute(INSERT_BATCHES, &columns).await.map(drop)
    }

    async fn close_blocks(&self, session: &Session) -> Result<(), Error> {
        let (logs, from, until) = &self.blocks;
        if logs.is_empty() {
            return Ok(());
        }
        session.query(CLOSE_BLOCKS, &[logs, from, until, &FAN_OUT]).await.map(drop)
    }
}
