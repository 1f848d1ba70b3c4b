//! Watches for appends to partitions and changes of groups.
//!
//! The append itself wakes a waiting fetch, and the last join wakes the waiting joins; there is no polling. An engine that
//! brokers share tells here what the others have changed, too.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use kernel::TopicPartition;
use parking_lot::Mutex;
use rules::documents::{DocumentKind, GroupDocument, Key, MemberDocument, Subscription, TopicDocument};
use tokio::sync::Notify;

/// What can be watched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Appends to a partition, or its deletion.
    Partition(TopicPartition),
    /// Changes of a group or its members.
    Group(Arc<str>),
}

/// Numbers of changes of topics. One counter for all stores: see `TopicDirectory::version`.
static TOPIC_CHANGES: AtomicU64 = AtomicU64::new(1);

/// All watches of an engine. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Watchers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiters: Mutex<HashMap<Subject, Vec<Arc<Waiter>>>>,
    topics_version: AtomicU64,
    feeds: Mutex<Vec<Weak<Feed>>>,
}

/// What has changed, each once, until it is taken.
#[derive(Debug, Default)]
struct Feed {
    changed: Mutex<Changed>,
    notify: Notify,
}

/// What has changed of that which a broker remembers something of.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Groups.
    pub groups: BTreeSet<Arc<str>>,
    /// Subscriptions to clients' metrics.
    pub subscriptions: bool,
    /// Brokers: some have come, gone, or were drained.
    pub brokers: bool,
    /// There may be more that nobody knows of.
    pub has_missed: bool,
}

/// Tells what changes.
#[derive(Debug)]
pub struct ChangeFeed(Arc<Feed>);

impl ChangeFeed {
    /// Waits for changes; returns what has changed since the last call.
    pub async fn changed(&self) -> Changed {
        self.0.notify.notified().await;
        std::mem::take(&mut *self.0.changed.lock())
    }
}

impl Default for Shared {
    fn default() -> Self {
        let topics_version = AtomicU64::new(TOPIC_CHANGES.fetch_add(1, Ordering::Relaxed));
        Self { waiters: Mutex::default(), topics_version, feeds: Mutex::default() }
    }
}

#[derive(Debug, Default)]
struct Waiter {
    bytes: AtomicU64,
    notify: Notify,
    /// The partitions that have changed and that nobody has asked for since.
    changed: Mutex<HashSet<TopicPartition>>,
}

impl Waiter {
    fn note(&self, subject: &Subject) {
        if let Subject::Partition(partition) = subject {
            self.changed.lock().insert(*partition);
        }
    }
}

/// A subscription, which ends when it is dropped.
#[derive(Debug)]
pub struct Watch {
    waiter: Arc<Waiter>,
    subjects: Mutex<HashSet<Subject>>,
    watchers: Watchers,
}

/// Subjects that are removed under one lock: a subscription may have many, and appends need the lock.
const REMOVED_AT_ONCE: usize = 64;

impl Watchers {
    /// Subscribes.
    pub fn watch(&self, subjects: &[Subject]) -> Watch {
        let watch = Watch { waiter: Arc::default(), subjects: Mutex::default(), watchers: self.clone() };
        watch.add(subjects);
        watch
    }

    /// Notes that a partition has changed in a way that nobody waits for, such as its log start offset.
    pub fn note(&self, partition: TopicPartition) {
        let subject = Subject::Partition(partition);
        self.0.waiters.lock().get(&subject).into_iter().flatten().for_each(|waiter| waiter.note(&subject));
    }

    /// Wakes the watches of a partition that has grown, or was deleted (0 bytes).
    pub fn wake(&self, partition: TopicPartition, bytes: u64) {
        self.wake_all([(Subject::Partition(partition), bytes)]);
    }

    /// The number of the last change of topics.
    pub fn topics_version(&self) -> u64 {
        self.0.topics_version.load(Ordering::Acquire)
    }

    /// Those of the changed documents that [`Watchers::wake_changed`] is about.
    pub fn watched<'a>(changed: impl Iterator<Item = &'a Key>) -> Vec<Key> {
        let kinds =
            [GroupDocument::PREFIX, MemberDocument::PREFIX, TopicDocument::PREFIX, Subscription::PREFIX];
        changed.filter(|key| kinds.contains(&key.kind())).cloned().collect()
    }

    /// Wakes the watches of the groups whose documents have changed, numbers a change of topics, and feeds one of subscriptions.
    ///
    /// To be called once readers see the changes.
    pub fn wake_changed(&self, changed: &[Key]) {
        if changed.iter().any(|key| key.kind() == TopicDocument::PREFIX) {
            self.topics_changed();
        }
        if changed.iter().any(|key| key.kind() == Subscription::PREFIX) {
            self.feed_with(|changed| changed.subscriptions = true);
        }
        self.wake_groups(changed);
    }

    /// Feeds a change of brokers.
    pub fn brokers_changed(&self) {
        self.feed_with(|changed| changed.brokers = true);
    }

    /// Tells what changes from now on.
    pub fn feed(&self) -> ChangeFeed {
        let feed = Arc::new(Feed::default());
        let mut feeds = self.0.feeds.lock();
        feeds.retain(|feed| feed.strong_count() > 0);
        feeds.push(Arc::downgrade(&feed));
        ChangeFeed(feed)
    }

    /// Wakes all watches: what they wait for may have happened.
    pub fn wake_everything(&self) {
        self.topics_changed();
        for (subject, waiters) in &*self.0.waiters.lock() {
            for waiter in waiters {
                waiter.note(subject);
                waiter.notify.notify_one();
            }
        }
        self.feed_with(|changed| changed.has_missed = true);
    }

    fn topics_changed(&self) {
        let version = TOPIC_CHANGES.fetch_add(1, Ordering::Relaxed);
        self.0.topics_version.fetch_max(version, Ordering::Release);
    }

    /// Puts something into the feeds, of which most engines have none.
    fn feed_with(&self, change: impl Fn(&mut Changed)) {
        for feed in self.0.feeds.lock().iter().filter_map(Weak::upgrade) {
            change(&mut feed.changed.lock());
            feed.notify.notify_one();
        }
    }

    fn wake_groups(&self, changed: &[Key]) {
        let group = |key: &Key| match key.kind() {
            GroupDocument::PREFIX => GroupDocument::parse_key(key),
            MemberDocument::PREFIX => MemberDocument::parse_key(key).map(|key| key.group),
            _ => None,
        };
        let groups: BTreeSet<Arc<str>> = changed.iter().filter_map(group).collect();
        if !groups.is_empty() {
            self.feed_with(|changed| changed.groups.extend(groups.iter().cloned()));
            self.wake_all(groups.into_iter().map(|group| (Subject::Group(group), 0)));
        }
    }

    fn wake_all(&self, changed: impl IntoIterator<Item = (Subject, u64)>) {
        let all = self.0.waiters.lock();
        for (subject, bytes) in changed {
            for waiter in all.get(&subject).into_iter().flatten() {
                waiter.note(&subject);
                waiter.bytes.fetch_add(bytes, Ordering::Relaxed);
                waiter.notify.notify_one();
            }
        }
    }
}

impl Watch {
    /// Subscribes to more subjects. Subscribe before reading.
    pub fn add(&self, subjects: &[Subject]) {
        let mut own = self.subjects.lock();
        for subject in subjects {
            if own.insert(subject.clone()) {
                let mut all = self.watchers.0.waiters.lock();
                all.entry(subject.clone()).or_default().push(Arc::clone(&self.waiter));
            }
        }
    }

    /// Ends the subscription to some subjects.
    pub fn remove(&self, subjects: &[Subject]) {
        let mut own = self.subjects.lock();
        for subject in subjects {
            own.remove(subject);
        }
        drop(own);
        self.unsubscribe(subjects);
    }

    /// The partitions that have changed since the last call.
    pub fn take_changed(&self) -> HashSet<TopicPartition> {
        std::mem::take(&mut *self.waiter.changed.lock())
    }

    /// The bytes that all changes so far have added.
    pub fn bytes(&self) -> u64 {
        self.waiter.bytes.load(Ordering::Relaxed)
    }

    fn unsubscribe(&self, subjects: &[Subject]) {
        for some in subjects.chunks(REMOVED_AT_ONCE) {
            let mut all = self.watchers.0.waiters.lock();
            for subject in some {
                if let Some(waiters) = all.get_mut(subject) {
                    waiters.retain(|waiter| !Arc::ptr_eq(waiter, &self.waiter));
                    if waiters.is_empty() {
                        all.remove(subject);
                    }
                }
            }
        }
    }

    /// Returns after the next change since the last call, with the bytes that all changes so far have added.
    pub async fn changed(&self) -> u64 {
        self.waiter.notify.notified().await;
        self.bytes()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let subjects: Vec<Subject> = self.subjects.get_mut().drain().collect();
        self.unsubscribe(&subjects);
    }
}
