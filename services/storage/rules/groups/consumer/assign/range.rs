//! `range`: every subscriber gets a range of each topic's partitions, and the same range of topics with as
//! many partitions, so that they can be joined.

use std::collections::BTreeSet;

use kernel::TopicId;

use super::candidate::{Candidate, Counts, give};
use crate::documents::Partitions;

pub(super) fn assign(members: &[Candidate], counts: &Counts) -> Vec<Partitions> {
    let mut parts = vec![Partitions::new(); members.len()];
    for (topic, partitions) in counts {
        let subscribers: Vec<usize> =
            (0..members.len()).filter(|index| members[*index].topics.contains(topic)).collect();
        if !subscribers.is_empty() {
            assign_topic(*topic, (*partitions).max(0) as usize, &subscribers, members, &mut parts);
        }
    }
    parts
}

fn assign_topic(
    topic: TopicId,
    partitions: usize,
    subscribers: &[usize],
    members: &[Candidate],
    parts: &mut [Partitions],
) {
    let share = partitions / subscribers.len();
    let mut extras = partitions % subscribers.len();
    let mut free: BTreeSet<i32> = (0..partitions as i32).collect();
    let mut unfilled = Vec::new();
    for index in subscribers {
        let before = members[*index].before.get(&topic).into_iter().flatten();
        let before: Vec<i32> = before.filter(|at| free.contains(at)).copied().collect();
        let keeps_extra = before.len() > share && extras > 0;
        extras -= usize::from(keeps_extra);
        let quota = share + usize::from(keeps_extra);
        for at in before.iter().take(quota) {
            free.remove(at);
            give(&mut parts[*index], topic, *at);
        }
        if !keeps_extra {
            unfilled.push((*index, quota - before.len().min(quota)));
        }
    }
    for (index, missing) in unfilled {
        let has_extra = extras > 0;
        extras -= usize::from(has_extra);
        for _ in 0..missing + usize::from(has_extra) {
            if let Some(at) = free.pop_first() {
                give(&mut parts[index], topic, at);
            }
        }
    }
}
