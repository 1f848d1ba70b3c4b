//! The topics that members of a group subscribe to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::consumer_protocol::read_assignment;

use crate::commands::{GroupCommand, Join, KnownTopics};
use crate::documents::{ConsumerGroup, MemberDocument, SubscribedTopic};
use crate::groups::group::Group;
use crate::groups::protocols;

/// The topics whose metadata a command needs and does not carry.
pub(in crate::groups) fn missing_topics(group: Option<&Group>, command: &GroupCommand) -> BTreeSet<Arc<str>> {
    let (mut names, known) = match command {
        GroupCommand::ConsumerHeartbeat(heartbeat) => {
            let resolved = heartbeat.resolved_regexes.iter().flat_map(|own| &own.topics);
            let own: BTreeSet<Arc<str>> =
                heartbeat.topics.iter().flatten().chain(resolved).cloned().collect();
            (own, &heartbeat.known_topics)
        }
        GroupCommand::Join(join) if group.is_some_and(|group| group.document.consumer.is_some()) => {
            (names_in_join(join), &join.known_topics)
        }
        _ => return BTreeSet::new(),
    };
    if let Some(group) = group {
        let no_regexes = ConsumerGroup::default();
        let consumer = group.document.consumer.as_deref().unwrap_or(&no_regexes);
        for (_, member) in group.members() {
            names.extend(subscribed(consumer, member));
            names.extend(read_assignment(&member.assignment.0).into_iter().flatten().map(|(name, _)| name));
        }
    }
    names.retain(|name| !known.knows(name));
    names
}

fn names_in_join(join: &Join) -> BTreeSet<Arc<str>> {
    let own = protocols::subscription(&join.protocols);
    own.map(|own| own.topics.into_iter().chain(own.owned.into_keys()).collect()).unwrap_or_default()
}

/// The topics that a member subscribes to.
pub(super) fn subscribed(group: &ConsumerGroup, member: &MemberDocument) -> BTreeSet<Arc<str>> {
    if member.is_classic() {
        return protocols::subscription(&member.protocols).map(|own| own.topics).unwrap_or_default();
    }
    let Some(consumer) = &member.consumer else { return BTreeSet::new() };
    let matching = consumer.regex.as_ref().and_then(|regex| group.regexes.get(regex));
    consumer.topics.iter().chain(matching.into_iter().flatten()).cloned().collect()
}

/// The topics that a member subscribes to by name.
pub fn subscribed_names(member: &MemberDocument) -> BTreeSet<Arc<str>> {
    subscribed(&ConsumerGroup::default(), member)
}

/// Whether any member subscribes to a topic.
pub(in crate::groups) fn is_subscribed(group: &Group, topic: &str) -> bool {
    let Some(consumer) = &group.document.consumer else { return false };
    group.members().any(|(_, member)| subscribed(consumer, member).contains(topic))
}

/// Updates the metadata of the subscribed topics. Returns whether it has changed.
pub(super) fn update_topics(group: &mut Group, known: &KnownTopics) -> bool {
    let topics = |names: &BTreeSet<Arc<str>>| {
        let topic = |name: &Arc<str>| Some((Arc::clone(name), known.get(name)?));
        names.iter().filter_map(topic).collect()
    };
    replace_topics(group, topics)
}

/// The same without new topic metadata: after members have left.
pub(super) fn drop_unused_topics(group: &mut Group) {
    let before = group.document.consumer.as_ref().map(|group| group.topics.clone()).unwrap_or_default();
    replace_topics(group, |names| before.into_iter().filter(|(name, _)| names.contains(name)).collect());
}

fn replace_topics(
    group: &mut Group,
    topics: impl FnOnce(&BTreeSet<Arc<str>>) -> BTreeMap<Arc<str>, SubscribedTopic>,
) -> bool {
    let Some(consumer) = &group.document.consumer else { return false };
    let names: BTreeSet<Arc<str>> =
        group.members().flat_map(|(_, member)| subscribed(consumer, member)).collect();
    let used: BTreeSet<Arc<str>> =
        group.members().filter_map(|(_, member)| member.consumer.as_ref()?.regex.clone()).collect();
    let topics = topics(&names);
    let Some(consumer) = group.document.consumer.as_mut().map(Arc::make_mut) else { return false };
    consumer.regexes.retain(|regex, _| used.contains(regex));
    let is_changed = consumer.topics != topics;
    consumer.topics = topics;
    is_changed
}
