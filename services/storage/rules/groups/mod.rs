//! Consumer groups: who is in one, what each member reads, and how far it has come.
//!
//! A group's life is Kafka's classic protocol (KIP-62, KIP-345, KIP-394). Members *join*; once all have, or the time is
//! up, a new generation begins and its leader assigns the partitions; members *sync* to get their part. Joins and syncs
//! that must wait are parked by their brokers and wait for the group's documents to change. Nothing here waits or looks at
//! a clock: what happens by itself comes as a [`GroupChange::Tick`] that carries the time, and does nothing if its time
//! has not come. So any broker may send one, and twice does no harm.
//!
//! Heartbeats change nothing. A broker tells of the members it has heard from in a tick, well before their leases lapse.

mod change;
mod documents;
mod join;
mod leave;
mod offsets;
mod party;
mod protocols;
mod sync;
mod tick;

pub use change::{CommittedOffset, GroupChange, Join, Joined, LeftMember, Member, Sync, Synced};
pub use documents::{
    Blob, Deadline, GroupDocument, GroupState, InitialDelay, MemberDocument, MemberProtocol, OffsetDocument,
    OffsetIndex,
};
pub use protocols::subscribed_topics;

use std::sync::Arc;

use super::command::{Done, Outcome};
use super::documents::Key;
use super::working_set::WorkingSet;
use party::Party;

/// The documents that a change takes.
pub(super) fn keys(group: &Arc<str>, change: &GroupChange, set: &WorkingSet<'_>) -> Vec<Key> {
    let mut keys = vec![Key::Group(Arc::clone(group))];
    if let Some(document) = set.group(group) {
        keys.extend(document.members.iter().map(|member| Key::Member(Arc::clone(group), Arc::clone(member))));
    }
    if change.touches_offsets() {
        keys.push(Key::OffsetIndex(Arc::clone(group)));
        keys.extend(offsets::keys(group, change, set));
    }
    keys
}

/// Decides a change.
pub(super) fn decide(set: &mut WorkingSet<'_>, group: &Arc<str>, change: GroupChange) -> Outcome {
    match change {
        GroupChange::CommitOffsets { member, offsets, now_ms } => {
            offsets::commit(set, group, &member, offsets, now_ms)
        }
        GroupChange::DeleteOffsets { offsets } => offsets::delete(set, group, &offsets),
        GroupChange::ExpireOffsets { now_ms, retention_ms } => {
            offsets::expire(set, group, now_ms, retention_ms)
        }
        GroupChange::Delete => offsets::delete_group(set, group),
        GroupChange::Join(join) => {
            let mut party = match Party::load(set, group) {
                Some(party) => party,
                None if join.member.id.is_empty() => Party::new(group, join.now_ms),
                None => return Err(party::unknown_member()),
            };
            let joined = join::join(&mut party, *join)?;
            party.store(set);
            Ok(Done::Joined(joined))
        }
        GroupChange::Sync(sync) => {
            let mut party = Party::load(set, group).ok_or_else(party::unknown_member)?;
            let synced = sync::sync(&mut party, *sync)?;
            party.store(set);
            Ok(Done::Synced(synced))
        }
        GroupChange::Leave { members, now_ms } => {
            let mut party = Party::load(set, group).ok_or_else(party::unknown_member)?;
            let left = leave::leave(&mut party, &members, now_ms);
            party.store(set);
            Ok(Done::Left(left))
        }
        GroupChange::Tick { now_ms, heard } => {
            if let Some(mut party) = Party::load(set, group) {
                tick::tick(&mut party, now_ms, &heard);
                party.store(set);
            }
            Ok(Done::Changed)
        }
    }
}

#[cfg(test)]
mod tests;
