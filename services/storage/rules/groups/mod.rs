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
mod consumer;
mod documents;
mod join;
mod leave;
mod offsets;
mod party;
mod protocols;
mod sync;
mod tick;

pub use change::{CommittedOffset, GroupChange, Join, Joined, LeftMember, Member, Sync, Synced};
pub use consumer::{
    ASSIGNORS, Beat, Beaten, ConsumerGroup, ConsumerMember, Matches, MemberState, Partitions,
    SubscribedTopic, assignor,
};
pub use documents::{
    Blob, Deadline, GroupDocument, GroupState, InitialDelay, MemberDocument, MemberProtocol, OffsetDocument,
    OffsetIndex,
};
pub use protocols::CONSUMER;

use std::collections::BTreeSet;
use std::sync::Arc;

use kernel::ErrorCode;

use super::command::{Done, Outcome, Refused};
use super::documents::Key;
use super::working_set::WorkingSet;
use party::Party;

/// The documents that a change takes.
pub(super) fn keys(group: &Arc<str>, change: &GroupChange, set: &WorkingSet<'_>) -> Vec<Key> {
    let mut keys = vec![Key::Group(Arc::clone(group))];
    if let Some(document) = set.group(group) {
        keys.extend(document.members.iter().map(|member| Key::Member(Arc::clone(group), Arc::clone(member))));
    }
    keys.extend(consumer::topic_keys(group, change, set));
    if change.touches_offsets() {
        keys.push(Key::OffsetIndex(Arc::clone(group)));
        keys.extend(offsets::keys(group, change, set));
    }
    keys
}

/// Decides a change.
pub(super) fn decide(set: &mut WorkingSet<'_>, group: &Arc<str>, change: GroupChange) -> Outcome {
    match change {
        GroupChange::CommitOffsets { member, offsets, knows_epochs, now_ms } => {
            offsets::commit(set, group, &offsets::Committer { member, knows_epochs }, offsets, now_ms)
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
            let joined = joined(&mut party, set, *join)?;
            party.store(set);
            Ok(Done::Joined(joined))
        }
        GroupChange::Sync(sync) => {
            let mut party = Party::load(set, group).ok_or_else(party::unknown_member)?;
            let synced = match party.group.consumer.is_some() {
                true => consumer::classic::sync(&mut party, &sync)?,
                false => sync::sync(&mut party, *sync)?,
            };
            party.store(set);
            Ok(Done::Synced(synced))
        }
        GroupChange::Beat(beat) => {
            let mut party = consumer_party(set, group, &beat)?;
            let beaten = consumer::heartbeat(&mut party, set, &beat)?;
            party.store(set);
            Ok(Done::Beaten(beaten))
        }
        GroupChange::EndBeat { member, now_ms } => {
            let party = Party::load(set, group).filter(|party| party.group.consumer.is_some());
            let mut party = party.ok_or_else(|| party::refused(ErrorCode::GroupIdNotFound))?;
            consumer::leave(&mut party, &member, now_ms)?;
            party.store(set);
            Ok(Done::Changed)
        }
        GroupChange::Leave { members, now_ms } => {
            let mut party = Party::load(set, group).ok_or_else(party::unknown_member)?;
            let left = match party.group.consumer.is_some() {
                true => consumer::classic::leave(&mut party, &members, now_ms),
                false => leave::leave(&mut party, &members, now_ms),
            };
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

/// A classic member joins. A group of the other protocol that nobody is in becomes a classic one.
fn joined(party: &mut Party, set: &WorkingSet<'_>, join: Join) -> Result<Joined, Refused> {
    if party.group.consumer.is_some() && party.count() == 0 {
        party.group = GroupDocument::empty(join.now_ms);
    }
    match party.group.consumer.is_some() {
        true => consumer::classic::join(party, set, &join),
        false => join::join(party, join),
    }
}

/// The group of the consumer protocol that a heartbeat is for. A classic one is moved over, if it can be, when the first
/// member joins that speaks the other protocol.
fn consumer_party(set: &WorkingSet<'_>, group: &Arc<str>, beat: &Beat) -> Result<Party, Refused> {
    let not_found = || party::refused(ErrorCode::GroupIdNotFound);
    let joins = beat.member.generation == 0;
    let mut party = match Party::load(set, group) {
        Some(party) if party.group.consumer.is_some() => return Ok(party),
        _ if !joins => return Err(not_found()),
        Some(party) => party,
        None => Party::new(group, beat.now_ms),
    };
    if party.count() == 0 {
        party.group = GroupDocument::empty(beat.now_ms);
        party.group.protocol_type = Some(Arc::from(protocols::CONSUMER));
        party.group.consumer = Some(Arc::default());
    } else if consumer::migrate::can_upgrade(&party) {
        consumer::migrate::upgrade(&mut party, set, beat.now_ms);
    } else {
        return Err(not_found());
    }
    Ok(party)
}

/// The topics that a member subscribes to by name.
pub fn subscription_of(member: &MemberDocument) -> BTreeSet<Arc<str>> {
    consumer::subscribed(&ConsumerGroup::default(), member)
}

/// Whether a member of the classic protocol that is in a group of the consumer protocol is to join again.
pub fn must_join_again(
    group: &Arc<GroupDocument>,
    members: &[(Arc<str>, Arc<MemberDocument>)],
    id: &Arc<str>,
) -> bool {
    consumer::classic::must_join_again(&Party::of(group, members), id)
}

#[cfg(test)]
mod tests;
