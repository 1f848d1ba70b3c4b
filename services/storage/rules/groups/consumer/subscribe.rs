//! Which topics a group's members subscribe to, and working out who is to read what when that changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::TopicId;
use kernel::consumer_protocol::read_assignment;

use super::assign::{Candidate, Counts, assign};
use super::documents::{ConsumerGroup, SubscribedTopic};
use crate::rules::documents::Key;
use crate::rules::groups::change::{GroupChange, Join};
use crate::rules::groups::documents::MemberDocument;
use crate::rules::groups::party::Party;
use crate::rules::groups::protocols;
use crate::rules::working_set::WorkingSet;

/// The topics that a change is about. Which ones another member of a group subscribes to is in its document.
pub(in crate::rules::groups) fn topic_keys(
    group: &Arc<str>,
    change: &GroupChange,
    set: &WorkingSet<'_>,
) -> Vec<Key> {
    let mut names: BTreeSet<Arc<str>> = match change {
        GroupChange::Beat(beat) => beat.topics.iter().flatten().cloned().collect(),
        GroupChange::Join(join) if set.group(group).is_some_and(|group| group.consumer.is_some()) => {
            names_in_join(join)
        }
        _ => return Vec::new(),
    };
    if let GroupChange::Beat(beat) = change
        && let Some(matches) = &beat.matches
    {
        names.extend(matches.topics.iter().cloned());
    }
    if let Some(party) = Party::load(set, group) {
        let no_regexes = ConsumerGroup::default();
        let consumer = party.group.consumer.as_deref().unwrap_or(&no_regexes);
        for (_, member) in party.members() {
            names.extend(subscribed(consumer, member));
            names.extend(read_assignment(&member.assignment.0).into_iter().flatten().map(|(name, _)| name));
        }
    }
    names.into_iter().map(Key::Topic).collect()
}

fn names_in_join(join: &Join) -> BTreeSet<Arc<str>> {
    let own = protocols::subscription(&join.protocols);
    own.map(|own| own.topics.into_iter().chain(own.owned.into_keys()).collect()).unwrap_or_default()
}

/// The topics that a member subscribes to.
pub(in crate::rules::groups) fn subscribed(
    group: &ConsumerGroup,
    member: &MemberDocument,
) -> BTreeSet<Arc<str>> {
    if member.is_classic() {
        return protocols::subscription(&member.protocols).map(|own| own.topics).unwrap_or_default();
    }
    let Some(consumer) = &member.consumer else { return BTreeSet::new() };
    let matching = consumer.regex.as_ref().and_then(|regex| group.regexes.get(regex));
    consumer.topics.iter().chain(matching.into_iter().flatten()).cloned().collect()
}

/// Whether any member subscribes to a topic.
pub(in crate::rules::groups) fn is_subscribed(party: &Party, topic: &str) -> bool {
    let Some(group) = &party.group.consumer else { return false };
    party.members().any(|(_, member)| subscribed(group, member).contains(topic))
}

/// Takes in what the members subscribe to, and how the topics are now. Says whether anything is different.
pub(super) fn refresh(party: &mut Party, set: &WorkingSet<'_>) -> bool {
    let topics = |names: &BTreeSet<Arc<str>>| {
        let topic = |name: &Arc<str>| {
            let topic = set.topic(name)?;
            Some((Arc::clone(name), SubscribedTopic { id: topic.id, partitions: topic.partitions }))
        };
        names.iter().filter_map(topic).collect()
    };
    take_in(party, topics)
}

/// The same where no topic's document is at hand: after members have gone.
pub(super) fn narrow(party: &mut Party) {
    let before = party.group.consumer.as_ref().map(|group| group.topics.clone()).unwrap_or_default();
    take_in(party, |names| before.into_iter().filter(|(name, _)| names.contains(name)).collect());
}

fn take_in(
    party: &mut Party,
    topics: impl FnOnce(&BTreeSet<Arc<str>>) -> BTreeMap<Arc<str>, SubscribedTopic>,
) -> bool {
    let Some(group) = &party.group.consumer else { return false };
    let names: BTreeSet<Arc<str>> =
        party.members().flat_map(|(_, member)| subscribed(group, member)).collect();
    let used: BTreeSet<Arc<str>> =
        party.members().filter_map(|(_, member)| member.consumer.as_ref()?.regex.clone()).collect();
    let topics = topics(&names);
    let Some(group) = party.group.consumer.as_mut().map(Arc::make_mut) else { return false };
    group.regexes.retain(|regex, _| used.contains(regex));
    let is_changed = group.topics != topics;
    group.topics = topics;
    is_changed
}

/// Works out the targets, if the group has come to another epoch.
pub(super) fn retarget(party: &mut Party) {
    let epoch = party.group.generation;
    let Some(group) = party.group.consumer.clone().filter(|group| group.assignment_epoch < epoch) else {
        return;
    };
    let counts: Counts = group.topics.values().map(|topic| (topic.id, topic.partitions)).collect();
    let id = |name: &Arc<str>| group.topics.get(name).map(|topic| topic.id);
    let candidate = |member: &MemberDocument| Candidate {
        topics: subscribed(&group, member).iter().filter_map(id).collect::<BTreeSet<TopicId>>(),
        before: member.consumer.as_ref().map(|own| own.target.clone()).unwrap_or_default(),
    };
    let votes = party.members().map(|(_, member)| member.consumer.as_ref()?.assignor.as_deref());
    let assignor = super::assignor(votes);
    let candidates: Vec<Candidate> = party.members().map(|(_, member)| candidate(member)).collect();
    let targets = assign(assignor, &candidates, &counts);
    let ids: Vec<Arc<str>> = party.ids().cloned().collect();
    for (id, target) in ids.iter().zip(targets) {
        if let Some(consumer) = party.consumer_mut(id) {
            consumer.target = target;
        }
    }
    if let Some(group) = party.group.consumer.as_mut().map(Arc::make_mut) {
        group.assignment_epoch = epoch;
    }
}
