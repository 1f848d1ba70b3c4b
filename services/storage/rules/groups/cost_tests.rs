//! What a call costs must not grow with its group: the documents that it needs and writes are counted in a group of ten
//! members and in one of a thousand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kernel::TopicId;
use kernel::ports::TopicFacts;
use uuid::Uuid;

use super::tests::{REBALANCE_MS, SESSION_MS, dynamic, text};
use super::{GroupView, target_assignment};
use crate::commands::{
    Applied, Command, ConsumerHeartbeat, ConsumerLeave, GroupCommand, Join, KnownTopics, MemberIdentity, Sync,
};
use crate::documents::{
    Blob, ConsumerGroup, DocumentKind, GroupDocument, GroupState, GroupTopics, MemberDocument,
    MemberProtocol, Partitions,
};
use crate::testing::MapStore;

const SIZES: [usize; 2] = [10, 1_000];
const INITIAL_DELAY_MS: i64 = 3_000;

/// A group and its members' ids.
#[derive(Default)]
struct Group {
    store: MapStore,
    ids: Vec<Arc<str>>,
}

impl Group {
    fn cost(&mut self, command: GroupCommand) -> (usize, usize) {
        self.store.cost(&Command::Group { group: text("g"), command })
    }

    fn run(&mut self, command: GroupCommand) -> Applied {
        self.store.run(&Command::Group { group: text("g"), command }).0.unwrap()
    }

    fn state(&self) -> GroupState {
        self.store.get::<GroupDocument>(&text("g")).unwrap().state
    }

    fn view(&self) -> GroupView {
        let members = self.store.0.iter().filter_map(|(key, document)| {
            Some((MemberDocument::parse_key(key)?.member, document.get_arc::<MemberDocument>()?))
        });
        let group = self.store.get::<GroupDocument>(&text("g")).unwrap().clone();
        let topics = self.store.0.get(&GroupTopics::key(&text("g")));
        let topics = topics.and_then(|document| document.get_arc::<GroupTopics>());
        GroupView::new(Arc::new(group), members.collect(), topics)
    }

    /// A classic group whose members have all joined and whose leader, the first, has assigned.
    fn classic(size: usize) -> Self {
        let mut group = Self::default();
        for id in ids(size) {
            group.run(join("", &id));
            group.ids.push(id);
        }
        for round in 1..=2 {
            group.run(tick(round * INITIAL_DELAY_MS));
        }
        assert_eq!(group.state(), GroupState::CompletingRebalance);
        let (leader, assignments) = (Arc::clone(&group.ids[0]), group.ids.clone());
        group.run(sync(&leader, &assignments));
        assert_eq!(group.state(), GroupState::Stable);
        group
    }

    /// A group of the consumer protocol whose members have a partition each.
    fn consumer(size: usize) -> Self {
        let mut group = Self::default();
        for id in ids(size) {
            group.run(heartbeat(&id, 0, size));
            group.ids.push(id);
        }
        group.install();
        for id in group.ids.clone() {
            let Applied::Heartbeat(reply) = group.run(heartbeat(&id, 0, size)) else { panic!() };
            assert_eq!(reply.assignment.unwrap().values().map(BTreeSet::len).sum::<usize>(), 1);
        }
        assert_eq!(group.state(), GroupState::Stable);
        group
    }

    fn install(&mut self) {
        let target = target_assignment(&self.view(), 0).unwrap();
        self.run(GroupCommand::InstallTarget(target));
    }
}

fn ids(size: usize) -> Vec<Arc<str>> {
    (0..size).map(|number| text(&format!("m-{number:04}"))).collect()
}

fn join(id: &str, fresh: &str) -> GroupCommand {
    GroupCommand::Join(Box::new(Join {
        member: dynamic(id),
        fresh_id: text(fresh),
        requires_known_id: false,
        can_skip_assignment: true,
        client_id: text("client"),
        client_host: text("/127.0.0.1"),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        protocol_type: text("consumer"),
        protocols: vec![MemberProtocol { name: text("range"), metadata: Blob(Bytes::from_static(b"a")) }],
        initial_delay_ms: INITIAL_DELAY_MS,
        members_max: 2_000,
        known_topics: KnownTopics::default(),
        now_ms: 0,
    }))
}

fn tick(now_ms: i64) -> GroupCommand {
    GroupCommand::Tick { now_ms, wall_ms: now_ms, timed_out: BTreeMap::new() }
}

fn sync(id: &str, assigned: &[Arc<str>]) -> GroupCommand {
    let assignment = |id: &Arc<str>| (Arc::clone(id), Bytes::from_static(b"some"));
    GroupCommand::Sync(Box::new(Sync {
        member: MemberIdentity { generation: 1, ..dynamic(id) },
        protocol_type: None,
        protocol: None,
        assignments: assigned.iter().map(assignment).collect(),
        now_ms: 0,
    }))
}

fn leave(id: &str) -> GroupCommand {
    GroupCommand::Leave { members: vec![dynamic(id)], now_ms: 0, wall_ms: 0 }
}

/// A full heartbeat of a member that subscribes to a topic.
fn heartbeat(id: &str, epoch: i32, partitions: usize) -> GroupCommand {
    let mut known_topics = KnownTopics::default();
    let topic =
        TopicFacts { name: text("t"), id: TopicId(Uuid::from_u128(1)), partitions: partitions as i32 };
    known_topics.add(&BTreeSet::from([text("t")]), vec![topic]);
    GroupCommand::ConsumerHeartbeat(Box::new(ConsumerHeartbeat {
        member_id: text(id),
        instance_id: None,
        member_epoch: epoch,
        client_id: text("client"),
        client_host: text("/127.0.0.1"),
        rack: None,
        rebalance_timeout_ms: Some(REBALANCE_MS),
        topics: Some(BTreeSet::from([text("t")])),
        regex: None,
        resolved_regexes: Vec::new(),
        assignor: None,
        owned: Some(Partitions::new()),
        session_timeout_ms: SESSION_MS,
        members_max: 2_000,
        known_topics,
        topics_are_current: false,
        now_ms: 0,
    }))
}

/// Checks that a call costs the same in groups of all sizes, and at most this.
fn check(what: &str, costs: &[(usize, usize)], most: (usize, usize)) {
    let (needed, written) = costs[0];
    assert!(costs.iter().all(|cost| *cost == costs[0]), "{what}: {costs:?}");
    assert!(needed <= most.0 && written <= most.1, "{what}: needs {needed}, writes {written}");
}

#[test]
fn a_followers_sync_costs_the_same_in_any_group() {
    let costs = SIZES.map(|size| {
        let mut group = Group::classic(size);
        let id = Arc::clone(&group.ids[size / 2]);
        group.cost(sync(&id, &[]))
    });
    check("sync", &costs, (2, 2));
}

#[test]
fn a_join_into_a_group_that_prepares_a_rebalance_costs_the_same_in_any_group() {
    let costs = SIZES.map(|size| {
        let mut group = Group::classic(size);
        let starts = group.cost(join("", "new"));
        assert_eq!(group.state(), GroupState::PreparingRebalance);
        let id = Arc::clone(&group.ids[size / 2]);
        [starts, group.cost(join(&id, "fresh")), group.cost(join("", "newer"))]
    });
    for (at, what) in ["a join that starts the rebalance", "a rejoin", "a new member"].iter().enumerate() {
        // Group, member and pending ids by both ids of the request, of which one may be new.
        check(what, &costs.map(|of_size| of_size[at]), (5, 2));
    }
}

#[test]
fn a_leave_costs_the_same_in_any_group() {
    let costs = SIZES.map(|size| {
        let mut group = Group::classic(size);
        let [leader, other] = [&group.ids[0], &group.ids[size / 2]].map(Arc::clone);
        let costs = [group.cost(leave(&other)), group.cost(leave(&leader))];
        assert_eq!(group.state(), GroupState::PreparingRebalance);
        costs
    });
    check("the leave that starts a rebalance", &costs.map(|of_size| of_size[0]), (3, 2));
    check("the leader's leave", &costs.map(|of_size| of_size[1]), (3, 2));
}

#[test]
fn calls_of_the_consumer_protocol_cost_the_same_in_any_group() {
    let costs = SIZES.map(|size| {
        let mut group = Group::consumer(size);
        let [one, other] = [&group.ids[0], &group.ids[size / 2]].map(Arc::clone);
        // Each join has bumped it.
        let epoch = ConsumerGroup::FIRST_EPOCH + size as i32;
        let at_rest = group.cost(heartbeat(&one, epoch, size));
        let joins = group.cost(heartbeat("new", 0, size));
        let leave = ConsumerLeave { member_id: other, instance_id: None, member_epoch: -1, now_ms: 0 };
        let leaves = group.cost(GroupCommand::ConsumerLeave(leave));
        group.install();
        // The target of the new member is the partition of the one that has left.
        let GroupCommand::ConsumerHeartbeat(mut step) = heartbeat("new", 0, size) else { panic!() };
        (step.topics, step.topics_are_current) = (None, true);
        let advances = group.cost(GroupCommand::ConsumerHeartbeat(step));
        [at_rest, joins, leaves, advances]
    });
    // Group, member and partition; the topics where the subscription is sent, or members come and go.
    check("at rest", &costs.map(|of_size| of_size[0]), (3, 0));
    check("a join", &costs.map(|of_size| of_size[1]), (3, 3));
    check("a leave", &costs.map(|of_size| of_size[2]), (4, 4));
    check("a step", &costs.map(|of_size| of_size[3]), (3, 3));
}

#[test]
fn a_session_that_ends_costs_the_same_in_any_group() {
    let costs = SIZES.map(|size| {
        let mut group = Group::consumer(size);
        let late = BTreeMap::from([(Arc::clone(&group.ids[0]), i64::from(SESSION_MS))]);
        let now_ms = i64::from(SESSION_MS);
        let costs = group.cost(GroupCommand::Tick { now_ms, wall_ms: now_ms, timed_out: late });
        assert_eq!(group.store.get::<GroupDocument>(&text("g")).unwrap().members as usize, size - 1);
        costs
    });
    check("a session that ends", &costs, (4, 4));
}
