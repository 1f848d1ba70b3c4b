//! What brokers that share a store tell each other: which partitions have grown, which groups, topics and subscriptions have
//! changed.
//!
//! They tell by NOTIFY, after the commit and in a transaction of its own, because notifying transactions queue in the server.
//! What changes while a notification is under way is gathered into the next one; a broker that is alone sends none. Whoever
//! may have missed some, because its connection was lost or the other broker has died, wakes everybody who waits.

use std::collections::{HashMap, HashSet};
use std::mem::take;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kernel::clock::{Clock, FollowedClock};
use kernel::ids::RandomIds;
use kernel::metrics::{Histogram, LATENCY_US_BOUNDS, MetricKind, Page};
use kernel::{IdSource, TopicId, TopicPartition};
use parking_lot::Mutex;
use rules::documents::{DocumentKind, GroupDocument, Key, MemberDocument, Subscription, TopicDocument};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio_postgres::Error;
use tracing::warn;
use uuid::Uuid;

use super::connect::Server;
use super::errors::failed;
use super::session::Session;
use crate::engines::{Looked, StoreError, Watchers};

/// The first part of the channel's name; the schema's is the rest.
const CHANNEL: &str = "yagura_news_";
/// The server takes 8,000 bytes at most.
const PAYLOAD_MAX: usize = 7_900;
/// More than this is not told one by one.
const ITEMS_MAX: usize = 20_000;
/// The pause after the server has failed.
const RETRY_EVERY: Duration = Duration::from_millis(200);

const TELL: &str = "SELECT pg_notify($1, payload) FROM unnest($2::text[]) AS payload";
/// The server's time in ms; what the store is at this moment, and what it was when epochs were last taken; this connection, and
/// those of some others that have ended. Whoever may not see when another's began takes it for the same. Those of a server that was
/// started again, or has given way to another, have all ended, which says nothing of brokers.
const LOOK: &str = "WITH server AS (SELECT extract(epoch FROM pg_postmaster_start_time())::text AS began)
    SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint, this_store(),
    (SELECT value FROM meta WHERE name = 'instance'),
    (SELECT concat_ws('/', pid, extract(epoch FROM backend_start), began) FROM pg_stat_activity WHERE pid = pg_backend_pid()),
    ARRAY(SELECT s FROM unnest($1::text[]) AS s WHERE split_part(s, '/', 3) = began AND NOT EXISTS (SELECT FROM pg_stat_activity a
    WHERE a.pid::text = split_part(s, '/', 1)
    AND coalesce(extract(epoch FROM a.backend_start)::text = split_part(s, '/', 2), true))) FROM server";
const ACCEPT: &str = "INSERT INTO meta VALUES ('instance', this_store()) ON CONFLICT (name) DO UPDATE SET value = excluded.value";

/// What has changed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Items {
    /// Partitions that have grown by so many bytes, or were deleted (0).
    grown: HashMap<TopicPartition, u64>,
    /// Partitions that have changed in a way that nobody waits for.
    noted: HashSet<TopicPartition>,
    groups: HashSet<Arc<str>>,
    topics: bool,
    /// Those to clients' metrics.
    subscriptions: bool,
    /// Too much to be told.
    everything: bool,
}

/// A notification.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Payload {
    /// The broker that has sent it: it knows already.
    from: Uuid,
    /// When it was sent, in ms of store time; 0 if that is not known.
    #[serde(skip_serializing_if = "is_zero")]
    at_ms: i64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    grown: Vec<(Uuid, i32, u64)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    noted: Vec<(Uuid, i32)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<Arc<str>>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    topics: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    subscriptions: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    brokers: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    everything: bool,
}

// serde hands a reference.
#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_zero(at_ms: &i64) -> bool {
    *at_ms == 0
}

impl Items {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn bound(&mut self) {
        if self.grown.len() + self.noted.len() + self.groups.len() > ITEMS_MAX {
            *self = Self { everything: true, ..Self::default() };
        }
    }

    fn add(&mut self, other: Self) {
        for (at, bytes) in other.grown {
            *self.grown.entry(at).or_default() += bytes;
        }
        self.noted.extend(other.noted);
        self.groups.extend(other.groups);
        self.topics |= other.topics;
        self.subscriptions |= other.subscriptions;
        self.everything |= other.everything;
        self.bound();
    }

    /// Notifications that tell of all of it.
    fn payloads(&self, from: Uuid, at_ms: i64) -> Vec<String> {
        let mut all = Vec::new();
        let Items { topics, subscriptions, everything, .. } = *self;
        let mut payload = Payload { from, at_ms, topics, subscriptions, everything, ..Payload::default() };
        let mut bytes = 0;
        let mut room = |payload: &mut Payload, size: usize| {
            // A few brackets and names of fields are there anyway.
            if bytes + size > PAYLOAD_MAX - 200 {
                all.push(take(payload));
                (payload.from, payload.at_ms) = (from, at_ms);
                bytes = 0;
            }
            bytes += size;
        };
        for (at, grown) in &self.grown {
            room(&mut payload, 80);
            payload.grown.push((at.topic.0, at.partition, *grown));
        }
        for at in &self.noted {
            room(&mut payload, 60);
            payload.noted.push((at.topic.0, at.partition));
        }
        for group in &self.groups {
            // As JSON has it: six bytes for one that is no plain character.
            let size = 3 + 6 * group.len();
            if size > PAYLOAD_MAX - 200 {
                payload.everything = true;
            } else {
                room(&mut payload, size);
                payload.groups.push(Arc::clone(group));
            }
        }
        all.push(payload);
        all.iter().filter_map(|payload| serde_json::to_string(payload).ok()).collect()
    }
}

impl Payload {
    /// Tells watchers.
    fn publish(self, watchers: &Watchers) {
        if self.everything {
            watchers.wake_everything();
        }
        if self.brokers {
            watchers.brokers_changed();
        }
        let at = |topic, partition| TopicPartition { topic: TopicId(topic), partition };
        self.grown
            .into_iter()
            .for_each(|(topic, partition, bytes)| watchers.wake(at(topic, partition), bytes));
        self.noted.into_iter().for_each(|(topic, partition)| watchers.note(at(topic, partition)));
        let nameless = Arc::from("");
        let topics = self.topics.then(|| TopicDocument::key(&nameless));
        let subscriptions = self.subscriptions.then(|| Subscription::key(&nameless));
        let groups = self.groups.iter().map(GroupDocument::key);
        watchers.wake_changed(&groups.chain(topics).chain(subscriptions).collect::<Vec<_>>());
    }
}

/// What is to be told.
pub(super) struct News {
    own: Uuid,
    channel: String,
    has_others: AtomicBool,
    items: Mutex<Items>,
    notify: Notify,
    watchers: Watchers,
    /// The connection that listens and tells.
    session: Mutex<Option<Arc<Session>>>,
    clock: Mutex<Option<Arc<FollowedClock>>>,
    /// From when something was told until it was heard, in us.
    lag: Histogram,
}

impl News {
    pub(super) fn new(watchers: &Watchers, schema: &str) -> Arc<Self> {
        Arc::new(Self {
            own: RandomIds.fresh(),
            channel: channel(schema),
            has_others: AtomicBool::default(),
            items: Mutex::default(),
            notify: Notify::new(),
            watchers: watchers.clone(),
            session: Mutex::default(),
            clock: Mutex::default(),
            lag: Histogram::new(LATENCY_US_BOUNDS),
        })
    }

    /// The clock of the store, once it was looked at.
    pub(super) fn clock(&self) -> Option<Arc<FollowedClock>> {
        self.clock.lock().clone()
    }

    /// The time by that clock; 0 before.
    fn now_ms(&self) -> i64 {
        self.clock.lock().as_ref().map_or(0, |clock| clock.now_ms())
    }

    /// Writes how long it takes to hear of what others change.
    pub(super) fn collect(&self, page: &mut Page) {
        let help =
            "Time from when another broker told of a change until this one heard of it, to the millisecond.";
        page.family("yagura_store_news_seconds", MetricKind::Histogram, help);
        page.histogram(&[], &self.lag, 1_000_000);
    }

    pub(super) fn has_others(&self, has_others: bool) {
        if !self.has_others.swap(has_others, Ordering::Relaxed) {
            // They know nothing of what was committed since they came.
            self.add(|items| items.everything = true);
        }
    }

    /// A partition has grown, or was deleted.
    pub(super) fn grown(&self, at: TopicPartition, bytes: u64) {
        self.add(|items| *items.grown.entry(at).or_default() += bytes);
    }

    /// A partition has changed in a way that nobody waits for.
    pub(super) fn noted(&self, at: TopicPartition) {
        self.add(|items| items.noted.extend([at]));
    }

    /// Documents have changed that watches are about.
    pub(super) fn changed(&self, keys: &[Key]) {
        if keys.is_empty() {
            return;
        }
        self.add(|items| {
            for key in keys {
                match key.kind() {
                    TopicDocument::PREFIX => items.topics = true,
                    Subscription::PREFIX => items.subscriptions = true,
                    GroupDocument::PREFIX => items.groups.extend(GroupDocument::parse_key(key)),
                    _ => items.groups.extend(MemberDocument::parse_key(key).map(|key| key.group)),
                }
            }
        });
    }

    fn add(&self, change: impl FnOnce(&mut Items)) {
        if !self.has_others.load(Ordering::Relaxed) {
            return;
        }
        let mut items = self.items.lock();
        change(&mut items);
        items.bound();
        drop(items);
        self.notify.notify_one();
    }

    /// Tells that brokers have come, gone, or were drained.
    pub(super) async fn tell_of_brokers(&self) -> Result<(), StoreError> {
        let payload = Payload { from: self.own, at_ms: self.now_ms(), brokers: true, ..Payload::default() };
        let payloads = serde_json::to_string(&payload).map_err(|error| StoreError(error.to_string()))?;
        let telling = |error: Error| failed("notifying", &error);
        self.session()?.execute(TELL, &[&self.channel, &vec![payloads]]).await.map(drop).map_err(telling)
    }

    /// Takes a notification, as it arrives.
    pub(super) fn heard(&self, payload: &str) {
        match serde_json::from_str::<Payload>(payload) {
            Ok(payload) if payload.from == self.own => {}
            Ok(payload) => {
                if payload.at_ms != 0 {
                    let lag_ms = self.now_ms().saturating_sub(payload.at_ms).max(0);
                    self.lag.record(lag_ms.unsigned_abs().saturating_mul(1_000));
                }
                payload.publish(&self.watchers);
            }
            // Somebody else, or a release to come, sends what cannot be read: it may be about anything.
            Err(_) => self.watchers.wake_everything(),
        }
    }

    pub(super) fn session(&self) -> Result<Arc<Session>, StoreError> {
        let session = self.session.lock().clone().filter(|session| !session.is_closed());
        session
            .ok_or_else(|| StoreError("the connection to Postgres that keeps the lease was lost".to_owned()))
    }

    /// Ends the connection.
    pub(super) fn close(&self) {
        *self.session.lock() = None;
    }

    /// Looks at the server's clock, and at connections of other brokers. The store is another one if it was restored, or if its
    /// server has given way to a standby.
    pub(super) async fn look(&self, sessions: &[Arc<str>]) -> Result<Looked, StoreError> {
        let session = self.session()?;
        let sessions: Vec<&str> = sessions.iter().map(|session| &**session).collect();
        let asked = Instant::now();
        let rows = session.query(LOOK, &[&sessions]).await.map_err(|error| failed("looking at", &error))?;
        let answered = Instant::now();
        let row = rows.first().ok_or_else(|| StoreError("Postgres told no time".to_owned()))?;
        let (shown_ms, is, was): (i64, String, Option<String>) = (row.get(0), row.get(1), row.get(2));
        let mut clock = self.clock.lock();
        match &*clock {
            Some(clock) => clock.measured(shown_ms, asked, answered),
            None => {
                let started = FollowedClock::start(shown_ms, asked, answered).map_err(|error| {
                    StoreError(format!("the thread of the store's clock cannot start: {error}; raise the limit on threads (`ulimit -u`)"))
                })?;
                *clock = Some(started);
            }
        }
        let (own, ended): (Option<&str>, Vec<&str>) = (row.get(3), row.get(4));
        Ok(Looked {
            is_another: was.as_ref().is_none_or(|was| *was != is),
            instance: was.map(Arc::from),
            session: own.map(Arc::from),
            ended: ended.into_iter().map(Arc::from).collect(),
        })
    }

    /// Epochs were taken for the store as it is.
    pub(super) async fn accept(&self) -> Result<(), StoreError> {
        let accepting = |error: Error| failed("writing", &error);
        self.session()?.execute(ACCEPT, &[]).await.map(drop).map_err(accepting)
    }

    /// Listens on a connection from now on.
    pub(super) async fn listen(&self, session: Session) -> Result<(), StoreError> {
        let listen = format!("LISTEN {}", self.channel);
        session.run(&listen).await.map_err(|error| failed("listening to", &error))?;
        *self.session.lock() = Some(Arc::new(session));
        Ok(())
    }

    /// Tells what changes, and listens again once the connection was lost, for as long as the store is open.
    pub(super) async fn run(self: Arc<Self>, server: Arc<Server>) {
        let mut is_lost = false;
        loop {
            let Ok(session) = self.session() else {
                let has_failed = !self.listen_again(&server).await;
                // The lease cannot be renewed either.
                if has_failed && !is_lost {
                    self.watchers.brokers_changed();
                }
                is_lost = has_failed;
                continue;
            };
            tokio::select! {
                () = self.notify.notified() => self.tell(&session).await,
                () = session.closed.notified() => {}
            }
        }
    }

    /// Whether it listens again.
    async fn listen_again(&self, server: &Server) -> bool {
        let listening = match server.connect().await {
            Ok(session) => self.listen(session).await,
            Err(error) => Err(error),
        };
        let is_open = listening.is_ok();
        match listening {
            // Others may have told something meanwhile.
            Ok(()) => self.watchers.wake_everything(),
            Err(_) => tokio::time::sleep(RETRY_EVERY).await,
        }
        is_open
    }

    async fn tell(&self, session: &Session) {
        let items = take(&mut *self.items.lock());
        if items.is_empty() {
            return;
        }
        if let Err(error) =
            session.execute(TELL, &[&self.channel, &items.payloads(self.own, self.now_ms())]).await
        {
            if !session.is_closed() {
                warn!(%error, "other brokers could not be told of changes; it is tried again");
                tokio::time::sleep(RETRY_EVERY).await;
            }
            self.items.lock().add(items);
            self.notify.notify_one();
        }
    }
}

/// The name of the channel of a store; an identifier has 63 bytes at most.
fn channel(schema: &str) -> String {
    // FNV-1a, of 64 bits.
    let hash = schema.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    format!("{CHANNEL}{hash:016x}")
}

/// Whether a channel has news.
pub(super) fn is_news(of: &str) -> bool {
    of.starts_with(CHANNEL)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engines::Subject;

    fn at(number: u128) -> TopicPartition {
        TopicPartition { topic: TopicId(Uuid::from_u128(number)), partition: 3 }
    }

    #[tokio::test]
    async fn what_is_told_wakes_those_whom_it_is_about() {
        let (own, other) = (News::new(&Watchers::default(), "s"), Watchers::default());
        let (feed, version) = (other.feed(), other.topics_version());
        let watch = other.watch(&[Subject::Partition(at(1)), Subject::Partition(at(2))]);
        own.grown(at(9), 1);
        assert!(own.items.lock().is_empty(), "a broker that is alone tells nothing");
        own.has_others(true);
        assert!(take(&mut *own.items.lock()).everything, "what they may have missed");
        own.grown(at(1), 40);
        own.grown(at(1), 2);
        own.noted(at(2));
        let member = rules::documents::MemberKey { group: Arc::from("g\"ü"), member: Arc::from("m") };
        let topic = TopicDocument::key(&Arc::from("t"));
        own.changed(&[topic, MemberDocument::key(&member), Subscription::key(&Arc::from("s"))]);
        let items = take(&mut *own.items.lock());
        let hearing = News::new(&other, "s");
        let payloads = items.payloads(own.own, 7);
        assert_eq!(payloads.len(), 1);
        payloads.iter().for_each(|payload| hearing.heard(payload));
        assert_eq!(watch.changed().await, 42);
        assert_eq!(watch.take_changed(), HashSet::from([at(1), at(2)]));
        let changed = feed.changed().await;
        assert_eq!((changed.groups.len(), changed.subscriptions, changed.has_missed), (1, true, false));
        assert!(other.topics_version() > version);
    }

    #[tokio::test]
    async fn ones_own_news_wake_nobody_and_what_cannot_be_read_wakes_all() {
        let watchers = Watchers::default();
        let news = News::new(&watchers, "s");
        let watch = watchers.watch(&[Subject::Partition(at(1))]);
        let items = Items { grown: HashMap::from([(at(1), 5)]), ..Items::default() };
        items.payloads(news.own, 7).iter().for_each(|payload| news.heard(payload));
        assert!(watch.take_changed().is_empty());
        news.heard("{\"from\":7}");
        assert_eq!(watch.take_changed().len(), 1);
    }

    #[test]
    fn much_is_told_in_several_notifications_and_too_much_in_one() {
        let mut items = Items::default();
        items.grown.extend((0..1_000).map(|number| (at(number), u64::MAX)));
        items.groups.extend((0..1_000).map(|number| Arc::from(format!("\u{1}{number:0200}"))));
        items.groups.insert(Arc::from("g".repeat(30_000)));
        let payloads = items.payloads(Uuid::max(), 7);
        assert!(payloads.len() > 30);
        assert!(payloads.iter().all(|payload| payload.len() < 8_000));
        let read: Vec<Payload> = payloads.iter().map(|text| serde_json::from_str(text).unwrap()).collect();
        assert_eq!(read.iter().map(|payload| payload.grown.len()).sum::<usize>(), 1_000);
        assert_eq!(read.iter().map(|payload| payload.groups.len()).sum::<usize>(), 1_000);
        assert!(read.iter().any(|payload| payload.everything), "one name is too long to be told");
        items.grown.extend((0..ITEMS_MAX as u128).map(|number| (at(number), 1)));
        items.bound();
        let payloads = items.payloads(Uuid::max(), 7);
        assert_eq!(payloads.len(), 1);
        assert!(serde_json::from_str::<Payload>(&payloads[0]).unwrap().everything);
    }
}
