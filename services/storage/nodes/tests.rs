//! Several brokers over one store, in one process.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::describe_quorum_request as quorum;
use kafka_protocol::messages::describe_quorum_response::ReplicaState;
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatResponse, CreateTopicsRequest, CreateTopicsResponse, DescribeQuorumRequest,
    DescribeQuorumResponse, FindCoordinatorRequest, FindCoordinatorResponse, ListGroupsRequest,
    ListGroupsResponse, MetadataRequest, MetadataResponse,
};
use kernel::clock::{Clock, ManualClock};
use kernel::session::{HostPort, Session};
use kernel::{Api, ErrorCode, NodeId, Ticket};
use rules::commands::{Command, NodeCommand};

use super::{Work, leave, renew_once};
use crate::apis::common::text;
use crate::apis::testing::{NOW_MS, ask, ask_on, consumer_heartbeat, sharing_broker, topic};
use crate::broker::Broker;
use crate::coordinator::leases;
use crate::coordinator::timeouts::Timeouts;
use crate::engines::memory::Memory;

const SESSION_MS: i64 = 45_000;

/// Brokers that share a store, and what each has of the groups.
struct World {
    store: Arc<Memory>,
    clock: Arc<ManualClock>,
    brokers: Vec<(Arc<Broker>, Timeouts)>,
}

impl World {
    async fn of(hosts: &[&str]) -> Self {
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let store = Arc::new(Memory::shared(clock.clone()));
        let mut world = Self { store, clock, brokers: Vec::new() };
        for host in hosts {
            world.start(host).await;
        }
        world
    }

    async fn start(&mut self, host: &str) {
        let broker = sharing_broker(&self.store, host).await;
        let mut timeouts = Timeouts::default();
        timeouts.find_all(&broker).await.unwrap();
        self.brokers.push((broker, timeouts));
        self.renew().await;
    }

    fn broker(&self, index: usize) -> &Arc<Broker> {
        &self.brokers[index].0
    }

    /// All brokers renew their leases, and see each other.
    async fn renew(&mut self) {
        for (broker, timeouts) in &mut self.brokers {
            let before = broker.nodes.follow();
            renew_once(broker).await;
            if before.has_changed().unwrap() {
                timeouts.share_out(broker).await;
            }
        }
    }

    /// Time passes, a second after the other, in which brokers do what they do in the background.
    async fn pass(&mut self, ms: i64) {
        for _ in 0..ms / 1_000 {
            self.clock.advance(1_000);
            self.renew().await;
            for (broker, timeouts) in &mut self.brokers {
                leases::renew(broker).await.unwrap();
                timeouts.step(broker).await.unwrap();
            }
        }
    }

    /// A broker dies without a word.
    fn kill(&mut self, index: usize) {
        self.brokers.remove(index);
    }

    async fn heartbeat(&self, index: usize, group: &str, member: &str, epoch: i32) -> (i16, i32) {
        let request = consumer_heartbeat(group, member, epoch);
        let response: ConsumerGroupHeartbeatResponse =
            ask(self.broker(index), Api::CONSUMER_GROUP_HEARTBEAT, 1, &request).await;
        // Whoever looks after the group hears that it has changed.
        for (other, _) in &self.brokers {
            other.coordinator.group_changed(&Arc::from(group));
        }
        (response.error_code, response.member_epoch)
    }

    async fn members(&self, group: &str) -> BTreeSet<String> {
        let view = self.broker(0).store.group(&Arc::from(group)).await.unwrap();
        view.map(|view| view.members.iter().map(|(id, _)| id.to_string()).collect()).unwrap_or_default()
    }

    /// The broker that looks after a group.
    fn owner_of(&self, group: &str) -> usize {
        let owners = (0..self.brokers.len()).filter(|index| self.broker(*index).nodes.looks_after(group));
        let owners: Vec<usize> = owners.collect();
        assert_eq!(owners.len(), 1, "one looks after it");
        owners[0]
    }
}

async fn metadata(broker: &Arc<Broker>, session: &Arc<Session>) -> MetadataResponse {
    let topic = MetadataRequestTopic::default().with_name(Some(text::topic_name("t")));
    let request = MetadataRequest::default().with_topics(Some(vec![topic]));
    ask_on(broker, session, Api::METADATA, 12, &request).await
}

/// A connection to a broker that advertises its host.
fn session_at(host: &str) -> Arc<Session> {
    let session = Session::for_tests();
    let mut session = session.without_state();
    session.advertised = HostPort { host: host.to_owned(), port: 9092 };
    Arc::new(session)
}

fn hosts(answer: &MetadataResponse) -> BTreeMap<i32, String> {
    answer.brokers.iter().map(|broker| (broker.node_id.0, broker.host.to_string())).collect()
}

fn leaders(answer: &MetadataResponse) -> Vec<i32> {
    answer.topics[0].partitions.iter().map(|partition| partition.leader_id.0).collect()
}

#[tokio::test]
async fn all_brokers_tell_the_same_of_each_other() {
    let mut world = World::of(&["a", "b", "c"]).await;
    topic(world.broker(0), "t", 60, &[]).await;
    let mut answers = Vec::new();
    for (index, host) in ["a", "b", "c"].into_iter().enumerate() {
        answers.push(metadata(world.broker(index), &session_at(host)).await);
    }
    assert_eq!(hosts(&answers[0]), BTreeMap::from([(1, "a".into()), (2, "b".into()), (3, "c".into())]));
    assert!(answers.iter().all(|answer| answer == &answers[0]), "{answers:?}");
    let rack = answers[0].brokers[1].rack.as_ref().map(ToString::to_string);
    assert_eq!(rack.as_deref(), Some("rack-of-b"));
    let before = leaders(&answers[0]);
    for id in 1..=3 {
        assert!((8..=36).contains(&before.iter().filter(|leader| **leader == id).count()), "{before:?}");
    }

    // One leaves in good order: the others have its share at once, and keep their own.
    leave(world.broker(1), &*world.store).await;
    let answer = metadata(world.broker(1), &session_at("b")).await;
    assert!(!hosts(&answer).contains_key(&2) && !leaders(&answer).contains(&2), "clients that it has still");
    assert!(!world.broker(1).nodes.holds_lease());
    world.kill(1);
    world.renew().await;
    let answer = metadata(world.broker(0), &session_at("a")).await;
    let after = leaders(&answer);
    assert_eq!(hosts(&answer), BTreeMap::from([(1, "a".into()), (3, "c".into())]));
    assert!(before.iter().zip(&after).all(|(was, now)| *was == 2 || was == now), "{before:?} {after:?}");
    assert!(!after.contains(&2));

    // One dies: it is listed until its lease ends.
    world.kill(1);
    world.pass(7_000).await;
    assert_eq!(hosts(&metadata(world.broker(0), &session_at("a")).await).len(), 2);
    world.pass(2_000).await;
    assert_eq!(hosts(&metadata(world.broker(0), &session_at("a")).await).len(), 1);
}

#[tokio::test]
async fn each_group_is_listed_by_its_coordinator_alone() {
    let world = World::of(&["a", "b", "c"]).await;
    let mut expected = BTreeMap::<i32, BTreeSet<String>>::new();
    for number in 0..30 {
        let group = format!("g{number}");
        assert_eq!(world.heartbeat(number % 3, &group, "m", 0).await.0, 0, "any broker serves any group");
        let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text::str_bytes(&group)]);
        let mut found = BTreeSet::new();
        for index in 0..3 {
            let response: FindCoordinatorResponse =
                ask(world.broker(index), Api::FIND_COORDINATOR, 4, &request).await;
            found.insert(response.coordinators[0].node_id.0);
        }
        assert_eq!(found.len(), 1, "they agree");
        expected.entry(*found.first().unwrap()).or_default().insert(group);
    }
    for index in 0..3 {
        let response: ListGroupsResponse =
            ask(world.broker(index), Api::LIST_GROUPS, 4, &ListGroupsRequest::default()).await;
        let listed: BTreeSet<String> =
            response.groups.iter().map(|group| group.group_id.0.to_string()).collect();
        assert_eq!(Some(&listed), expected.get(&world.broker(index).nodes.id().0));
    }
}

#[tokio::test]
async fn brokers_behind_one_address_are_one() {
    let world = World::of(&["balancer", "balancer", "balancer"]).await;
    topic(world.broker(0), "t", 9, &[]).await;
    world.heartbeat(2, "g", "m", 0).await;
    let session = session_at("balancer");
    for index in 0..3 {
        let answer = metadata(world.broker(index), &session).await;
        assert_eq!(hosts(&answer), BTreeMap::from([(1, "balancer".into())]));
        assert_eq!(leaders(&answer), [1; 9]);
        let request = ListGroupsRequest::default();
        let response: ListGroupsResponse =
            ask_on(world.broker(index), &session, Api::LIST_GROUPS, 4, &request).await;
        assert_eq!(response.groups.len(), 1, "whomever a client reaches tells all");
    }
}

#[tokio::test]
async fn tools_see_as_many_brokers_as_there_are() {
    let world = World::of(&["a", "b", "c"]).await;
    let create = |name: &str, factor: i16| {
        let topic = CreatableTopic::default().with_name(text::topic_name(name)).with_num_partitions(1);
        CreateTopicsRequest::default().with_topics(vec![topic.with_replication_factor(factor)])
    };
    for (factor, error) in [(3, 0), (4, ErrorCode::InvalidReplicationFactor.code())] {
        let response: CreateTopicsResponse =
            ask(world.broker(1), Api::CREATE_TOPICS, 7, &create(&format!("t{factor}"), factor)).await;
        let created = &response.topics[0];
        assert_eq!(created.error_code, error, "{created:?}");
        let message = created.error_message.as_deref().unwrap_or_default();
        assert_eq!(message.contains("only 3 broker(s)"), factor > 3, "{message}");
    }
    // All tell of the controller that Metadata tells of.
    let partition = quorum::PartitionData::default();
    let topic = quorum::TopicData::default().with_topic_name(text::topic_name("__cluster_metadata"));
    let asked = DescribeQuorumRequest::default().with_topics(vec![topic.with_partitions(vec![partition])]);
    for (index, host) in ["a", "b", "c"].into_iter().enumerate() {
        let (broker, session) = (world.broker(index), session_at(host));
        let response: DescribeQuorumResponse =
            ask_on(broker, &session, Api::DESCRIBE_QUORUM, 2, &asked).await;
        let told = &response.topics[0].partitions[0];
        let ids = |of: &[ReplicaState]| of.iter().map(|one| one.replica_id.0).collect::<Vec<_>>();
        assert_eq!((told.leader_id.0, ids(&told.current_voters)), (1, vec![1]));
        assert_eq!(ids(&told.observers), [2, 3]);
        assert_eq!(response.nodes[0].listeners[0].host.as_str(), "a");
        assert_eq!(metadata(broker, &session).await.controller_id.0, 1);
    }
}

/// A route to several stores shows topics of all; those of others are not at other brokers.
#[tokio::test]
async fn clients_of_several_stores_see_one_broker() {
    let world = World::of(&["a", "b", "c"]).await;
    topic(world.broker(0), "t", 9, &[]).await;
    let broker = world.broker(1);
    assert!(!broker.nodes.has(NodeId(7)));
    broker.nodes.set_addresses(BTreeMap::from([(Arc::from("another"), None)]));
    let answer = metadata(broker, &session_at("b")).await;
    assert_eq!(hosts(&answer), BTreeMap::from([(1, "b".into())]));
    assert_eq!(leaders(&answer), [1; 9]);
    let request = FindCoordinatorRequest::default().with_coordinator_keys(vec![text::str_bytes("g")]);
    let found: FindCoordinatorResponse = ask(broker, Api::FIND_COORDINATOR, 4, &request).await;
    assert_eq!(found.coordinators[0].node_id.0, 1);
    assert!(broker.nodes.has(NodeId(1)), "by the id that they know");
}

#[tokio::test]
async fn one_broker_does_what_any_could() {
    let mut world = World::of(&["a", "b", "c"]).await;
    let doing = |world: &World, work| (0..3).filter(|index| world.broker(*index).nodes.does(work)).count();
    for work in [Work::Maintenance, Work::Transactions, Work::Outbox] {
        assert_eq!(doing(&world, work), 1, "{work:?}");
    }
    // Without a lease nobody does: others may have taken it over.
    world.clock.advance(8_000);
    assert_eq!(doing(&world, Work::Maintenance), 0);
    world.renew().await;
    world.renew().await;
    assert_eq!(doing(&world, Work::Maintenance), 1);
}

#[tokio::test]
async fn clients_are_sent_away_from_a_broker_that_is_drained() {
    let mut world = World::of(&["a", "b"]).await;
    topic(world.broker(0), "t", 20, &[]).await;
    let id = world.broker(1).nodes.id();
    let drain = NodeCommand::Drain { node: id, is_drained: true, now_ms: world.clock.now_ms() };
    let drained = world.broker(0).store.commit_one(&Ticket::only(), Command::Node(drain)).await;
    drained.unwrap().unwrap();
    world.renew().await;
    for (index, host) in ["a", "b"].into_iter().enumerate() {
        let answer = metadata(world.broker(index), &session_at(host)).await;
        assert_eq!(hosts(&answer).len(), 2, "it still serves");
        assert_eq!(leaders(&answer), [1; 20]);
    }
    world.kill(0);
    world.pass(9_000).await;
    let answer = metadata(world.broker(0), &session_at("b")).await;
    assert_eq!(leaders(&answer), [2; 20], "there is nobody else");
}

#[tokio::test]
async fn a_member_is_heard_by_whichever_broker_it_reaches() {
    let mut world = World::of(&["a", "b", "c"]).await;
    let group = "g";
    let owner = world.owner_of(group);
    let others: Vec<usize> = (0..3).filter(|index| *index != owner).collect();
    let (_, mut epoch) = world.heartbeat(others[0], group, "m", 0).await;
    world.heartbeat(others[1], group, "silent", 0).await;
    // Its heartbeats go to brokers that do not look after the group, now to one, now to the other.
    for turn in 0..40 {
        world.pass(3_000).await;
        let (error, now) = world.heartbeat(others[turn / 7 % 2], group, "m", epoch).await;
        assert_eq!(error, 0, "at turn {turn}");
        epoch = now;
        // Three seconds are left for a broker that has heard from it, and has yet to write it down.
        let is_over = 3_000 * (turn as i64 + 1) >= SESSION_MS + 3_000;
        assert_eq!(world.members(group).await.contains("silent"), !is_over, "at turn {turn}");
    }
    // It falls silent, and is gone a session later.
    world.pass(SESSION_MS - 2_000).await;
    assert_eq!(world.members(group).await.len(), 1);
    world.pass(6_000).await;
    assert_eq!(world.members(group).await.len(), 0);
}

#[tokio::test]
async fn leases_are_written_seldom_and_never_by_a_broker_that_is_alone() {
    let mut world = World::of(&["a"]).await;
    let (_, epoch) = world.heartbeat(0, "g", "m", 0).await;
    let lease = async |world: &World| {
        let view = world.broker(0).store.group(&Arc::from("g")).await.unwrap().unwrap();
        view.members[0].1.lease_ms
    };
    let mut leases = BTreeSet::new();
    for _ in 0..20 {
        world.pass(3_000).await;
        world.heartbeat(0, "g", "m", epoch).await;
        leases.insert(lease(&world).await);
    }
    assert_eq!(leases.len(), 1);
    world.start("b").await;
    leases.clear();
    for _ in 0..20 {
        world.pass(3_000).await;
        world.heartbeat(0, "g", "m", epoch).await;
        leases.insert(lease(&world).await);
    }
    assert!((3..=6).contains(&leases.len()), "{leases:?}");

    // The other one goes: nothing is written, nor kept to be written. Others come and go; each member has one turn.
    world.kill(1);
    world.pass(10_000).await;
    assert_eq!(world.broker(0).coordinator.turns(), 0);
    for _ in 0..3 {
        world.start("c").await;
        world.pass(2_000).await;
        assert_eq!(world.heartbeat(0, "g", "m", epoch).await.0, 0);
        world.pass(1_000).await;
        assert_eq!(world.broker(0).coordinator.turns(), 1);
        leave(world.broker(1), &*world.store).await;
        world.kill(1);
        world.renew().await;
        assert_eq!(world.broker(0).coordinator.turns(), 0);
    }
}

/// The store could not be reached for longer than leases and sessions last.
#[tokio::test]
async fn an_outage_of_the_store_evicts_nobody() {
    for hosts in [&["a"][..], &["a", "b"]] {
        let mut world = World::of(hosts).await;
        let (_, epoch) = world.heartbeat(0, "g", "m", 0).await;
        world.pass(3_000).await;
        world.clock.advance(2 * SESSION_MS);
        // Whichever comes first once it is back.
        for (broker, timeouts) in &mut world.brokers {
            timeouts.step(broker).await.unwrap();
        }
        world.pass(SESSION_MS - 5_000).await;
        assert_eq!(world.heartbeat(0, "g", "m", epoch).await.0, 0, "{hosts:?}");
        world.pass(SESSION_MS + 5_000).await;
        assert_eq!(world.members("g").await.len(), 0, "{hosts:?}");
    }
}

#[tokio::test]
async fn groups_of_a_broker_that_dies_are_taken_over() {
    let mut world = World::of(&["a", "b"]).await;
    let group = "g";
    let owner = world.owner_of(group);
    let (_, epoch) = world.heartbeat(owner, group, "m", 0).await;
    world.heartbeat(owner, group, "gone", 0).await;
    world.pass(20_000).await;
    let (error, _) = world.heartbeat(owner, group, "m", epoch).await;
    assert_eq!(error, 0);
    world.kill(owner);
    // Until its lease ends nobody looks after the group. Then each member has a whole session.
    world.pass(10_000).await;
    world.pass(SESSION_MS - 5_000).await;
    assert_eq!(world.members(group).await.len(), 2);
    assert_eq!(world.heartbeat(0, group, "m", epoch).await.0, 0);
    world.pass(6_000).await;
    assert_eq!(world.members(group).await, BTreeSet::from(["m".to_owned()]));
}

#[tokio::test]
async fn a_broker_that_was_away_evicts_nobody_by_what_it_remembers() {
    let mut world = World::of(&["a", "b"]).await;
    let group = "g";
    let owner = world.owner_of(group);
    let (_, epoch) = world.heartbeat(owner, group, "m", 0).await;
    world.pass(5_000).await;
    // The one that looks after the group is stopped; the member goes to the other one.
    let away = world.brokers.remove(owner);
    for _ in 0..30 {
        world.pass(3_000).await;
        assert_eq!(world.heartbeat(0, group, "m", epoch).await.0, 0);
    }
    // It goes on, with what it has known before it was stopped.
    let (broker, mut timeouts) = away;
    timeouts.step(&broker).await.unwrap();
    assert_eq!(world.members(group).await.len(), 1, "before it knows what time it is");
    world.brokers.insert(0, (broker, timeouts));
    world.pass(10_000).await;
    assert_eq!(world.members(group).await.len(), 1);
}

/// A broker that starts and dies again and again keeps no member that has died.
#[tokio::test]
async fn the_dead_are_evicted_while_brokers_come_and_go() {
    let mut world = World::of(&["a", "b"]).await;
    let groups: Vec<String> = (0..6).map(|number| format!("g{number}")).collect();
    for group in &groups {
        let (_, epoch) = world.heartbeat(0, group, "m", 0).await;
        world.heartbeat(1, group, "gone", 0).await;
        assert_eq!(world.heartbeat(0, group, "m", epoch).await.0, 0);
    }
    let mut epochs = BTreeMap::<String, i32>::new();
    for turn in 0..40 {
        world.start("c").await;
        world.pass(3_000).await;
        leave(world.broker(2), &*world.store).await;
        world.kill(2);
        world.pass(2_000).await;
        for group in &groups {
            let epoch = *epochs.entry(group.clone()).or_insert(1);
            let (error, now) = world.heartbeat(turn % 2, group, "m", epoch.max(1)).await;
            assert_eq!(error, 0, "{group} at turn {turn}");
            epochs.insert(group.clone(), now);
        }
    }
    for group in &groups {
        assert_eq!(world.members(group).await, BTreeSet::from(["m".to_owned()]), "{group}");
    }
}

/// The server's clock is set back by an hour, and a broker that has not noticed writes leases of before.
#[tokio::test]
async fn leases_of_a_clock_that_was_set_back_keep_nobody() {
    let mut world = World::of(&["a", "b"]).await;
    world.clock.advance(3_600_000);
    world.renew().await;
    for index in 0..2 {
        world.heartbeat(index, "g", "m", 0).await;
        world.heartbeat(index, "g", "gone", 0).await;
    }
    world.pass(3_000).await;
    world.clock.advance(-3_600_000);
    world.pass(3_000).await;
    let (_, mut epoch) = world.heartbeat(0, "g", "m", 0).await;
    for _ in 0..8 {
        world.pass(10_000).await;
        let (error, now) = world.heartbeat(1, "g", "m", epoch).await;
        assert_eq!(error, 0);
        epoch = now;
    }
    assert_eq!(world.members("g").await, BTreeSet::from(["m".to_owned()]));
    world.pass(SESSION_MS + 7_000).await;
    assert_eq!(world.members("g").await.len(), 0);
}

/// Nobody calls: then a broker that is alone leaves the store alone, until somebody does or another joins.
#[tokio::test]
async fn a_broker_that_nobody_calls_rests() {
    let mut world = World::of(&["a"]).await;
    let rests = |world: &World| world.broker(0).nodes.rests();
    world.pass(29_000).await;
    assert!(!rests(&world));
    world.pass(2_000).await;
    assert!(rests(&world));
    // The lease is renewed more rarely by then.
    world.clock.advance(45_000);
    assert!(world.broker(0).nodes.holds_lease());
    world.renew().await;
    assert!(rests(&world));
    // Nobody was heard meanwhile, but nobody could be: sessions go on.
    metadata(world.broker(0), &session_at("a")).await;
    world.renew().await;
    assert!(!rests(&world), "it was called");
    world.pass(31_000).await;
    assert!(rests(&world));
    world.start("b").await;
    assert!(!rests(&world), "another has joined");
    world.pass(60_000).await;
    assert!(!rests(&world), "of two none rests");
    // One that dies is gone soon.
    world.kill(1);
    world.pass(9_000).await;
    assert_eq!(world.broker(0).nodes.count(), 1);
}
