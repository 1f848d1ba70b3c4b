//! When this broker last heard from each group member, which is kept only in memory.
//!
//! A heartbeat writes nothing: it is recorded here; what other brokers must know of it is written in batches ([`leases`]).
//! [`timeouts`] looks at a group when one of its timeouts may have passed. If a broker fails, the records are lost without harm: every member gets a whole session with the next one.

pub(crate) mod leases;
#[cfg(test)]
mod outage_tests;
mod sessions;
pub(crate) mod timeouts;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use kernel::clock::SharedStoreClock;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// When members were last heard from, and the groups that have changed.
pub(crate) struct Coordinator {
    state: Mutex<State>,
    time: SharedStoreClock,
    /// When groups were first looked at, or when the process was last found to have stood still. After an outage every
    /// member gets a whole session, because it could not reach any broker; the store may take a while to open.
    started_ms: AtomicI64,
    /// How often it was found that nothing was known of what members had sent for a while.
    interruptions: AtomicU64,
    /// Whether other brokers have the store, too.
    has_others: AtomicBool,
    /// Whether changes of groups by other brokers may have been missed.
    has_missed: AtomicBool,
    changed: Notify,
}

#[derive(Default)]
struct State {
    groups: HashMap<Arc<str>, Record>,
    turns: leases::Turns,
    graces: sessions::Graces,
    changed: BTreeSet<Arc<str>>,
}

/// What is remembered of a group.
#[derive(Default)]
struct Record {
    heard: Heard,
    seen: Option<Seen>,
    /// The version of the topics that each of its regular expressions was last matched against.
    matched: HashMap<Arc<str>, u64>,
}

/// The members of one group that were heard from.
type Heard = HashMap<Arc<str>, LastHeard>;

/// What a group of the consumer protocol was last held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The version of the topics (`TopicDirectory::version`).
    pub(crate) topics: u64,
    /// The group epoch: later members may subscribe to other topics.
    pub(crate) epoch: i32,
}

/// What a heartbeat has held its group against.
#[derive(Debug, Default)]
pub(crate) struct Resolved {
    /// The version of the topics.
    pub(crate) version: u64,
    /// The group epoch, if nothing is left to a later heartbeat.
    pub(crate) epoch: Option<i32>,
    /// The expressions that were matched, and against which version.
    pub(crate) matched: Vec<(Arc<str>, u64)>,
    /// All expressions of the group.
    pub(crate) regexes: BTreeSet<Arc<str>>,
}

/// When a member was last heard from.
#[derive(Debug, Clone, Copy, Default)]
struct LastHeard {
    at_ms: i64,
    /// Calls of the member that wait here for its group: it can send no heartbeat meanwhile.
    waiting: usize,
    /// As of when its lease was last renewed for other brokers.
    renewed_ms: i64,
    /// Its session timeout, once its lease was renewed.
    session_ms: Option<i32>,
    /// When it has its turn among [`leases::Turns`], in ms.
    turn_ms: Option<i64>,
}

impl State {
    /// A member's record, and whether it is new.
    fn record(&mut self, group: &Arc<str>, member: &Arc<str>) -> (&mut LastHeard, bool) {
        let record = self.groups.entry(Arc::clone(group)).or_default();
        let is_new = !record.heard.contains_key(member);
        (record.heard.entry(Arc::clone(member)).or_default(), is_new)
    }
}

impl Coordinator {
    /// No member has been heard from.
    pub(crate) fn new(time: SharedStoreClock) -> Self {
        let started_ms = AtomicI64::new(time.now_ms());
        let (state, interruptions) = (Mutex::default(), AtomicU64::default());
        Self {
            state,
            started_ms,
            interruptions,
            has_others: AtomicBool::default(),
            has_missed: AtomicBool::default(),
            time,
            changed: Notify::new(),
        }
    }

    /// Records that a member has been heard from.
    pub(crate) fn heard(&self, group: &Arc<str>, member: &Arc<str>) {
        let now_ms = self.time.now_ms();
        let mut state = self.state.lock();
        let (last, is_new) = state.record(group, member);
        last.at_ms = now_ms;
        if self.has_others.load(Ordering::Relaxed) {
            state.has_turn(group, member, now_ms);
        }
        drop(state);
        if is_new {
            // Once looked at, the record goes with the member; it may have left meanwhile.
            self.group_changed(group);
        }
    }

    /// Records that a call of a member waits, until the guard is dropped.
    pub(crate) fn waits(self: &Arc<Self>, group: &Arc<str>, member: &Arc<str>) -> Waiting {
        let mut state = self.state.lock();
        state.record(group, member).0.waiting += 1;
        if self.has_others.load(Ordering::Relaxed) {
            state.has_turn(group, member, self.time.now_ms());
        }
        drop(state);
        Waiting { coordinator: Arc::clone(self), group: Arc::clone(group), member: Arc::clone(member) }
    }

    /// Whether a group has been held against these topics in this epoch.
    pub(crate) fn has_seen(&self, group: &Arc<str>, seen: Seen) -> bool {
        self.state.lock().groups.get(group).is_some_and(|record| record.seen == Some(seen))
    }

    /// Whether what an expression of a group matches has been found for this version of the topics.
    pub(crate) fn has_matched(&self, group: &Arc<str>, regex: &str, version: u64) -> bool {
        let state = self.state.lock();
        state.groups.get(group).and_then(|record| record.matched.get(regex)) == Some(&version)
    }

    /// Records what a group has been held against.
    pub(crate) fn saw(&self, group: &Arc<str>, resolved: Resolved) {
        let Resolved { version, epoch, matched, regexes } = resolved;
        if let Some(record) = self.state.lock().groups.get_mut(group) {
            record.matched.extend(matched);
            record.matched.retain(|regex, _| regexes.contains(regex));
            record.seen = epoch.map(|epoch| Seen { topics: version, epoch }).or(record.seen);
        }
    }

    /// Groups are looked at from now on: each member gets a whole session. What was noted by a clock that has been set back
    /// since lies in no future.
    pub(crate) fn starts(&self) {
        let now_ms = self.time.now_ms();
        self.started_ms.store(now_ms, Ordering::Relaxed);
        let mut state = self.state.lock();
        state.graces.clear();
        state.begin_anew(now_ms, self.has_others.load(Ordering::Relaxed));
    }

    /// Members of other brokers cannot be heard until they have found another: each gets a whole session from now on, though not
    /// again and again.
    pub(crate) fn others_are_gone(&self) {
        self.started_ms.store(self.time.now_ms(), Ordering::Relaxed);
    }

    /// Nothing is known of what members have sent for a while: the store could not be used. Each gets a whole session.
    pub(crate) fn interrupted(&self) {
        self.interruptions.fetch_add(1, Ordering::Relaxed);
        self.changed.notify_one();
    }

    /// Changes of groups by other brokers may have been missed: all are looked at, and those looked for that are not known.
    pub(crate) fn missed(&self) {
        self.has_missed.store(true, Ordering::Relaxed);
        self.changed.notify_one();
    }

    fn take_missed(&self) -> bool {
        self.has_missed.swap(false, Ordering::Relaxed)
    }

    fn interruptions(&self) -> u64 {
        self.interruptions.load(Ordering::Relaxed)
    }

    /// Whether nothing is remembered.
    #[cfg(test)]
    fn is_empty(&self) -> bool {
        self.state.lock().groups.is_empty()
    }

    /// How many turns members have.
    #[cfg(test)]
    pub(crate) fn turns(&self) -> usize {
        self.state.lock().turns.len()
    }

    /// Whether a member was heard from.
    #[cfg(test)]
    fn remembers(&self, group: &str, member: &str) -> bool {
        self.state.lock().groups.get(group).is_some_and(|record| record.heard.contains_key(member))
    }

    /// A group has changed, and perhaps its timeouts with it.
    pub(crate) fn group_changed(&self, group: &Arc<str>) {
        self.state.lock().changed.insert(Arc::clone(group));
        self.changed.notify_one();
    }

    /// The groups that have changed since the last call.
    fn take_changed(&self) -> BTreeSet<Arc<str>> {
        std::mem::take(&mut self.state.lock().changed)
    }
}

/// A member that waits for its group.
pub(crate) struct Waiting {
    coordinator: Arc<Coordinator>,
    group: Arc<str>,
    member: Arc<str>,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let now_ms = self.coordinator.time.now_ms();
        let mut state = self.coordinator.state.lock();
        let heard = state.groups.get_mut(&self.group).and_then(|record| record.heard.get_mut(&self.member));
        if let Some(heard) = heard {
            heard.waiting -= 1;
            heard.at_ms = now_ms;
        }
        drop(state);
        // It may have left while it waited.
        self.coordinator.group_changed(&self.group);
    }
}
