//! The topics that members of a group subscribe to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::consumer_protocol::read_assignment;

use crate::commands::{ConsumerHeartbeat, GroupCommand, Join, KnownTopics};
use crate::documents::{GroupTopics, MemberDocument, SubscribedTopic};
use crate::groups::group::Group;
use crate::groups::protocols::{self, subscribed_names};

/// The topics whose metadata a command needs and does not carry.
pub(in crate::groups) fn missing_topics(group: &mut Group<'_>, command: &GroupCommand) -> BTreeSet<Arc<str>> {
    let is_of_consumers = group.document.consumer.is_some();
    let (mut names, known) = match command {
        GroupCommand::ConsumerHeartbeat(heartbeat) => {
            (names_in_heartbeat(heartbeat), &heartbeat.known_topics)
        }
        GroupCommand::Join(join) if is_of_consumers => (names_in_join(join), &join.known_topics),
        _ => return BTreeSet::new(),
    };
    let may_upgrade = matches!(command, GroupCommand::ConsumerHeartbeat(heartbeat) if heartbeat.joins());
    if is_of_consumers && (are_current(command) || known.others_stand()) {
        if !names.is_empty() {
            group.load_topics();
        }
        names.retain(|name| !group.topics().topics.contains_key(name));
    } else if is_of_consumers {
        group.load_topics();
        names.extend(all_names(group));
    } else if may_upgrade {
        group.load_all();
        for (_, member) in group.members() {
            names.extend(subscribed_names(member));
            names.extend(read_assignment(&member.assignment.0).into_iter().flatten().map(|(name, _)| name));
        }
    }
    names.retain(|name| !known.knows(name));
    names
}

/// Whether the group has the metadata of its topics as they are now.
fn are_current(command: &GroupCommand) -> bool {
    matches!(command, GroupCommand::ConsumerHeartbeat(heartbeat) if heartbeat.topics_are_current)
}

fn names_in_heartbeat(heartbeat: &ConsumerHeartbeat) -> BTreeSet<Arc<str>> {
    let resolved = heartbeat.resolved_regexes.iter().flat_map(|own| &own.topics);
    heartbeat.topics.iter().flatten().chain(resolved).cloned().collect()
}

fn names_in_join(join: &Join) -> BTreeSet<Arc<str>> {
    let own = protocols::subscription(&join.protocols);
    own.map(|own| own.topics.into_iter().chain(own.owned.into_keys()).collect()).unwrap_or_default()
}

/// The topics that a member subscribes to.
pub(super) fn subscribed(topics: &GroupTopics, member: &MemberDocument) -> BTreeSet<Arc<str>> {
    let mut names = subscribed_names(member);
    let consumer = member.consumer.as_ref().filter(|_| !member.is_classic());
    let regex = consumer.and_then(|own| own.regex.as_ref());
    names.extend(regex.and_then(|regex| topics.regexes.get(regex)).into_iter().flatten().cloned());
    names
}

/// The topics that members of a group of the consumer protocol subscribe to.
fn all_names(group: &Group<'_>) -> BTreeSet<Arc<str>> {
    let topics = group.topics();
    let matching = topics.by_regex.keys().filter_map(|regex| topics.regexes.get(regex)).flatten();
    topics.by_name.keys().chain(matching).cloned().collect()
}

/// Whether any member subscribes to a topic. The topics are loaded.
pub(in crate::groups) fn is_subscribed(group: &Group<'_>, topic: &str) -> bool {
    let topics = group.topics();
    let mut matching = topics.by_regex.keys().filter_map(|regex| topics.regexes.get(regex));
    topics.by_name.contains_key(topic) || matching.any(|topics| topics.contains(topic))
}

/// Updates the metadata of the subscribed topics. Returns whether it has changed. If that of the group is current, or
/// stands, only the topics that it lacks need be known.
pub(super) fn update_topics(group: &mut Group<'_>, known: &KnownTopics, is_current: bool) -> bool {
    group.load_topics();
    let before = &group.topics().topics;
    let stands = is_current || known.others_stand();
    let find = |name: &str| match before.get(name) {
        Some(topic) if stands && !known.knows(name) => Some(*topic),
        _ => known.get(name),
    };
    let topic = |name: &Arc<str>| Some((Arc::clone(name), find(name)?));
    let topics = all_names(group).iter().filter_map(topic).collect();
    replace_topics(group, topics)
}

/// The same without new topic metadata: after members have left.
pub(super) fn drop_unused_topics(group: &mut Group<'_>) {
    group.load_topics();
    let names = all_names(group);
    let used = group.topics().topics.iter().filter(|(name, _)| names.contains(*name));
    let used = used.map(|(name, topic)| (Arc::clone(name), *topic)).collect();
    replace_topics(group, used);
}

fn replace_topics(group: &mut Group<'_>, topics: BTreeMap<Arc<str>, SubscribedTopic>) -> bool {
    let own = group.topics();
    let has_unused = own.regexes.keys().any(|regex| !own.by_regex.contains_key(regex));
    let is_changed = own.topics != topics;
    if has_unused || is_changed {
        group.change_topics(|own| {
            let own = Arc::make_mut(own);
            own.regexes.retain(|regex, _| own.by_regex.contains_key(regex));
            own.topics = topics;
        });
    }
    is_changed
}
