//! The outbox: messages that programs insert by SQL, within transactions of their own, and that the broker moves into the log.
//!
//! Ids are handed out before a transaction commits, so that a lower one may become visible after a higher one. What is read
//! together is what one snapshot shows, in the order of ids: a message that another's transaction had seen is in the same snapshot
//! or an earlier one. What a later snapshot may show in addition is told by the transactions that were open then, and by those
//! that came after: so looking costs as much as there is to find, also while a transaction that is left open keeps the
//! server from removing what was moved.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kernel::kafka_name::kafka_name;
use kernel::metrics::{Counter, MetricKind, Page};
use kernel::ports::BoxFuture;
use rules::commands::{Applied, Command, Outcome};
use tokio::sync::{Mutex, Notify, oneshot};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Error, Row};

use super::calls::{Call, Queue};
use super::connect::Server;
use super::errors::{Failure, failed};
use super::metrics::Purpose;
use super::pool::Pool;
use super::session::Session;
use crate::engines::outbox::{Message, Move, Outbox, Rejection};
use crate::engines::resident::OutboxGauge;
use crate::engines::{Pending, StoreError};

/// Messages of a page.
const PAGE_MESSAGES_MAX: i64 = 1_024;
/// Bytes of a page, and one message more.
const PAGE_BYTES_MAX: i64 = 4 << 20;
/// Pages that are read from one snapshot: the server keeps what is deleted for as long as one is open.
const PAGES_MAX: usize = 64;

const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const LISTEN: &str = "LISTEN yagura_outbox";
const FIRST: &str = "SELECT pg_current_snapshot()::text, (SELECT id FROM outbox ORDER BY id LIMIT 1)";
/// Adding 0 keeps the planner from walking the ids from the lowest on, most of which may be dead.
const FIRST_SINCE: &str = "SELECT pg_current_snapshot()::text, (SELECT min(id + 0) FROM (
    SELECT id FROM outbox WHERE xact >= $1::text::xid8
    UNION ALL SELECT id FROM outbox WHERE xact = ANY($2::text[]::xid8[])) since(id))";
const PAGE: &str = "SELECT id, topic, partition, key, value, headers::text, timestamp_ms FROM (
    SELECT few.*, (sum(bytes) OVER (ORDER BY id))::bigint - bytes AS before FROM (
    SELECT * FROM outbox WHERE id >= $1 ORDER BY id LIMIT $2) few) few WHERE before < $3 ORDER BY id";
/// A message may have been rejected before, and put back with its id.
const REJECT: &str =
    "WITH gone AS (DELETE FROM outbox o USING unnest($1::bigint[], $2::text[], $3::text[]) AS r(id, error, reason)
    WHERE o.id = r.id RETURNING o.id, o.topic, o.partition, o.key, o.value, o.headers,
    o.timestamp_ms, r.error, r.reason)
    INSERT INTO outbox_rejected SELECT id, topic, partition, key, value, headers, timestamp_ms, error, reason FROM gone
    ON CONFLICT (id) DO UPDATE SET topic = excluded.topic, partition = excluded.partition, key = excluded.key,
    value = excluded.value, headers = excluded.headers, timestamp_ms = excluded.timestamp_ms, error = excluded.error,
    reason = excluded.reason, rejected_at = now()";
const SETTLE: &str = "SELECT settle_outbox($1, $2, $3, $4)";
const FORGET: &str = "DELETE FROM outbox_positions WHERE id IN (SELECT id FROM outbox_positions
    WHERE moved_at < now() - interval '1 day' ORDER BY moved_at LIMIT $1)";
/// Positions that one statement forgets.
const FORGOTTEN_MAX: i64 = 1_000;

/// How many messages wait, but no more are counted than this, and the first of them.
const GAUGE: &str =
    "SELECT (SELECT count(*) FROM (SELECT FROM outbox LIMIT $1) AS few), (SELECT min(id) FROM outbox)";
const WAITING_MAX: i64 = 10_000;
const BEGIN_GAUGE: &str = "BEGIN READ ONLY; SET LOCAL statement_timeout = '500ms'";
/// The statements that are sent together with others.
pub(super) const STATEMENTS: [&str; 1] = [SETTLE];

/// The outbox of a store. Clones share it.
#[derive(Clone)]
pub(super) struct PostgresOutbox(Arc<Shared>);

struct Shared {
    server: Arc<Server>,
    /// For statements beside the snapshot that pages are read from.
    pool: Arc<Pool>,
    queue: Arc<Queue>,
    woken: Arc<Notify>,
    poll: Duration,
    reading: Mutex<Option<Reading>>,
    /// Is notified once the connection that listens has ended.
    closed: parking_lot::Mutex<Arc<Notify>>,
    moved: Counter,
    rejected: Counter,
    /// The oldest message of the last look at metrics, and when one has first found it.
    oldest: parking_lot::Mutex<Option<(i64, Instant)>>,
}

/// A connection that listens, and reads pages.
struct Reading {
    session: Session,
    seen: Option<Snapshot>,
    drain: Option<Drain>,
}

/// What a snapshot does not show: what transactions insert that were open, or begin later.
struct Snapshot {
    open: Vec<String>,
    later_from: String,
}

/// A snapshot that pages are read from.
struct Drain {
    snapshot: Snapshot,
    next_id: i64,
    pages: usize,
}

impl Snapshot {
    /// Reads the server's form of one: the lowest open transaction, the first of later ones, and all open ones.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split(':');
        let (_, later_from, open) = (parts.next()?, parts.next()?, parts.next()?);
        let open = open.split(',').filter(|one| !one.is_empty()).map(str::to_owned).collect();
        Some(Self { open, later_from: later_from.to_owned() })
    }
}

impl PostgresOutbox {
    pub(super) fn new(server: Arc<Server>, pool: Arc<Pool>, queue: Arc<Queue>) -> Self {
        let (woken, poll) = (server.notified(), server.outbox_poll());
        let (reading, moved, rejected) = (Mutex::default(), Counter::default(), Counter::default());
        let (closed, oldest) = (parking_lot::Mutex::default(), parking_lot::Mutex::default());
        Self(Arc::new(Shared { server, pool, queue, woken, poll, reading, closed, moved, rejected, oldest }))
    }

    /// Looks at how many messages wait, and for how long. It counts no more than the page shows, and gives up where rows that were
    /// moved, which a long transaction keeps from being vacuumed, stand in the way.
    pub(super) async fn gauge(&self) -> Result<Option<OutboxGauge>, StoreError> {
        let look = |session: Arc<Session>| async move {
            let looking = |error: Error| Failure::of("looking at the outbox of", &error);
            session.run(BEGIN_GAUGE).await.map_err(looking)?;
            let rows = match session.query(GAUGE, &[&WAITING_MAX]).await {
                Err(error) if error.code() == Some(&SqlState::QUERY_CANCELED) => Ok(Vec::new()),
                rows => rows.map_err(looking),
            };
            session.run("ROLLBACK").await.map_err(looking)?;
            Ok(rows?.first().map(|row| (row.get::<_, i64>(0), row.get::<_, Option<i64>>(1))))
        };
        let Some((waiting, oldest)) = self.0.pool.read(Purpose::Outbox, look).await? else { return Ok(None) };
        let mut known = self.0.oldest.lock();
        *known = oldest.map(|oldest| match *known {
            Some((id, since)) if id == oldest => (id, since),
            _ => (oldest, Instant::now()),
        });
        let oldest = known.map_or(Duration::ZERO, |(_, since)| since.elapsed());
        Ok(Some(OutboxGauge { waiting: waiting.unsigned_abs(), oldest }))
    }

    /// Writes its metrics.
    pub(super) fn collect(&self, page: &mut Page) {
        let help = "Messages taken out of the outbox: moved into the log, or rejected.";
        page.family("yagura_outbox_messages_total", MetricKind::Counter, help);
        page.sample(&[("outcome", "moved")], self.0.moved.get() as f64);
        page.sample(&[("outcome", "rejected")], self.0.rejected.get() as f64);
    }
}

impl Shared {
    async fn page(&self, has_left: bool) -> Result<Vec<Message>, StoreError> {
        // Whoever is cut off leaves nothing half read: the connection goes with it.
        let mut state = self.reading.lock().await;
        let mut reading = match state.take().filter(|reading| !reading.session.is_closed()) {
            Some(reading) => reading,
            None => self.listen().await?,
        };
        let page = reading.page(has_left).await.map_err(|error| failed("reading the outbox of", &error))?;
        *state = Some(reading);
        Ok(page)
    }

    async fn listen(&self) -> Result<Reading, StoreError> {
        let session = self.server.connect_patiently().await?;
        session.run(LISTEN).await.map_err(|error| failed("listening to", &error))?;
        *self.closed.lock() = Arc::clone(&session.closed);
        Ok(Reading { session, seen: None, drain: None })
    }

    async fn reject(&self, rejected: Vec<Rejection>) -> Result<(), StoreError> {
        let ids: Vec<i64> = rejected.iter().map(|one| one.id).collect();
        let errors: Vec<String> = rejected.iter().map(|one| kafka_name(one.why.error)).collect();
        let reasons: Vec<String> =
            rejected.into_iter().map(|one| one.why.message.replace('\0', "")).collect();
        let count = ids.len();
        let columns = Arc::new((ids, errors, reasons));
        let reject = move |session: Arc<Session>| {
            let columns = Arc::clone(&columns);
            async move {
                let (ids, errors, reasons) = &*columns;
                let rejecting = |error: Error| Failure::of("rejecting messages of", &error);
                session.execute(REJECT, &[ids, errors, reasons]).await.map(drop).map_err(rejecting)
            }
        };
        self.pool.read(Purpose::Outbox, reject).await?;
        self.rejected.add(count as u64);
        Ok(())
    }
}

impl Reading {
    async fn page(&mut self, has_left: bool) -> Result<Vec<Message>, Error> {
        // A new snapshot would begin with those that were left, and never come further if they are many.
        if !has_left && self.drain.as_ref().is_some_and(|drain| drain.pages >= PAGES_MAX) {
            // What it has not shown yet is there in the next one.
            self.drain = None;
            self.session.run("COMMIT").await?;
        }
        let mut drain = match self.drain.take() {
            Some(drain) => drain,
            None => match self.begin().await? {
                Some(drain) => drain,
                None => return Ok(Vec::new()),
            },
        };
        let limits = (drain.next_id, PAGE_MESSAGES_MAX, PAGE_BYTES_MAX);
        let rows = self.session.query(PAGE, &[&limits.0, &limits.1, &limits.2]).await?;
        match rows.last() {
            Some(last) => {
                drain.next_id = last.try_get::<_, i64>(0)?.saturating_add(1);
                drain.pages += 1;
                self.drain = Some(drain);
            }
            None => self.end(drain.snapshot).await?,
        }
        rows.iter().map(message).collect()
    }

    /// Takes a snapshot; `None` if it shows nothing new.
    async fn begin(&mut self) -> Result<Option<Drain>, Error> {
        self.session.run(BEGIN).await?;
        let rows = match &self.seen {
            None => self.session.query(FIRST, &[]).await?,
            Some(Snapshot { open, later_from }) => {
                self.session.query(FIRST_SINCE, &[later_from, open]).await?
            }
        };
        let Some(row) = rows.first() else { return Ok(None) };
        // Without one that can be read, all is looked at the next time.
        let (snapshot, first): (&str, Option<i64>) = (row.try_get(0)?, row.try_get(1)?);
        let snapshot = Snapshot::parse(snapshot)
            .unwrap_or_else(|| Snapshot { open: Vec::new(), later_from: "0".to_owned() });
        match first {
            Some(next_id) => Ok(Some(Drain { snapshot, next_id, pages: 0 })),
            None => self.end(snapshot).await.map(|()| None),
        }
    }

    async fn end(&mut self, snapshot: Snapshot) -> Result<(), Error> {
        self.seen = Some(snapshot);
        self.session.run("COMMIT").await
    }
}

fn message(row: &Row) -> Result<Message, Error> {
    let bytes =
        |index: usize| row.try_get::<_, Option<&[u8]>>(index).map(|of| of.map(Bytes::copy_from_slice));
    Ok(Message {
        id: row.try_get(0)?,
        topic: Arc::from(row.try_get::<_, &str>(1)?),
        partition: row.try_get(2)?,
        key: bytes(3)?,
        value: bytes(4)?,
        headers: row.try_get(5)?,
        timestamp_ms: row.try_get(6)?,
    })
}

impl Outbox for PostgresOutbox {
    fn page(&self, has_left: bool) -> Pending<Vec<Message>> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.page(has_left).await })
    }

    fn begin_anew(&self) -> BoxFuture<'static, ()> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { *shared.reading.lock().await = None })
    }

    fn settle(&self, moves: Vec<Move>) -> Pending<Vec<Outcome>> {
        let (answer, answered) = oneshot::channel();
        let mut messages = Vec::with_capacity(moves.len());
        let commands = moves.into_iter().map(|Move { ids, topic, append }| {
            messages.push(FromOutbox { ids, topic, partition: append.partition.partition });
            Command::Append(append)
        });
        let call = Call::new(commands.collect(), Vec::new(), answer);
        let counts: Vec<usize> = messages.iter().map(|of| of.ids.len()).collect();
        self.0.queue.push(call.appending(messages));
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let closed = || StoreError("the store is closed".to_owned());
            let outcomes = answered.await.unwrap_or_else(|_| Err(closed()))?;
            let moved = counts.iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
            shared.moved.add(moved.map(|(count, _)| *count as u64).sum());
            Ok(outcomes)
        })
    }

    fn reject(&self, rejected: Vec<Rejection>) -> Pending<()> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move { shared.reject(rejected).await })
    }

    fn woken(&self) -> BoxFuture<'static, ()> {
        let shared = Arc::clone(&self.0);
        Box::pin(async move {
            let closed = Arc::clone(&*shared.closed.lock());
            tokio::select! {
                () = shared.woken.notified() => {}
                // Notifications may be lost with it.
                () = closed.notified() => {}
                // Where nobody notifies.
                () = tokio::time::sleep(shared.poll) => {}
            }
        })
    }
}

/// Messages that are taken out of the outbox if a command appends them.
pub(super) struct FromOutbox {
    ids: Vec<i64>,
    topic: Arc<str>,
    partition: i32,
}

/// What a commit takes out of the outbox, and where it is then.
#[derive(Default)]
pub(super) struct Settled {
    ids: Vec<i64>,
    topics: Vec<String>,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
}

impl Settled {
    /// That of calls with these outcomes.
    pub(super) fn of(calls: &[Call], outcomes: &[Vec<Outcome>]) -> Self {
        let mut settled = Self::default();
        for (call, outcomes) in calls.iter().zip(outcomes) {
            for (messages, outcome) in call.from_outbox.iter().zip(outcomes) {
                if let Ok(Applied::Appended { base_offset, .. }) = outcome {
                    settled.add(messages, *base_offset);
                }
            }
        }
        settled
    }

    fn add(&mut self, messages: &FromOutbox, base_offset: i64) {
        for (offset, id) in (base_offset..).zip(&messages.ids) {
            self.ids.push(*id);
            self.topics.push(messages.topic.to_string());
            self.partitions.push(messages.partition);
            self.offsets.push(offset);
        }
    }

    /// Takes them out, within the transaction.
    pub(super) async fn write(&self, session: &Session) -> Result<(), Error> {
        if self.ids.is_empty() {
            return Ok(());
        }
        session.query(SETTLE, &[&self.ids, &self.topics, &self.partitions, &self.offsets]).await.map(drop)
    }
}

/// Forgets where messages are that were moved long ago; returns whether there are more of them.
pub(super) async fn forget(session: &Session) -> Result<bool, Error> {
    Ok(session.execute(FORGET, &[&FORGOTTEN_MAX]).await? == FORGOTTEN_MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_tells_what_it_does_not_show() {
        let parsed = |text: &str| Snapshot::parse(text).map(|of| (of.later_from, of.open));
        assert_eq!(parsed("10:14:10,12"), Some(("14".to_owned(), vec!["10".to_owned(), "12".to_owned()])));
        assert_eq!(parsed("20:20:"), Some(("20".to_owned(), Vec::new())));
        assert_eq!(parsed("20"), None);
    }
}
