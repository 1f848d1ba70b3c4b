//! `uniform`: every member gets equally many partitions, plus or minus one, as far as subscriptions allow.

use std::collections::{BTreeSet, VecDeque};

use kernel::TopicId;

use super::candidate::{Candidate, Counts, count, give};
use crate::documents::{Partitions, each, holds};

type Slot = (TopicId, i32);

/// Bound on comparisons of members while different subscriptions are balanced.
const STEPS_MAX: usize = 1_000_000;

pub(super) fn assign(members: &[Candidate], counts: &Counts) -> Vec<Partitions> {
    let mut parts = kept(members, counts);
    if members.windows(2).all(|pair| pair[0].topics == pair[1].topics) {
        let quotas = cut_to_quotas(members, counts, &mut parts);
        fill(&quotas, unassigned(members, counts, &parts), &mut parts);
    } else {
        let free = unassigned(members, counts, &parts);
        distribute(members, free, &mut parts);
        balance(members, counts, &mut parts);
    }
    parts
}

/// The partitions that each member had and may keep.
fn kept(members: &[Candidate], counts: &Counts) -> Vec<Partitions> {
    let mut given = BTreeSet::new();
    let mut keep = |member: &Candidate| {
        let mut part = Partitions::new();
        for (topic, at) in each(&member.before) {
            let is_there = counts.get(&topic).is_some_and(|count| (0..*count).contains(&at));
            if is_there && member.topics.contains(&topic) && given.insert((topic, at)) {
                give(&mut part, topic, at);
            }
        }
        part
    };
    members.iter().map(&mut keep).collect()
}

/// Unassigned partitions of subscribed topics. Those with the fewest subscribers come first: they have the
/// least choice.
fn unassigned(members: &[Candidate], counts: &Counts, parts: &[Partitions]) -> Vec<Slot> {
    let subscribers = |topic: &TopicId| members.iter().filter(|member| member.topics.contains(topic)).count();
    let assigned: BTreeSet<Slot> = parts.iter().flat_map(each).collect();
    let mut topics: Vec<(usize, TopicId)> = counts.keys().map(|topic| (subscribers(topic), *topic)).collect();
    topics.retain(|(subscribers, _)| *subscribers > 0);
    topics.sort();
    let all = topics.iter().flat_map(|(_, topic)| (0..counts[topic]).map(|at| (*topic, at)));
    all.filter(|place| !assigned.contains(place)).collect()
}

// --- equal subscriptions: the quotas are known from the start

/// Removes what exceeds the quotas. Members that already have more than the share get the extra partitions
/// first.
fn cut_to_quotas(members: &[Candidate], counts: &Counts, parts: &mut [Partitions]) -> Vec<usize> {
    let Some(first) = members.first() else { return Vec::new() };
    let total: usize = first.topics.iter().map(|topic| partitions_of(counts, *topic)).sum();
    let (share, mut extras) = (total / members.len(), total % members.len());
    let mut quotas = vec![share; members.len()];
    let (full, others): (Vec<usize>, Vec<usize>) =
        (0..parts.len()).partition(|index| count(&parts[*index]) > share);
    for index in full.into_iter().chain(others) {
        quotas[index] += usize::from(extras > 0);
        extras = extras.saturating_sub(1);
    }
    for (part, quota) in parts.iter_mut().zip(&quotas) {
        let mut left = *quota;
        part.retain(|_, of_topic| {
            *of_topic = std::mem::take(of_topic).into_iter().take(left).collect();
            left -= of_topic.len();
            !of_topic.is_empty()
        });
    }
    quotas
}

fn partitions_of(counts: &Counts, topic: TopicId) -> usize {
    counts.get(&topic).map_or(0, |count| usize::try_from(*count).unwrap_or(0))
}

/// Fills each member up to its quota.
fn fill(quotas: &[usize], free: Vec<Slot>, parts: &mut [Partitions]) {
    let mut free = free.into_iter();
    for (part, quota) in parts.iter_mut().zip(quotas) {
        let missing = quota.saturating_sub(count(part));
        free.by_ref().take(missing).for_each(|(topic, at)| give(part, topic, at));
    }
}

// --- different subscriptions

/// Gives each partition to the subscriber that has the fewest.
fn distribute(members: &[Candidate], free: Vec<Slot>, parts: &mut [Partitions]) {
    let mut sizes: Vec<usize> = parts.iter().map(count).collect();
    for (topic, at) in free {
        let subscribers = (0..members.len()).filter(|index| members[*index].topics.contains(&topic));
        if let Some(index) = subscribers.min_by_key(|index| sizes[*index]) {
            give(&mut parts[index], topic, at);
            sizes[index] += 1;
        }
    }
}

/// Moves partitions from members with more to members with at least two fewer. This may take a chain of
/// moves: a member takes from one that in turn takes from the fullest. Each round reduces the sum of the
/// squared sizes, so the loop ends. `STEPS_MAX` bounds it as well, because clients choose their
/// subscriptions; past it, the assignment stays as even as it is.
fn balance(members: &[Candidate], counts: &Counts, parts: &mut [Partitions]) {
    let mut sizes: Vec<usize> = parts.iter().map(count).collect();
    let capacity = |member: &Candidate| -> usize {
        member.topics.iter().map(|topic| partitions_of(counts, *topic)).sum()
    };
    let capacities: Vec<usize> = members.iter().map(capacity).collect();
    let mut steps_left = STEPS_MAX;
    while let Some(moves) = find_moves(members, parts, &sizes, &capacities, &mut steps_left) {
        for Move { giver, taker, place: (topic, at) } in moves {
            take(&mut parts[giver], topic, at);
            give(&mut parts[taker], topic, at);
            sizes[giver] -= 1;
            sizes[taker] += 1;
        }
    }
}

#[derive(Clone, Copy)]
struct Move {
    giver: usize,
    taker: usize,
    place: Slot,
}

fn find_moves(
    members: &[Candidate],
    parts: &[Partitions],
    sizes: &[usize],
    capacities: &[usize],
    steps_left: &mut usize,
) -> Option<Vec<Move>> {
    let fullest = sizes.iter().max().copied().unwrap_or(0);
    let mut by_size: Vec<usize> = (0..members.len()).collect();
    by_size.sort_by_key(|index| sizes[*index]);
    // Members that a failed search from a smaller member has reached need no search of their own: it would
    // fail too.
    let mut is_settled = vec![false; members.len()];
    for small in by_size {
        let is_small = sizes[small] + 1 < fullest && sizes[small] < capacities[small];
        if !is_small || is_settled[small] {
            continue;
        }
        match moves_to_member(small, members, parts, sizes, steps_left) {
            Ok(moves) => return Some(moves),
            Err(reached) => reached.into_iter().for_each(|index| is_settled[index] = true),
        }
        if *steps_left == 0 {
            return None;
        }
    }
    None
}

/// Breadth-first search for a chain of moves from a larger member. If there is none, returns the members that
/// it reached.
fn moves_to_member(
    small: usize,
    members: &[Candidate],
    parts: &[Partitions],
    sizes: &[usize],
    steps_left: &mut usize,
) -> Result<Vec<Move>, Vec<usize>> {
    let mut reached: Vec<Option<Move>> = vec![None; members.len()];
    let mut queue = VecDeque::from([small]);
    while let Some(taker) = queue.pop_front() {
        for giver in 0..members.len() {
            if *steps_left == 0 {
                return Err(Vec::new());
            }
            *steps_left -= 1;
            if giver == small || reached[giver].is_some() {
                continue;
            }
            let Some(place) = movable(&parts[giver], &members[taker], &parts[taker]) else { continue };
            reached[giver] = Some(Move { giver, taker, place });
            if sizes[giver] > sizes[small] + 1 {
                return Ok(path(giver, &reached));
            }
            queue.push_back(giver);
        }
    }
    Err((0..members.len()).filter(|index| reached[*index].is_some()).collect())
}

fn path(giver: usize, reached: &[Option<Move>]) -> Vec<Move> {
    let mut path = Vec::new();
    let mut at = giver;
    while let Some(one) = reached[at] {
        path.push(one);
        at = one.taker;
    }
    path
}

/// A partition that `from` has and `to` may get: the last one, so that the first ones stay.
fn movable(from: &Partitions, to: &Candidate, has: &Partitions) -> Option<Slot> {
    let of_interest = from.iter().rev().filter(|(topic, _)| to.topics.contains(topic));
    let mut all = of_interest.flat_map(|(topic, of_topic)| of_topic.iter().rev().map(|at| (*topic, *at)));
    all.find(|(topic, at)| !holds(has, *topic, *at))
}

fn take(partitions: &mut Partitions, topic: TopicId, at: i32) {
    if let Some(of_topic) = partitions.get_mut(&topic) {
        of_topic.remove(&at);
        if of_topic.is_empty() {
            partitions.remove(&topic);
        }
    }
}
