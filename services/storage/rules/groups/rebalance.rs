//! The rebalance of a classic group, from the first join to the leader's assignment.
//!
//! Its start touches the group alone. Its end, once all have joined, loads and renews all members: each is written once.

use std::sync::Arc;

use super::group::Group;
use super::protocols;
use crate::documents::{Deadline, GroupState, InitialDelay};

/// How long a generation waits for SyncGroup at least, in ms, however short the rebalance timeout is: nobody can be told of one
/// that has ended. Kafka has sent its answers before the time begins to run.
const SYNC_MS_MIN: i64 = 1_000;

impl Group<'_> {
    /// Removes a member and starts the rebalance that this causes.
    pub(super) fn remove(&mut self, id: &Arc<str>, now_ms: i64) {
        self.take_out(id);
        match self.document.state {
            GroupState::Stable | GroupState::CompletingRebalance => self.prepare(0, now_ms),
            GroupState::PreparingRebalance => self.complete_if_all_joined(now_ms),
            GroupState::Empty | GroupState::Assigning | GroupState::Reconciling => {}
        }
    }

    /// Removes a pending member id (KIP-394) that was not used.
    pub(super) fn remove_pending(&mut self, id: &str, now_ms: i64) {
        self.end_pending(id);
        self.complete_if_all_joined(now_ms);
    }

    fn enter(&mut self, state: GroupState) {
        self.document.state = state;
        self.document.deadline = None;
    }

    fn rebalance_timeout_ms(&self) -> i64 {
        let longest = self.tally().rebalance_timeouts.last_key_value();
        longest.map_or(0, |(timeout_ms, _)| i64::from(*timeout_ms))
    }

    /// Starts a rebalance: all members must rejoin. A group that was empty waits for more members.
    pub(super) fn prepare(&mut self, initial_delay_ms: i64, now_ms: i64) {
        let was_empty = self.document.state == GroupState::Empty;
        // No member has received the new assignments, and the old ones are no longer valid.
        self.document.has_void_assignments |= self.document.state == GroupState::CompletingRebalance;
        let timeout_ms = self.rebalance_timeout_ms();
        self.enter(GroupState::PreparingRebalance);
        if !was_empty {
            self.document.deadline = Some(Deadline { at_ms: now_ms + timeout_ms, initial: None });
            self.complete_if_all_joined(now_ms);
            return;
        }
        let initial = InitialDelay {
            step_ms: initial_delay_ms,
            left_ms: (timeout_ms - initial_delay_ms).max(0),
            has_newcomer: false,
        };
        self.document.deadline = Some(Deadline { at_ms: now_ms + initial_delay_ms, initial: Some(initial) });
        self.end_if_late(now_ms);
    }

    /// Starts the next generation if all members have joined.
    pub(super) fn complete_if_all_joined(&mut self, now_ms: i64) {
        let is_initial = self.document.deadline.is_some_and(|deadline| deadline.initial.is_some());
        let all_joined = self.tally().joined == self.document.members && self.document.pending_ids.is_none();
        if self.document.state == GroupState::PreparingRebalance && !is_initial && all_joined {
            self.complete(now_ms);
        }
    }

    /// Applies the group's deadline if it has passed.
    pub(super) fn end_if_late(&mut self, now_ms: i64) {
        let Some(deadline) = self.document.deadline.filter(|deadline| deadline.at_ms <= now_ms) else {
            return;
        };
        match (self.document.state, deadline.initial) {
            (GroupState::PreparingRebalance, Some(initial))
                if initial.has_newcomer && initial.left_ms > 0 =>
            {
                let step_ms = initial.step_ms.min(initial.left_ms);
                let left_ms = (initial.left_ms - initial.step_ms).max(0);
                let initial = InitialDelay { left_ms, has_newcomer: false, ..initial };
                self.document.deadline = Some(Deadline { at_ms: now_ms + step_ms, initial: Some(initial) });
            }
            (GroupState::PreparingRebalance, _) => self.complete(now_ms),
            (GroupState::CompletingRebalance | GroupState::Stable, _) => self.remove_unsynced(now_ms),
            (GroupState::Empty | GroupState::Assigning | GroupState::Reconciling, _) => {
                self.document.deadline = None;
            }
        }
    }

    /// Starts the next generation with the members that have joined. Static members need not have joined
    /// (KIP-345).
    fn complete(&mut self, now_ms: i64) {
        self.load_all();
        let members = self.members().into_iter();
        let late = members.filter(|(_, member)| !member.has_joined && member.instance_id.is_none());
        for id in late.map(|(id, _)| Arc::clone(id)).collect::<Vec<_>>() {
            self.take_out(&id);
        }
        if !self.elect_joined_leader() && self.count() > 0 {
            // Only static members are left and none has rejoined: they stay until their session timeout.
            let at_ms = now_ms + self.rebalance_timeout_ms();
            self.document.deadline = Some(Deadline { at_ms, initial: None });
            return;
        }
        self.document.generation = self.document.generation.wrapping_add(1).max(0);
        let has_void_assignments = std::mem::take(&mut self.document.has_void_assignments);
        if self.count() == 0 {
            (self.document.protocol, self.document.leader) = (None, None);
            self.enter(GroupState::Empty);
            self.document.since_ms = self.wall_ms.unwrap_or(now_ms);
            return;
        }
        self.document.protocol = protocols::select(&self.documents());
        self.enter(GroupState::CompletingRebalance);
        let at_ms = now_ms + self.rebalance_timeout_ms().max(SYNC_MS_MIN);
        self.document.deadline = Some(Deadline { at_ms, initial: None });
        self.each(|member| {
            (member.has_joined, member.has_synced) = (false, false);
            member.lease_ms = now_ms + i64::from(member.session_timeout_ms);
            if has_void_assignments {
                member.assignment = Default::default();
            }
        });
    }

    /// Elects the first member that has joined, unless the leader has.
    fn elect_joined_leader(&mut self) -> bool {
        let leader = self.document.leader.as_deref().and_then(|leader| self.member(leader));
        if leader.is_some_and(|leader| leader.has_joined) {
            return true;
        }
        let joined = self.members().into_iter().find(|(_, member)| member.has_joined);
        let joined = joined.map(|(id, _)| Arc::clone(id));
        let is_found = joined.is_some();
        if is_found {
            self.document.leader = joined;
        }
        is_found
    }

    /// Removes members that joined but did not send SyncGroup in time.
    fn remove_unsynced(&mut self, now_ms: i64) {
        self.document.deadline = None;
        if self.tally().unsynced == 0 {
            return;
        }
        self.load_all();
        let unsynced = self.members().into_iter().filter(|(_, member)| !member.has_synced);
        let unsynced: Vec<_> = unsynced.map(|(id, _)| Arc::clone(id)).collect();
        unsynced.iter().for_each(|id| self.take_out(id));
        self.prepare(0, now_ms);
    }

    /// The leader has assigned: the group becomes Stable.
    pub(super) fn settle(&mut self) {
        self.document.state = GroupState::Stable;
    }

    /// Gives the current state its whole time anew, from now, and the members at least a whole session to be heard from.
    pub(super) fn restart_deadline(&mut self, now_ms: i64) {
        let session_ms = self.tally().session_timeouts.last_key_value();
        let session_ms = session_ms.map_or(0, |(session_ms, _)| i64::from(*session_ms));
        let timeout_ms = self.rebalance_timeout_ms().max(session_ms);
        if let Some(deadline) = &mut self.document.deadline {
            // The end of the initial delay removes nobody.
            let wait_ms = deadline.initial.map_or(timeout_ms, |initial| initial.step_ms);
            deadline.at_ms = now_ms.saturating_add(wait_ms);
        }
    }
}
