//! When this broker last heard from each group member, which is kept only in memory.
//!
//! A heartbeat writes nothing. It is recorded here, and [`lease_renewal`] renews the leases of all members in
//! batches, well before they expire. If a broker fails, its records are lost without harm: the members reach
//! the next broker before their leases expire, or rejoin.

pub(crate) mod lease_renewal;

use std::collections::HashMap;
use std::sync::Arc;

use kernel::clock::SharedClock;
use parking_lot::Mutex;
use rules::documents::MemberKey;
use tokio::sync::Notify;

/// When members were last heard from, and a signal that wakes the lease renewal.
pub(crate) struct Coordinator {
    members: Mutex<HashMap<MemberKey, LastHeard>>,
    clock: SharedClock,
    changed: Notify,
}

/// When a member was last heard from.
#[derive(Debug, Clone, Copy, Default)]
struct LastHeard {
    at_ms: i64,
    /// Calls of the member that wait here for its group: it can send no heartbeat meanwhile.
    waiting: usize,
}

fn key(group: &Arc<str>, member: &Arc<str>) -> MemberKey {
    MemberKey { group: Arc::clone(group), member: Arc::clone(member) }
}

impl Coordinator {
    /// No member has been heard from.
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self { members: Mutex::default(), clock, changed: Notify::new() }
    }

    /// Records that a member has been heard from.
    pub(crate) fn heard(&self, group: &Arc<str>, member: &Arc<str>) {
        let now_ms = self.clock.now_ms();
        self.members.lock().entry(key(group, member)).or_default().at_ms = now_ms;
    }

    /// Records that a call of a member waits, until the guard is dropped.
    pub(crate) fn waits(self: &Arc<Self>, group: &Arc<str>, member: &Arc<str>) -> Waiting {
        let key = key(group, member);
        self.members.lock().entry(key.clone()).or_default().waiting += 1;
        Waiting { coordinator: Arc::clone(self), key }
    }

    /// Wakes the lease renewal: a group has changed, and its timeouts may have changed with it.
    pub(crate) fn group_changed(&self) {
        self.changed.notify_one();
    }

    /// When a member was last heard from, in ms.
    fn last_heard(&self, key: &MemberKey, now_ms: i64) -> Option<i64> {
        let members = self.members.lock();
        let heard = members.get(key)?;
        Some(if heard.waiting > 0 { now_ms } else { heard.at_ms })
    }

    /// Removes the records of former members.
    fn keep_only(&self, is_member: impl Fn(&MemberKey) -> bool) {
        self.members.lock().retain(|key, heard| heard.waiting > 0 || is_member(key));
    }
}

/// A member that waits for its group.
pub(crate) struct Waiting {
    coordinator: Arc<Coordinator>,
    key: MemberKey,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let now_ms = self.coordinator.clock.now_ms();
        if let Some(heard) = self.coordinator.members.lock().get_mut(&self.key) {
            heard.waiting -= 1;
            heard.at_ms = now_ms;
        }
    }
}
