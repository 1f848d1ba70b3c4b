//! Keeps a group's counts over its members, and over their subscriptions, up to date.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::protocols::subscribed_names;
use crate::documents::{GroupTopics, MemberDocument, MemberState, Tally};

/// What one member adds to the counts.
#[derive(PartialEq, Eq)]
struct Facts<'a> {
    has_joined: bool,
    has_synced: bool,
    rebalance_timeout_ms: i32,
    session_timeout_ms: i32,
    is_classic: bool,
    protocols: BTreeSet<&'a Arc<str>>,
    is_reconciled: bool,
    is_due: bool,
}

impl<'a> Facts<'a> {
    fn of(member: &'a MemberDocument, target_epoch: Option<i32>) -> Self {
        let own = member.consumer.as_deref();
        Self {
            has_joined: member.has_joined,
            has_synced: member.has_synced,
            rebalance_timeout_ms: member.rebalance_timeout_ms,
            session_timeout_ms: member.session_timeout_ms,
            is_classic: member.is_classic(),
            protocols: member.protocols.iter().map(|own| &own.name).collect(),
            is_reconciled: own
                .is_some_and(|own| own.state == MemberState::Stable && Some(own.epoch) == target_epoch),
            is_due: own.is_some_and(|own| own.due_ms.is_some()),
        }
    }
}

/// Updates the counts after a member has changed. `None` stands for one that was not there, or is no more;
/// `target_epoch` is the epoch of the target assignment.
pub(super) fn recount(
    tally: &mut Arc<Tally>,
    before: Option<&MemberDocument>,
    after: Option<&MemberDocument>,
    target_epoch: Option<i32>,
) {
    let facts = |member| Facts::of(member, target_epoch);
    let (before, after) = (before.map(facts), after.map(facts));
    if before == after {
        return;
    }
    let tally = Arc::make_mut(tally);
    // First what is added, so that no count is zero and removed in between.
    after.iter().for_each(|facts| count(tally, facts, add));
    before.iter().for_each(|facts| count(tally, facts, subtract));
}

fn count(tally: &mut Tally, facts: &Facts<'_>, change: fn(&mut u32)) {
    let counts = [
        (facts.has_joined, &mut tally.joined),
        (!facts.has_synced, &mut tally.unsynced),
        (facts.is_classic, &mut tally.classic),
        (facts.is_reconciled, &mut tally.reconciled),
        (facts.is_due, &mut tally.due),
    ];
    counts.into_iter().filter(|(is_counted, _)| *is_counted).for_each(|(_, count)| change(count));
    count_key(&mut tally.rebalance_timeouts, &facts.rebalance_timeout_ms, change);
    count_key(&mut tally.session_timeouts, &facts.session_timeout_ms, change);
    facts.protocols.iter().for_each(|name| count_key(&mut tally.protocols, *name, change));
}

/// What a member of a group of the consumer protocol subscribes to: topics by name, and a regular expression. A classic
/// group looks at the subscriptions of its members only when it is upgraded.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Subscription<'a> {
    names: BTreeSet<Arc<str>>,
    regex: Option<&'a Arc<str>>,
}

impl<'a> Subscription<'a> {
    /// That of a member; `None` stands for one that was not there, or is no more.
    pub(super) fn of(member: Option<&'a MemberDocument>) -> Self {
        let Some(member) = member.filter(|member| member.consumer.is_some()) else { return Self::default() };
        let regex = member.consumer.as_ref().and_then(|own| own.regex.as_ref());
        Self { names: subscribed_names(member), regex }
    }

    fn count(&self, topics: &mut GroupTopics, change: fn(&mut u32)) {
        self.names.iter().for_each(|name| count_key(&mut topics.by_name, name, change));
        self.regex.iter().for_each(|regex| count_key(&mut topics.by_regex, *regex, change));
    }
}

/// Updates the counts after a member has changed what it subscribes to.
pub(super) fn recount_topics(
    topics: &mut Arc<GroupTopics>,
    before: &Subscription<'_>,
    after: &Subscription<'_>,
) {
    let topics = Arc::make_mut(topics);
    after.count(topics, add);
    before.count(topics, subtract);
}

fn count_key<K: Ord + Clone>(counts: &mut BTreeMap<K, u32>, key: &K, change: fn(&mut u32)) {
    let count = counts.entry(key.clone()).or_default();
    change(count);
    if *count == 0 {
        counts.remove(key);
    }
}

fn add(count: &mut u32) {
    *count = count.saturating_add(1);
}

fn subtract(count: &mut u32) {
    *count = count.saturating_sub(1);
}
