//! The guarantees of the assignors: complete, exclusive, even and sticky.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kernel::TopicId;
use uuid::Uuid;

use super::candidate::count;
use super::*;
use crate::documents::{ASSIGNORS, each};

fn topic(number: u128) -> TopicId {
    TopicId(Uuid::from_u128(number))
}

fn counts(partitions: &[i32]) -> Counts {
    partitions.iter().enumerate().map(|(number, count)| (topic(number as u128), *count)).collect()
}

fn member(topics: &[u128], before: Partitions) -> Candidate {
    Candidate { topics: topics.iter().map(|number| topic(*number)).collect(), before: Arc::new(before) }
}

fn numbers(part: &Partitions, of: u128) -> Vec<i32> {
    part.get(&topic(of)).into_iter().flatten().copied().collect()
}

/// Checks that each subscribed partition is assigned once, to a subscriber.
fn check_complete(members: &[Candidate], counts: &Counts, parts: &[Partitions]) {
    let mut seen = BTreeSet::new();
    for (member, part) in members.iter().zip(parts) {
        for place in each(part) {
            assert!(member.topics.contains(&place.0), "{place:?} is not subscribed to");
            assert!(seen.insert(place), "{place:?} is assigned twice");
        }
    }
    let is_wanted = |topic: &TopicId| members.iter().any(|member| member.topics.contains(topic));
    let wanted = counts.iter().filter(|(topic, _)| is_wanted(topic));
    assert_eq!(seen.len() as i32, wanted.map(|(_, count)| count).sum::<i32>());
}

fn sizes(parts: &[Partitions]) -> Vec<usize> {
    parts.iter().map(count).collect()
}

#[test]
fn uniform_balances_and_moves_only_what_it_must() {
    let counts = counts(&[5, 6]);
    let mut members = vec![member(&[0, 1], Partitions::new())];
    for size in 2..=12 {
        let parts = assign("uniform", &members, &counts);
        check_complete(&members, &counts, &parts);
        let sizes = sizes(&parts);
        assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "{sizes:?}");
        let moved: usize = members
            .iter()
            .zip(&parts)
            .map(|(member, part)| {
                each(&member.before).filter(|place| !each(part).any(|kept| kept == *place)).count()
            })
            .sum();
        assert!(moved <= 11 / (size - 1) + 1, "{moved} moved to a group of {}", members.len());
        members.iter_mut().zip(parts).for_each(|(member, part)| member.before = Arc::new(part));
        members.push(member(&[0, 1], Partitions::new()));
    }
}

#[test]
fn uniform_assigns_only_to_subscribers() {
    let counts = counts(&[2, 4]);
    let all = assign("uniform", &[member(&[0, 1], Partitions::new())], &counts);
    let members = [member(&[0, 1], all[0].clone()), member(&[1], Partitions::new())];
    let parts = assign("uniform", &members, &counts);
    assert_eq!((numbers(&parts[0], 0), numbers(&parts[0], 1)), (vec![0, 1], vec![0]));
    assert_eq!(numbers(&parts[1], 1), [1, 2, 3]);
}

#[test]
fn uniform_moves_partitions_through_a_chain_of_members() {
    // The third member can only take from the second, which in turn takes from the first.
    let counts = counts(&[4, 1]);
    let members = [
        member(&[0], BTreeMap::from([(topic(0), BTreeSet::from([0, 1, 2, 3]))])),
        member(&[0, 1], BTreeMap::from([(topic(1), BTreeSet::from([0]))])),
        member(&[1], Partitions::new()),
    ];
    let parts = assign("uniform", &members, &counts);
    check_complete(&members, &counts, &parts);
    assert_eq!(sizes(&parts), [2, 2, 1]);
}

#[test]
fn uniform_is_complete_whatever_the_subscriptions() {
    let counts = counts(&[1, 3, 7, 2, 9]);
    for seed in 0..500_u64 {
        let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut roll = |below: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % below
        };
        let mut members = Vec::new();
        for _ in 0..=roll(6) {
            let topics: Vec<u128> = (0..5).filter(|_| roll(2) == 0).collect();
            members.push(member(&topics, Partitions::new()));
        }
        for assignor in ASSIGNORS {
            let parts = assign(assignor, &members, &counts);
            check_complete(&members, &counts, &parts);
            members.iter_mut().zip(parts).for_each(|(member, part)| member.before = Arc::new(part));
        }
    }
}

#[test]
fn range_assigns_the_same_partitions_of_equal_topics() {
    let counts = counts(&[3, 3]);
    let all = assign("range", &[member(&[0, 1], Partitions::new())], &counts);
    let members = [member(&[0, 1], all[0].clone()), member(&[0, 1], Partitions::new())];
    let parts = assign("range", &members, &counts);
    for of in [0, 1] {
        assert_eq!(numbers(&parts[0], of), [0, 1]);
        assert_eq!(numbers(&parts[1], of), [2]);
    }
}

#[test]
fn deleted_topics_are_not_assigned() {
    let before = BTreeMap::from([(topic(9), BTreeSet::from([0]))]);
    for assignor in ASSIGNORS {
        let parts = assign(assignor, &[member(&[], before.clone())], &Counts::new());
        assert_eq!(sizes(&parts), [0], "{assignor}");
    }
}
