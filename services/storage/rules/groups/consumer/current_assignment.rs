//! A member's next step from its current assignment to its target assignment.
//!
//! A partition is assigned to one member at a time: a member first revokes what is not in its target, and
//! gets a new partition only after every other member has released it. All state is in the documents, so any
//! broker can take any step.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::TopicId;

use crate::documents::{ConsumerMember, MemberState, Partitions, each, holds};

/// Advances a member as far as possible.
///
/// `owned` lists the partitions that the member still owns, if sent; `is_taken` tells whether another member
/// has a partition.
pub(super) fn next_assignment(
    member: &mut ConsumerMember,
    target_epoch: i32,
    owned: Option<&Partitions>,
    is_taken: impl Fn(TopicId, i32) -> bool,
) {
    match member.state {
        MemberState::Stable if member.epoch == target_epoch => {}
        MemberState::Stable | MemberState::Waiting => {
            let epoch = member.epoch;
            step(member, epoch, target_epoch, owned, is_taken);
        }
        MemberState::Revoking if still_owns(owned, &member.revoking) => {}
        // It has revoked, so its member epoch advances by one.
        MemberState::Revoking => {
            let epoch = member.epoch.saturating_add(1);
            step(member, epoch, target_epoch, owned, is_taken);
        }
    }
}

fn step(
    member: &mut ConsumerMember,
    epoch: i32,
    target_epoch: i32,
    owned: Option<&Partitions>,
    is_taken: impl Fn(TopicId, i32) -> bool,
) {
    let (kept, revoked) = split(&member.assigned, |topic, at| holds(&member.target, topic, at));
    if !revoked.is_empty() && still_owns(owned, &revoked) {
        enter(member, MemberState::Revoking, epoch);
        (member.assigned, member.revoking) = (Arc::new(kept), Arc::new(revoked));
        return;
    }
    let (_, pending) = split(&member.target, |topic, at| holds(&kept, topic, at));
    let (taken, free) = split(&pending, is_taken);
    let state = if taken.is_empty() { MemberState::Stable } else { MemberState::Waiting };
    enter(member, state, target_epoch);
    let mut assigned = kept;
    for (topic, at) in each(&free) {
        assigned.entry(topic).or_default().insert(at);
    }
    (member.assigned, member.revoking) = (Arc::new(assigned), Arc::default());
}

/// Since which member epoch a member has each of its partitions after a step: those that it did not have before, since
/// this one (KIP-1251).
pub(super) fn assigned_since(before: &ConsumerMember, after: &ConsumerMember) -> BTreeMap<i32, Partitions> {
    // By partition: a member may have ten thousand, of as many epochs.
    let known = before.since.iter().flat_map(|(epoch, of_epoch)| each(of_epoch).map(|at| (at, *epoch)));
    let known: BTreeMap<(TopicId, i32), i32> = known.collect();
    let had = |(topic, at)| holds(&before.assigned, topic, at) || holds(&before.revoking, topic, at);
    let mut since: BTreeMap<i32, Partitions> = BTreeMap::new();
    let mut note = |is_kept: bool, (topic, at)| {
        let earlier = || known.get(&(topic, at)).copied().unwrap_or(before.epoch);
        let epoch = if is_kept { earlier() } else { after.epoch };
        since.entry(epoch).or_default().entry(topic).or_default().insert(at);
    };
    for (topic, at) in each(&after.assigned) {
        note(holds(&before.assigned, topic, at), (topic, at));
    }
    for at in each(&after.revoking) {
        note(had(at), at);
    }
    since
}

fn enter(member: &mut ConsumerMember, state: MemberState, epoch: i32) {
    member.state = state;
    if member.epoch != epoch {
        (member.previous_epoch, member.epoch) = (member.epoch, epoch);
    }
}

/// A member that does not send its owned partitions may still own all of them.
pub(super) fn still_owns(owned: Option<&Partitions>, revoked: &Partitions) -> bool {
    match owned {
        Some(owned) => each(revoked).any(|(topic, at)| holds(owned, topic, at)),
        None => true,
    }
}

/// The partitions for which `fits` is true, and the others.
fn split(partitions: &Partitions, fits: impl Fn(TopicId, i32) -> bool) -> (Partitions, Partitions) {
    let (mut fitting, mut others) = (Partitions::new(), Partitions::new());
    for (topic, at) in each(partitions) {
        let side = if fits(topic, at) { &mut fitting } else { &mut others };
        side.entry(topic).or_default().insert(at);
    }
    (fitting, others)
}
