//! When the sessions of members end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rules::documents::MemberDocument;
use rules::groups::GroupView;

use super::{Coordinator, Heard, LastHeard, Record};

/// How late it may be written down that a member was heard from, in ms.
const SLACK_MS: i64 = 3_000;
/// For so long what a member was granted is remembered of a group that another broker looks after by now, in ms.
const REMEMBERED_MS: i64 = 3_600_000;

/// What members that are silent were granted because other brokers had gone, by group.
pub(super) type Graces = HashMap<Arc<str>, HashMap<Arc<str>, Grace>>;

/// What a member was granted since it was last heard from: one more session, however often other brokers come and go.
/// Otherwise one of them that starts again and again would keep members that have died.
#[derive(Debug, Clone, Copy)]
pub(super) struct Grace {
    /// When it was last heard from, as its lease and this broker know: later changes are of a member that lives.
    heard: (i64, Option<i64>),
    /// Since when that is known here, in ms.
    seen_ms: i64,
    /// From when its session counts, in ms.
    from_ms: i64,
    has_been_granted: bool,
}

impl Grace {
    /// The grace of a member, if brokers were last gone at a time.
    fn of(before: Option<Self>, heard: (i64, Option<i64>), started_ms: i64, now_ms: i64) -> Self {
        match before.filter(|grace| grace.heard == heard) {
            None => Self { heard, seen_ms: now_ms, from_ms: started_ms, has_been_granted: false },
            Some(grace) if started_ms > grace.seen_ms && !grace.has_been_granted => {
                Self { from_ms: started_ms, has_been_granted: true, ..grace }
            }
            Some(grace) => grace,
        }
    }
}

impl Coordinator {
    /// When the session of each member of a group ends, in ms, in the order of its members: not before a whole one since this
    /// broker looks after the group. Records of former members are removed.
    pub(super) fn sessions_end(
        &self,
        group: &Arc<str>,
        view: Option<&GroupView>,
        since_ms: Option<i64>,
        now_ms: i64,
    ) -> Vec<i64> {
        let members = view.map_or(&[][..], |view| &view.members);
        let started_ms = self.started_ms.load(Ordering::Relaxed).max(since_ms.unwrap_or(i64::MIN));
        let has_others = self.has_others.load(Ordering::Relaxed);
        let mut state = self.state.lock();
        let Record { heard: mut was, seen, matched } = state.groups.remove(group).unwrap_or_default();
        let mut granted = state.graces.remove(group).unwrap_or_default();
        let (mut heard, mut graces) = (Heard::with_capacity(members.len()), HashMap::new());
        let mut ends = Vec::with_capacity(members.len());
        for (id, member) in members {
            let last = was.remove(id);
            heard.extend(last.map(|last| (Arc::clone(id), last)));
            if !has_others {
                ends.push(alone(member, last, started_ms, now_ms));
                continue;
            }
            let known = (member.lease_ms, last.map(|last| last.at_ms));
            let grace = Grace::of(granted.remove(id), known, started_ms, now_ms);
            graces.insert(Arc::clone(id), grace);
            ends.push(among_others(member, last, &grace, now_ms));
        }
        heard.extend(was.into_iter().filter(|(_, last)| last.waiting > 0));
        if !heard.is_empty() {
            state.groups.insert(Arc::clone(group), Record { heard, seen, matched });
        }
        if !graces.is_empty() {
            state.graces.insert(Arc::clone(group), graces);
        }
        ends
    }

    /// Forgets what was granted to members of groups that other brokers have looked after for long.
    pub(super) fn forget_graces(&self) {
        let now_ms = self.time.now_ms();
        let is_new = |grace: &Grace| now_ms - grace.seen_ms < REMEMBERED_MS;
        self.state.lock().graces.retain(|_, members| members.values().any(is_new));
    }
}

/// Of a broker that nobody shares the store with.
fn alone(member: &MemberDocument, last: Option<LastHeard>, started_ms: i64, now_ms: i64) -> i64 {
    let heard_ms = match last {
        Some(last) if last.waiting > 0 => now_ms,
        Some(last) => last.at_ms.max(started_ms),
        None => started_ms,
    };
    member.lease_ms.max(heard_ms + i64::from(member.session_timeout_ms))
}

/// Of a broker that shares the store with others, which write down whom they hear.
fn among_others(member: &MemberDocument, last: Option<LastHeard>, grace: &Grace, now_ms: i64) -> i64 {
    let session_ms = i64::from(member.session_timeout_ms);
    let heard_ms = match last {
        Some(last) if last.waiting > 0 => now_ms,
        Some(last) => last.at_ms.max(grace.from_ms),
        None => grace.from_ms,
    };
    // Another broker may be about to write down that it has heard from the member.
    let slack_ms = if last.is_none() { SLACK_MS } else { 0 };
    // A lease that ends later than any can was written before the clock was set back.
    let is_of_now = member.lease_ms <= grace.seen_ms + session_ms + SLACK_MS;
    let lease_ms = if is_of_now { member.lease_ms } else { grace.seen_ms + session_ms };
    (lease_ms + slack_ms).max(heard_ms + session_ms)
}
