//! Groups of the consumer protocol (KIP-848): the broker assigns, and members hear of it in their heartbeats.
//!
//! The group's *epoch* counts what has changed about it: members, subscriptions, topics. Each epoch has a target, worked
//! out by an [assignor](assign); every member goes its own way to its target, at its own pace ([`reconcile`]), and nobody
//! waits for all. Members of the classic protocol may be among them while an application is moved over ([`classic`],
//! [`migrate`]).

mod assign;
pub(super) mod classic;
mod documents;
mod heartbeat;
mod leave;
pub(super) mod migrate;
mod reconcile;
mod subscribe;

pub use assign::ASSIGNORS;
pub use documents::{ConsumerGroup, ConsumerMember, MemberState, Partitions, SubscribedTopic};
pub(super) use heartbeat::heartbeat;
pub use heartbeat::{Beat, Beaten, Matches};
pub(super) use leave::{fence_late, leave};
pub(super) use subscribe::{is_subscribed, subscribed, topic_keys};

use super::documents::{Deadline, GroupState};
use super::party::Party;

/// What the epoch counts has changed.
fn bump(party: &mut Party) {
    party.group.generation = party.group.generation.saturating_add(1);
}

/// The assignor that most members vote for.
pub fn assignor<'a>(votes: impl Iterator<Item = Option<&'a str>>) -> &'static str {
    let votes: Vec<&str> = votes.flatten().collect();
    let count = |assignor: &&&str| votes.iter().filter(|vote| *vote == *assignor).count();
    // The first of those with the most: the default, unless another has more.
    ASSIGNORS.iter().rev().max_by_key(count).copied().unwrap_or(ASSIGNORS[0])
}

/// Brings what follows from the members up to date: the group's state, and by when each must have done what it was told.
fn settle(party: &mut Party, now_ms: i64) {
    set_due(party, now_ms);
    let Some(target_epoch) = party.group.consumer.as_ref().map(|group| group.assignment_epoch) else {
        return;
    };
    let state = state(party, target_epoch);
    if party.group.state != state {
        party.group.state = state;
        party.group.since_ms = now_ms;
    }
    let due_ms = party.members().filter_map(|(_, member)| member.consumer.as_ref()?.due_ms).min();
    party.group.deadline = due_ms.map(|at_ms| Deadline { at_ms, initial: None });
}

fn state(party: &Party, target_epoch: i32) -> GroupState {
    let is_there = |own: &ConsumerMember| own.state == MemberState::Stable && own.epoch == target_epoch;
    let mut members = party.members().filter_map(|(_, member)| member.consumer.as_deref());
    match () {
        () if party.count() == 0 => GroupState::Empty,
        () if party.group.generation > target_epoch => GroupState::Assigning,
        () if members.all(is_there) => GroupState::Stable,
        () => GroupState::Reconciling,
    }
}

fn set_due(party: &mut Party, now_ms: i64) {
    let epoch = party.group.generation;
    let mut changes = Vec::new();
    for (id, member) in party.members() {
        let Some(consumer) = &member.consumer else { continue };
        let must_act = consumer.state == MemberState::Revoking
            || member.is_classic() && (consumer.epoch < epoch || !member.has_synced);
        let due_ms = must_act.then(|| {
            consumer.due_ms.unwrap_or(now_ms.saturating_add(i64::from(member.rebalance_timeout_ms)))
        });
        if consumer.due_ms != due_ms {
            changes.push((id.clone(), due_ms));
        }
    }
    for (id, due_ms) in changes {
        if let Some(consumer) = party.consumer_mut(&id) {
            consumer.due_ms = due_ms;
        }
    }
}

#[cfg(test)]
mod tests;
