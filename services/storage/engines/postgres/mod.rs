//! The Postgres engine: durability lives in a database server.
//!
//! - Commands of all connections gather, and are committed together by a few writers ([`calls`], [`writers`]). A commit locks
//!   what its commands are about ([`locks`]), reads it, lets the rules decide, and writes ([`commit`], [`write`]), in two or
//!   three round trips. Nothing is decided on what a broker remembers.
//! - Records are kept as rows, which SQL can query, or as the batches that were sent ([`layout`], [`rows`]). An index over batches
//!   answers searches by time and by size ([`index`]).
//! - Reads are short statements on connections of their own ([`pool`], [`read`]); large replies are read while they are sent
//!   ([`pieces`]).
//! - Programs send messages by SQL, in transactions of their own ([`outbox`]).
//! - The tables are in `schema.sql`, in a schema of their own ([`migrate`]); what is sent and read by SQL is in `outbox.sql` and
//!   `inbox.sql`. Brokers that share a store tell each other what changes ([`news`]).

mod calls;
mod commit;
mod connect;
mod copy;
mod documents;
mod errors;
mod garbage;
mod gathered;
mod ids;
mod index;
mod layout;
mod locks;
mod look_up;
mod metrics;
mod migrate;
mod news;
mod outbox;
mod parts;
mod pieces;
mod pool;
mod read;
mod resolve;
mod rows;
mod session;
mod shared;
#[cfg(test)]
pub(in crate::engines) mod testing;
#[cfg(test)]
mod tests;
mod tls;
mod url;
mod verify;
mod write;
mod writers;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use kernel::TopicPartition;
use kernel::clock::FollowedClock;
use kernel::metrics::Page;
use kernel::ports::BoxFuture;
use parking_lot::Mutex;
use rules::commands::{Command, Outcome};
use rules::documents::{Document, Key, LEVEL_BEFORE, Prefix};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::gauges::{ReadDocuments, gather};
use super::health::Health;
use super::opening::Opener;
use super::outbox::Outbox;
use super::resident::{CommitStats, Gauges};
use super::room::{RoomStatus, WhyFull};
use super::{
    DirtyLook, Engine, EngineKind, Holds, Looked, Pending, ReadFrom, ReadLimits, ReadOutcome, ReadSpec,
    RetentionLimits, RetentionOutcome, Sharing, StoreError, Subject, UrlFault, Watch, Watchers,
};
use crate::settings::Settings;
use calls::{Call, Queue};
use connect::Server;
use metrics::{Purpose, ReadTimes, collect_pools};
use news::News;
use outbox::PostgresOutbox;
use pool::Pool;
use session::Session;
use shared::Shared;
use url::Target;
pub use verify::verify;

/// `postgres://...`
pub(super) static KIND: EngineKind = EngineKind {
    schemes: &["postgres", "postgresql"],
    form: "\"postgres://USER@HOST/DATABASE\"",
    holds: |place| Target::parse(place).ok().map(|target| target.identity()),
    check: |place| Target::parse(place).map(drop).map_err(UrlFault::Says),
    open: |place, settings| {
        let (place, settings) = (place.to_owned(), settings.clone());
        Box::pin(async move { Ok(Arc::new(Postgres::open(&place, &settings).await?) as Arc<dyn Engine>) })
    },
    beside: Some(open_as_operator),
    existing: Some(open_as_operator),
    verify: Some(|place, progress| Box::pin(verify(place, progress))),
};

fn open_as_operator(place: &str) -> Pending<Arc<dyn Engine>> {
    let place = place.to_owned();
    Box::pin(async move {
        let settings = Settings::at(&place);
        Ok(Arc::new(Postgres::open_for(&place, &settings, Opener::Operator).await?) as Arc<dyn Engine>)
    })
}

/// A store in a schema of a Postgres database.
pub struct Postgres {
    shared: Arc<Shared>,
    queue: Arc<Queue>,
    reads: Reads,
    /// For what may take long: a search by time must not delay consumers.
    look_ups: Arc<Pool>,
    times: Arc<ReadTimes>,
    outbox: PostgresOutbox,
    clock: Arc<FollowedClock>,
    tasks: Mutex<Tasks>,
}

/// The connections for short reads.
#[derive(Clone)]
struct Reads(Arc<Pool>);

impl ReadDocuments for Reads {
    fn scan(&self, prefix: Prefix, after: Option<Key>, limit: usize) -> Pending<Vec<(Key, Document)>> {
        let reads = Arc::clone(&self.0);
        let scan = move |session: Arc<Session>| {
            let (prefix, after) = (prefix.clone(), after.clone());
            async move { documents::scan(&session, &prefix, after.as_ref(), limit).await }
        };
        Box::pin(async move { reads.read(Purpose::Documents, scan).await })
    }

    fn readable(&self, keys: Vec<Key>) -> Pending<Vec<Option<Document>>> {
        let (reads, keys) = (Arc::clone(&self.0), Arc::<[Key]>::from(keys));
        let get = move |session: Arc<Session>| {
            let keys = Arc::clone(&keys);
            async move { documents::get(&session, &keys).await }
        };
        Box::pin(async move { reads.read(Purpose::Documents, get).await })
    }

    fn sizes(&self, partitions: Vec<TopicPartition>) -> Pending<Vec<u64>> {
        let (reads, partitions) = (Arc::clone(&self.0), Arc::<[TopicPartition]>::from(partitions));
        let sizes = move |session: Arc<Session>| {
            let partitions = Arc::clone(&partitions);
            async move { look_up::sizes(&session, &partitions).await }
        };
        Box::pin(async move { reads.read(Purpose::Sizes, sizes).await })
    }
}

/// What runs until the store is closed.
#[derive(Default)]
struct Tasks {
    writers: JoinSet<()>,
    news: JoinSet<()>,
}

/// How long calls under way may take when the store is closed.
const CLOSE_DEADLINE: Duration = Duration::from_secs(10);

/// Connections beside those for reads: those of the writers, one for look-ups, one that listens to other brokers, and one for the outbox.
const OTHER_CONNECTIONS: usize = writers::WRITERS + 3;

impl Postgres {
    /// Opens the store that a URL names, after `://`, or makes it.
    ///
    /// # Errors
    /// A sentence with the cause and the remedy: the server cannot be reached, the role lacks rights, or the store
    /// is of a newer release.
    pub async fn open(place: &str, settings: &Settings) -> Result<Self, StoreError> {
        Self::open_for(place, settings, Opener::Broker).await
    }

    async fn open_for(place: &str, settings: &Settings, opener: Opener) -> Result<Self, StoreError> {
        if settings.store_bytes_max.is_some() {
            let message =
                "store_bytes_max is not for a Postgres store; leave it out, and limit its disk in the server";
            return Err(StoreError(message.to_owned()));
        }
        let server = Arc::new(Server::new(Target::parse(place).map_err(StoreError)?)?);
        let (session, other) = (server.connect().await?, server.connect().await?);
        connect::check_sessions(&session, &other).await?;
        match opener {
            Opener::Broker => migrate::migrate(&session, server.schema(), locks::LAST_STRIPE).await?,
            Opener::Operator => migrate::expect(&session, server.schema()).await?,
        }
        let watchers = Watchers::default();
        let news = News::new(&watchers, server.schema());
        server.tell(Arc::clone(&news));
        // A connection hears of news only if it was opened after that.
        drop(session);
        news.listen(server.connect().await?).await?;
        news.look(&[]).await?;
        let clock = news.clock().ok_or_else(|| StoreError("Postgres told no time".to_owned()))?;
        let shared = Arc::new(Shared {
            watchers,
            news: Arc::clone(&news),
            stats: CommitStats::new(),
            room: RoomStatus::new(None),
            health: Health::default(),
            level: AtomicU32::new(LEVEL_BEFORE),
            delete_delay: settings.delete_delay.0,
        });
        let queue = Arc::new(Queue::default());
        let writers = writers::start(&queue, &server, &shared, settings.commit_bytes_max.as_usize());
        let mut telling = JoinSet::new();
        telling.spawn(news.run(Arc::clone(&server)));
        let readers = server.connections().saturating_sub(OTHER_CONNECTIONS).max(1);
        let times = Arc::new(ReadTimes::new());
        let reads = Reads(Arc::new(Pool::new(Arc::clone(&server), readers, Arc::clone(&times))));
        let look_ups = Arc::new(Pool::new(Arc::clone(&server), 1, Arc::clone(&times)));
        look_ups.add(other);
        let outbox = PostgresOutbox::new(server, Arc::clone(&reads.0), Arc::clone(&queue));
        let tasks = Mutex::new(Tasks { writers, news: telling });
        Ok(Self { shared, queue, reads, look_ups, times, outbox, clock, tasks })
    }

    /// Reads from where a look-up leads to, in the order of the partitions.
    fn look_up(&self, specs: Vec<ReadSpec>, limits: ReadLimits) -> Pending<Vec<ReadOutcome>> {
        let (look_ups, specs) = (Arc::clone(&self.look_ups), Arc::<[ReadSpec]>::from(specs));
        let pool = Arc::downgrade(&self.reads.0);
        let look_up = move |session: Arc<Session>| {
            let (specs, pool) = (Arc::clone(&specs), Weak::clone(&pool));
            async move { read::find_and_read(&session, &specs, limits, &pool).await }
        };
        Box::pin(async move { look_ups.snapshot(Purpose::LookUp, look_up).await })
    }
}

impl Engine for Postgres {
    fn commit(&self, commands: Vec<Command>, holds: Holds) -> Pending<Vec<Outcome>> {
        let (answer, answered) = oneshot::channel();
        self.queue.push(Call::new(commands, holds, answer));
        Box::pin(async move {
            answered.await.unwrap_or_else(|_| Err(StoreError("the store is closed".to_owned())))
        })
    }

    fn read(&self, specs: Vec<ReadSpec>, limits: ReadLimits) -> Pending<Vec<ReadOutcome>> {
        let by_offset = |spec: &ReadSpec| match spec.from {
            ReadFrom::Offset(offset) => Some((*spec, Some(offset))),
            ReadFrom::Timestamp(_) | ReadFrom::MaxTimestamp => None,
        };
        let Some(specs) = specs.iter().map(by_offset).collect::<Option<Vec<_>>>() else {
            return self.look_up(specs, limits);
        };
        let (reads, pool) = (Arc::clone(&self.reads.0), Arc::downgrade(&self.reads.0));
        let specs: Arc<[_]> = specs.into();
        let read = move |session: Arc<Session>| {
            let (specs, pool) = (Arc::clone(&specs), Weak::clone(&pool));
            async move { read::read(&session, &specs, limits, &pool).await }
        };
        Box::pin(async move { reads.snapshot(Purpose::Batches, read).await })
    }

    fn get(&self, keys: Vec<Key>) -> Pending<Vec<Option<Document>>> {
        self.reads.readable(keys)
    }

    fn scan(&self, prefix: Prefix, after: Option<Key>, limit: usize) -> Pending<Vec<(Key, Document)>> {
        self.reads.scan(prefix, after, limit)
    }

    fn sizes(&self, partitions: Vec<TopicPartition>) -> Pending<Vec<u64>> {
        self.reads.sizes(partitions)
    }

    fn watch(&self, subjects: &[Subject]) -> Watch {
        self.shared.watchers.watch(subjects)
    }

    fn topics_version(&self) -> u64 {
        self.shared.watchers.topics_version()
    }

    fn retention(
        &self,
        partitions: Vec<(TopicPartition, RetentionLimits)>,
        now_ms: i64,
    ) -> Pending<Vec<RetentionOutcome>> {
        let look_ups = Arc::clone(&self.look_ups);
        Box::pin(async move {
            let mut outcomes = Vec::with_capacity(partitions.len());
            for (at, limits) in partitions {
                let look = |session: Arc<Session>| async move {
                    look_up::retention(&session, at, &limits, now_ms).await
                };
                outcomes.push(look_ups.snapshot(Purpose::Due, look).await);
            }
            Ok(outcomes)
        })
    }

    fn dirty(&self, partition: TopicPartition, young_after_ms: Option<i64>) -> Pending<Option<DirtyLook>> {
        let look_ups = Arc::clone(&self.look_ups);
        let look = move |session: Arc<Session>| async move {
            look_up::dirty(&session, partition, young_after_ms).await
        };
        Box::pin(async move { look_ups.snapshot(Purpose::Due, look).await })
    }

    fn maintain(&self, now_ms: i64) -> Pending<u64> {
        let (look_ups, delay) = (Arc::clone(&self.look_ups), self.shared.delete_delay);
        Box::pin(async move { garbage::purge(&look_ups, now_ms, delay).await })
    }

    fn collect(&self, page: &mut Page) {
        self.shared.stats.collect(page);
        self.shared.room.collect(page);
        self.shared.news.collect(page);
        self.times.collect(page);
        collect_pools(page, [("reads", &self.reads.0), ("look_ups", &self.look_ups)]);
        self.outbox.collect(page);
    }

    fn outbox(&self) -> Option<Arc<dyn Outbox>> {
        Some(Arc::new(self.outbox.clone()))
    }

    fn sharing(&self) -> Option<Sharing> {
        let clock = Arc::<FollowedClock>::clone(&self.clock);
        Some(Sharing { clock, changes: self.shared.watchers.feed() })
    }

    fn look(&self, sessions: Vec<Arc<str>>) -> Pending<Looked> {
        let news = Arc::clone(&self.shared.news);
        Box::pin(async move { news.look(&sessions).await })
    }

    fn accept(&self) -> Pending<()> {
        let news = Arc::clone(&self.shared.news);
        Box::pin(async move { news.accept().await })
    }

    fn tell_of_brokers(&self) -> Pending<()> {
        let news = Arc::clone(&self.shared.news);
        Box::pin(async move { news.tell_of_brokers().await })
    }

    fn has_others(&self, has_others: bool) {
        self.shared.news.has_others(has_others);
    }

    fn not_copied(&self) -> Pending<Vec<(u64, &'static str)>> {
        let look_ups = Arc::clone(&self.look_ups);
        Box::pin(async move { look_ups.read(Purpose::Documents, look_up::not_copied).await })
    }

    fn write_at(&self, level: u32) {
        self.shared.level.store(level, Ordering::Relaxed);
    }

    fn doubt(&self) {
        self.shared.watchers.wake_everything();
    }

    fn full(&self) -> watch::Receiver<WhyFull> {
        self.shared.room.full()
    }

    fn gauges(&self) -> Pending<Gauges> {
        let (reads, outbox) = (self.reads.clone(), self.outbox.clone());
        Box::pin(async move {
            let gauges = gather(reads).await?;
            Ok(Gauges { outbox: outbox.gauge().await?, ..gauges })
        })
    }

    fn failed(&self) -> BoxFuture<'static, StoreError> {
        self.shared.health.failed()
    }

    fn close(&self) -> Pending<()> {
        self.queue.close();
        let Tasks { mut writers, mut news } = std::mem::take(&mut *self.tasks.lock());
        let keeping = Arc::clone(&self.shared.news);
        let pools = [Arc::clone(&self.reads.0), Arc::clone(&self.look_ups)];
        Box::pin(async move {
            let ended = async { while writers.join_next().await.is_some() {} };
            // A COMMIT may wait for a standby for ever.
            let is_late = timeout(CLOSE_DEADLINE, ended).await.is_err();
            writers.shutdown().await;
            pools.iter().for_each(|pool| pool.close());
            news.shutdown().await;
            keeping.close();
            if is_late {
                return Err(StoreError(format!(
                    "Postgres did not answer a commit within {CLOSE_DEADLINE:?}; whether it was done is not known"
                )));
            }
            Ok(())
        })
    }
}
