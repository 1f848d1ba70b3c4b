//! What this broker knows of group members that no store is told: when each was last heard from.
//!
//! A heartbeat writes nothing. It is noted here, and the [`keeper`] renews the leases of all members in batches, well
//! before they lapse. A broker that dies takes these notes with it, and nothing is lost: its members are heard from by the
//! next broker before their leases have lapsed, or join again.

pub mod keeper;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kernel::clock::SharedClock;
use tokio::sync::Notify;

/// A member's place: its group and its id.
type Seat = (Arc<str>, Arc<str>);

/// Notes on members, and the means to wake the keeper.
pub struct Coordinator {
    notes: Mutex<HashMap<Seat, Note>>,
    clock: SharedClock,
    changed: Notify,
}

#[derive(Debug, Clone, Copy, Default)]
struct Note {
    heard_ms: i64,
    /// Calls of the member that wait here for its group: it cannot say anything else meanwhile.
    waiting: usize,
}

impl Coordinator {
    /// No notes.
    pub(crate) fn new(clock: SharedClock) -> Self {
        Self { notes: Mutex::default(), clock, changed: Notify::new() }
    }

    /// Notes that a member has been heard from.
    pub(crate) fn heard(&self, group: &Arc<str>, member: &Arc<str>) {
        let now_ms = self.clock.now_ms();
        let mut notes = self.notes();
        notes.entry((Arc::clone(group), Arc::clone(member))).or_default().heard_ms = now_ms;
    }

    /// Notes that a call of a member waits, until the guard is dropped.
    pub(crate) fn waits(self: &Arc<Self>, group: &Arc<str>, member: &Arc<str>) -> Waiting {
        let seat = (Arc::clone(group), Arc::clone(member));
        self.notes().entry(seat.clone()).or_default().waiting += 1;
        Waiting { coordinator: Arc::clone(self), seat }
    }

    /// Tells the keeper that a group has changed, and with it the time at which something is due.
    pub(crate) fn group_changed(&self) {
        self.changed.notify_one();
    }

    /// When a member was last heard from, in ms.
    fn last_heard(&self, seat: &Seat, now_ms: i64) -> Option<i64> {
        let notes = self.notes();
        let note = notes.get(seat)?;
        Some(if note.waiting > 0 { now_ms } else { note.heard_ms })
    }

    /// Forgets members that are gone.
    fn keep_only(&self, is_member: impl Fn(&Seat) -> bool) {
        self.notes().retain(|seat, note| note.waiting > 0 || is_member(seat));
    }

    fn notes(&self) -> MutexGuard<'_, HashMap<Seat, Note>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A member that waits for its group.
pub(crate) struct Waiting {
    coordinator: Arc<Coordinator>,
    seat: Seat,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let now_ms = self.coordinator.clock.now_ms();
        if let Some(note) = self.coordinator.notes().get_mut(&self.seat) {
            note.waiting -= 1;
            note.heard_ms = now_ms;
        }
    }
}
