//! Watches for appends to partitions and changes of groups.
//!
//! The append itself wakes a waiting fetch, and the last join wakes the waiting joins; there is no polling.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kernel::TopicPartition;
use parking_lot::Mutex;
use rules::documents::{DocumentKind, GroupDocument, Key, MemberDocument};
use tokio::sync::Notify;

/// What can be watched.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// Appends to a partition, or its deletion.
    Partition(TopicPartition),
    /// Changes of a group or its members.
    Group(Arc<str>),
}

/// All watches of an engine. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Watchers(Arc<Mutex<HashMap<Subject, Vec<Arc<Waiter>>>>>);

#[derive(Debug, Default)]
struct Waiter {
    bytes: AtomicU64,
    notify: Notify,
}

/// A subscription, which ends when it is dropped.
#[derive(Debug)]
pub struct Watch {
    waiter: Arc<Waiter>,
    subjects: Vec<Subject>,
    watchers: Watchers,
}

impl Watchers {
    /// Subscribes.
    pub fn watch(&self, subjects: &[Subject]) -> Watch {
        let waiter = Arc::new(Waiter::default());
        let mut all = self.0.lock();
        for subject in subjects {
            all.entry(subject.clone()).or_default().push(Arc::clone(&waiter));
        }
        Watch { waiter, subjects: subjects.to_vec(), watchers: self.clone() }
    }

    /// Wakes the watches of a partition that has grown, or was deleted (0 bytes).
    pub fn wake(&self, partition: TopicPartition, bytes: u64) {
        self.wake_all([(Subject::Partition(partition), bytes)]);
    }

    /// Wakes the watches of the groups whose documents have changed.
    pub fn wake_groups<'a>(&self, changed: impl IntoIterator<Item = &'a Key>) {
        let group = |key: &Key| match key.kind() {
            GroupDocument::PREFIX => GroupDocument::parse_key(key).map(Subject::Group),
            MemberDocument::PREFIX => MemberDocument::parse_key(key).map(|key| Subject::Group(key.group)),
            _ => None,
        };
        let groups: HashSet<Subject> = changed.into_iter().filter_map(group).collect();
        if !groups.is_empty() {
            self.wake_all(groups.into_iter().map(|group| (group, 0)));
        }
    }

    fn wake_all(&self, changed: impl IntoIterator<Item = (Subject, u64)>) {
        let all = self.0.lock();
        for (subject, bytes) in changed {
            for waiter in all.get(&subject).into_iter().flatten() {
                waiter.bytes.fetch_add(bytes, Ordering::Relaxed);
                waiter.notify.notify_one();
            }
        }
    }
}

impl Watch {
    /// Returns after the next change since the last call, with the bytes that all changes so far have added.
    pub async fn changed(&self) -> u64 {
        self.waiter.notify.notified().await;
        self.waiter.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut all = self.watchers.0.lock();
        for subject in &self.subjects {
            if let Some(waiters) = all.get_mut(subject) {
                waiters.retain(|waiter| !Arc::ptr_eq(waiter, &self.waiter));
                if waiters.is_empty() {
                    all.remove(subject);
                }
            }
        }
    }
}
