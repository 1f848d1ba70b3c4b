//! What a commit locks, in one order for all.
//!
//! A partition is locked by the row of its log. Everything else is locked by rows that exist for nothing else: a lock root is
//! hashed to one of 4,096 of its class, so that neither shared memory nor a table grows with what was ever locked. Two roots that
//! share a row only wait for each other. What does not exist needs no lock of its own: a partition is made under the lock of
//! its topic's name, and nobody knows of it before.
//!
//! The order of classes is that in which commands find out what they need, so that a commit which learns that it needs more
//! can mostly go on.

use std::collections::{BTreeMap, BTreeSet};

use kernel::TopicPartition;
use rules::documents::{Key, LockRoot, lock_root};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::layout::Layout;
use super::session::Session;

/// Rows of a class.
const STRIPES: u32 = 4_096;
/// Classes beside partitions: transactional ids, topic ids, topic names, groups, other resources.
const CLASSES: u32 = 5;
/// The row of what exists once per store.
const STORE: i32 = (CLASSES * STRIPES) as i32;
/// The greatest row.
pub(super) const LAST_STRIPE: i32 = STORE;

/// A row to be locked. They are locked in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Lock {
    /// A row of `locks`.
    Stripe(i32),
    /// The row of a log.
    Log(TopicPartition),
    /// The last row of `locks`: whatever needs it finds that out at the end, and holds it briefly.
    Store,
}

impl Lock {
    /// The lock of a document; `None` if no kind has such a key.
    pub(super) fn of(key: &Key) -> Option<Self> {
        let (class, text) = match lock_root(key)? {
            LockRoot::Store => return Some(Lock::Store),
            LockRoot::Partition(at) => return Some(Lock::Log(at)),
            LockRoot::Transaction(id) => (0, id),
            LockRoot::TopicId(id) => (1, id.0.to_string().into()),
            LockRoot::TopicName(name) => (2, name),
            LockRoot::Group(group) => (3, group),
            LockRoot::Resource(_, name) => (4, name),
        };
        let stripe = crc32c::crc32c(text.as_bytes()) % STRIPES;
        Some(Lock::Stripe((class * STRIPES + stripe) as i32))
    }
}

/// Whether a commit waits for a lock that somebody else holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    Yes,
    No,
}

/// A log's row, as it was locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogRow {
    pub(super) id: i64,
    pub(super) log_start: i64,
    /// Bytes of its batches, from the log start offset on.
    pub(super) bytes: i64,
    /// Where its spans end.
    pub(super) tail_start: i64,
    /// How many batches follow, or were there before compaction.
    pub(super) tail_batches: i32,
    /// How what is appended is kept.
    pub(super) layout: Layout,
}

impl LogRow {
    fn of(row: &Row) -> Self {
        let layout = row.get::<_, Option<&str>>(7).and_then(Layout::parse);
        Self {
            id: row.get(2),
            log_start: row.get(3),
            bytes: row.get(4),
            tail_start: row.get(5),
            tail_batches: row.get(6),
            layout: layout.unwrap_or(Layout::Batches),
        }
    }
}

/// What a commit holds.
#[derive(Default)]
pub(super) struct Held {
    locks: BTreeSet<Lock>,
    /// The logs that exist.
    pub(super) logs: BTreeMap<TopicPartition, LogRow>,
}

impl Held {
    /// Whether a lock is held, or not needed because there is no such partition.
    pub(super) fn has(&self, lock: &Lock) -> bool {
        self.locks.contains(lock)
    }

    /// Whether these come after all that are held, so that they may be waited for.
    pub(super) fn may_add(&self, more: &BTreeSet<Lock>) -> bool {
        match (self.locks.last(), more.first()) {
            (Some(last), Some(first)) => last < first,
            _ => true,
        }
    }
}

const LOCK_STRIPES: &str =
    "SELECT stripe FROM locks WHERE stripe = ANY($1::int[]) ORDER BY stripe FOR NO KEY UPDATE";
const LOCK_FREE_STRIPES: &str = "SELECT stripe FROM locks WHERE stripe = ANY($1::int[]) ORDER BY stripe
    FOR NO KEY UPDATE SKIP LOCKED";
const LOCK_LOGS: &str =
    "SELECT l.topic, l.partition, l.id, l.log_start, l.bytes, l.tail_start, l.tail_batches, t.layout
    FROM unnest($1::uuid[], $2::int[]) AS s(topic, partition)
    JOIN logs l ON l.topic = s.topic AND l.partition = s.partition LEFT JOIN topics t ON t.id = l.topic
    ORDER BY l.topic, l.partition FOR NO KEY UPDATE OF l";
const LOCK_FREE_LOGS: &str =
    "SELECT l.topic, l.partition, l.id, l.log_start, l.bytes, l.tail_start, l.tail_batches, t.layout
    FROM unnest($1::uuid[], $2::int[]) AS s(topic, partition)
    JOIN logs l ON l.topic = s.topic AND l.partition = s.partition LEFT JOIN topics t ON t.id = l.topic
    ORDER BY l.topic, l.partition FOR NO KEY UPDATE OF l SKIP LOCKED";
/// Which of them there are: one that is there and was not locked is held by somebody else.
const LOGS: &str = "SELECT l.topic, l.partition FROM unnest($1::uuid[], $2::int[]) AS s(topic, partition)
    JOIN logs l ON l.topic = s.topic AND l.partition = s.partition";

/// The statements that are sent together with others.
pub(super) const STATEMENTS: [&str; 5] = [LOCK_STRIPES, LOCK_FREE_STRIPES, LOCK_LOGS, LOCK_FREE_LOGS, LOGS];

/// Locks rows, in order. Without waiting, those are left out that somebody else holds.
pub(super) async fn lock(
    session: &Session,
    wanted: &BTreeSet<Lock>,
    wait: Wait,
    held: &mut Held,
) -> Result<(), Error> {
    let stripes: Vec<i32> = wanted.iter().filter_map(stripe).collect();
    let (topics, partitions): (Vec<Uuid>, Vec<i32>) = wanted.iter().filter_map(log).unzip();
    let is_store_wanted = wanted.contains(&Lock::Store);
    let (stripes, logs, existing, store) = futures_util::try_join!(
        lock_stripes(session, stripes, wait),
        lock_logs(session, &topics, &partitions, wait),
        existing_logs(session, &topics, &partitions, wait),
        lock_stripes(session, if is_store_wanted { vec![STORE] } else { Vec::new() }, wait),
    )?;
    held.locks.extend(stripes.iter().map(|row| Lock::Stripe(row.get(0))));
    held.locks.extend(store.iter().map(|_| Lock::Store));
    for row in &logs {
        let at = place(row);
        held.locks.insert(Lock::Log(at));
        held.logs.insert(at, LogRow::of(row));
    }
    let elsewhere: BTreeSet<TopicPartition> = existing.iter().map(place).collect();
    let absent = wanted.iter().filter(|lock| matches!(lock, Lock::Log(at) if !elsewhere.contains(at)));
    held.locks.extend(absent);
    Ok(())
}

fn stripe(lock: &Lock) -> Option<i32> {
    match lock {
        Lock::Stripe(stripe) => Some(*stripe),
        Lock::Log(_) | Lock::Store => None,
    }
}

fn log(lock: &Lock) -> Option<(Uuid, i32)> {
    match lock {
        Lock::Log(at) => Some((at.topic.0, at.partition)),
        Lock::Stripe(_) | Lock::Store => None,
    }
}

/// The partition that a row begins with.
fn place(row: &Row) -> TopicPartition {
    TopicPartition { topic: kernel::TopicId(row.get(0)), partition: row.get(1) }
}

async fn lock_stripes(session: &Session, stripes: Vec<i32>, wait: Wait) -> Result<Vec<Row>, Error> {
    if stripes.is_empty() {
        return Ok(Vec::new());
    }
    let sql = if wait == Wait::Yes { LOCK_STRIPES } else { LOCK_FREE_STRIPES };
    session.query(sql, &[&stripes]).await
}

async fn lock_logs(
    session: &Session,
    topics: &Vec<Uuid>,
    partitions: &Vec<i32>,
    wait: Wait,
) -> Result<Vec<Row>, Error> {
    if topics.is_empty() {
        return Ok(Vec::new());
    }
    let sql = if wait == Wait::Yes { LOCK_LOGS } else { LOCK_FREE_LOGS };
    session.query(sql, &[topics, partitions]).await
}

async fn existing_logs(
    session: &Session,
    topics: &Vec<Uuid>,
    partitions: &Vec<i32>,
    wait: Wait,
) -> Result<Vec<Row>, Error> {
    // Whoever waits has all that there are.
    if topics.is_empty() || wait == Wait::Yes {
        return Ok(Vec::new());
    }
    session.query(LOGS, &[topics, partitions]).await
}
