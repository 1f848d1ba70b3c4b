//! Leases of members, for brokers that share a store.
//!
//! Whom a member's heartbeats reach remembers them; another broker, which looks after the group's timeouts, cannot know. So
//! it is written down, for many members at a time and some of the times that each was heard.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::group::Group;

/// When members were last heard from, in ms of store time.
pub(super) type Heard = BTreeMap<Arc<str>, i64>;

/// Renews the leases of the members that were heard from. Returns the session timeout of each, in ms; nothing of those that
/// are no members.
pub(super) fn renew(group: &mut Group<'_>, heard: &Heard) -> BTreeMap<Arc<str>, i32> {
    let mut sessions = BTreeMap::new();
    for (id, heard_ms) in heard {
        let Some(member) = group.member(id) else { continue };
        let (session_ms, was_ms) = (member.session_timeout_ms, member.lease_ms);
        sessions.insert(Arc::clone(id), session_ms);
        let lease_ms = heard_ms + i64::from(session_ms);
        // Whoever was heard later than this has a session at most from then; what ends later was written before the clock was
        // set back.
        if lease_ms > was_ms || was_ms > lease_ms + i64::from(session_ms) {
            group.change(id, |member| member.lease_ms = lease_ms);
        }
    }
    sessions
}
