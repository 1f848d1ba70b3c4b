//! Timeouts of groups, of one broker and of brokers one after another.

use std::collections::BTreeSet;

use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::{
    ConsumerGroupHeartbeatResponse, GroupId, HeartbeatRequest, HeartbeatResponse, OffsetCommitRequest,
    OffsetCommitResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;
use kernel::clock::ManualClock;
use kernel::{Api, ErrorCode};
use rules::documents::GroupState;

use super::*;
use crate::apis::testing::{NOW_MS, ask, broker_over, consumer_heartbeat, topic};
use crate::engines::memory::Memory;

const SESSION_MS: i64 = 45_000;

/// Brokers one after another over one store.
struct World {
    store: Arc<Memory>,
    clock: Arc<ManualClock>,
    broker: Arc<Broker>,
    timeouts: Timeouts,
}

impl World {
    async fn new() -> Self {
        let (store, clock) = (Arc::new(Memory::new()), Arc::new(ManualClock::at(NOW_MS)));
        let broker = broker_over(Arc::clone(&store), Arc::clone(&clock), 1 << 20);
        Self { store, clock, broker, timeouts: Timeouts::default() }
    }

    async fn restart(&mut self) {
        self.broker = broker_over(Arc::clone(&self.store), Arc::clone(&self.clock), 1 << 20);
        self.timeouts = Timeouts::default();
        self.timeouts.find_all(&self.broker).await.unwrap();
    }

    async fn heartbeat(&self, group: &str, member: &str, epoch: i32) -> i32 {
        let request = consumer_heartbeat(group, member, epoch);
        let response: ConsumerGroupHeartbeatResponse =
            ask(&self.broker, Api::CONSUMER_GROUP_HEARTBEAT, 1, &request).await;
        assert_eq!(response.error_code, 0, "{response:?}");
        response.member_epoch
    }

    /// Commits an offset of the topic `t`.
    async fn commit(&self, member: &'static str, generation: i32) {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
        let topics = OffsetCommitRequestTopic::default()
            .with_name(TopicName(StrBytes::from_static_str("t")))
            .with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str("g")))
            .with_member_id(StrBytes::from_static_str(member))
            .with_generation_id_or_member_epoch(generation)
            .with_topics(vec![topics]);
        let response: OffsetCommitResponse = ask(&self.broker, Api::OFFSET_COMMIT, 9, &request).await;
        assert_eq!(response.topics[0].partitions[0].error_code, 0);
    }

    /// Advances the clock, and looks at what is due; when to look next, from now.
    async fn pass(&mut self, ms: i64) -> Option<i64> {
        self.clock.advance(ms);
        let next = self.timeouts.step(&self.broker).await.unwrap();
        next.map(|next| next - self.broker.time.now_ms())
    }

    async fn members(&self, group: &str) -> BTreeSet<Arc<str>> {
        let view = self.broker.store.group(&Arc::from(group)).await.unwrap().unwrap();
        view.members.into_iter().map(|(id, _)| id).collect()
    }
}

fn ids(ids: &[&str]) -> BTreeSet<Arc<str>> {
    ids.iter().map(|id| Arc::from(*id)).collect()
}

#[tokio::test]
async fn a_group_is_looked_at_once_per_session() {
    let mut world = World::new().await;
    let epoch = world.heartbeat("g", "a", 0).await;
    assert_eq!(world.pass(0).await, Some(SESSION_MS));
    for _ in 0..8 {
        world.clock.advance(5_000);
        world.heartbeat("g", "a", epoch).await;
    }
    // Heartbeats have not moved the time of the look, only what it finds.
    assert_eq!(world.pass(0).await, Some(5_000));
    assert_eq!(world.pass(5_000).await, Some(40_000));
    assert_eq!(world.members("g").await, ids(&["a"]));
}

#[tokio::test]
async fn a_member_that_is_not_heard_from_is_removed() {
    let mut world = World::new().await;
    world.heartbeat("g", "a", 0).await;
    world.clock.advance(1_000);
    let epoch = world.heartbeat("g", "b", 0).await;
    assert_eq!(world.pass(0).await, Some(SESSION_MS - 1_000));
    world.clock.advance(SESSION_MS - 2_000);
    world.heartbeat("g", "b", epoch).await;
    assert_eq!(world.pass(999).await, Some(1));
    assert_eq!(world.members("g").await, ids(&["a", "b"]));
    world.pass(1).await;
    assert_eq!(world.members("g").await, ids(&["b"]));
    assert_eq!(world.pass(0).await, Some(SESSION_MS - 1_000));
    world.pass(SESSION_MS).await;
    assert_eq!(world.pass(0).await, None, "an empty group has no timeouts");
    let group = world.broker.store.group(&Arc::from("g")).await.unwrap().unwrap();
    assert_eq!(group.group.state, GroupState::Empty);
    assert!(world.broker.coordinator.is_empty(), "nothing is remembered of former members");
}

#[tokio::test]
async fn members_get_a_whole_session_after_an_outage() {
    let mut world = World::new().await;
    world.heartbeat("g", "a", 0).await;
    let epoch = world.heartbeat("h", "a", 0).await;
    world.clock.advance(3_600_000);
    world.restart().await;
    assert_eq!(world.pass(0).await, Some(SESSION_MS));
    assert_eq!(world.pass(SESSION_MS - 1).await, Some(1));
    world.heartbeat("h", "a", epoch).await;
    world.pass(1).await;
    assert_eq!((world.members("g").await, world.members("h").await), (ids(&[]), ids(&["a"])));
}

#[tokio::test]
async fn a_heartbeat_writes_nothing() {
    let world = World::new().await;
    let epoch = world.heartbeat("g", "a", 0).await;
    let before = world.broker.store.group(&Arc::from("g")).await.unwrap().unwrap();
    for _ in 0..10 {
        world.clock.advance(5_000);
        world.heartbeat("g", "a", epoch).await;
    }
    let after = world.broker.store.group(&Arc::from("g")).await.unwrap().unwrap();
    assert!(
        Arc::ptr_eq(&before.group, &after.group) && Arc::ptr_eq(&before.members[0].1, &after.members[0].1)
    );
}

#[tokio::test]
async fn nobody_is_remembered_who_is_no_member() {
    let mut world = World::new().await;
    topic(&world.broker, "t", 1, &[]).await;
    world.commit("stranger", -1).await;
    assert!(world.broker.coordinator.is_empty());
    // One that was heard from just after it had left is forgotten at the next look.
    world.broker.coordinator.heard(&Arc::from("g"), &Arc::from("stranger"));
    world.pass(0).await;
    assert!(world.broker.coordinator.is_empty());
}

#[tokio::test]
async fn a_member_of_the_consumer_protocol_that_only_commits_is_removed() {
    let mut world = World::new().await;
    topic(&world.broker, "t", 1, &[]).await;
    let epoch = world.heartbeat("g", "a", 0).await;
    world.pass(SESSION_MS - 1).await;
    world.commit("a", epoch).await;
    world.pass(1).await;
    assert_eq!(world.members("g").await, ids(&[]));
}

#[tokio::test]
async fn a_heartbeat_of_a_stranger_is_refused() {
    let world = World::new().await;
    world.heartbeat("g", "a", 0).await;
    let request = HeartbeatRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_member_id(StrBytes::from_static_str("stranger"))
        .with_generation_id(1);
    let response: HeartbeatResponse = ask(&world.broker, Api::HEARTBEAT, 4, &request).await;
    assert_eq!(response.error_code, ErrorCode::UnknownMemberId.code());
    assert!(!world.broker.coordinator.remembers("g", "stranger"));
}
