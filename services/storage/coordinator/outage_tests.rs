//! Groups when the wall clock is set, when the process stands still, and across runs of a broker.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::messages::ConsumerGroupHeartbeatResponse;
use kernel::clock::{Clock, ManualClock};
use kernel::{Api, Ticket};
use rules::commands::{Command, GroupCommand, Join, KnownTopics, MemberIdentity};
use rules::documents::{Blob, GroupState, MemberProtocol};

use super::timeouts::Timeouts;
use crate::apis::testing::{NOW_MS, ask, broker_of_clocks, consumer_heartbeat};
use crate::broker::Broker;
use crate::engines::memory::Memory;

/// Session timeout of members of the consumer protocol, and of the classic members here.
const SESSION_MS: i64 = 45_000;
/// Rebalance timeout of the classic members. Shorter than a session: an outage must not cost them their membership.
const REBALANCE_MS: i64 = 5_000;
const HOUR_MS: i64 = 3_600_000;

/// Runs of a broker over one store, and their clocks.
struct World {
    store: Arc<Memory>,
    wall: Arc<ManualClock>,
    time: Arc<ManualClock>,
    broker: Arc<Broker>,
    timeouts: Timeouts,
}

impl World {
    fn new() -> Self {
        let store = Arc::new(Memory::new());
        let (wall, time) = (Arc::new(ManualClock::at(NOW_MS)), Arc::new(ManualClock::at(NOW_MS)));
        let broker = broker_of_clocks(Arc::clone(&store), Arc::clone(&wall), Arc::clone(&time));
        Self { store, wall, time, broker, timeouts: Timeouts::default() }
    }

    /// The broker is killed, and starts again when the wall clock shows another time.
    async fn restart(&mut self, after_ms: i64) {
        self.wall.advance(after_ms);
        self.time = Arc::new(ManualClock::at(self.wall.now_ms()));
        self.broker =
            broker_of_clocks(Arc::clone(&self.store), Arc::clone(&self.wall), Arc::clone(&self.time));
        self.timeouts = Timeouts::default();
        self.timeouts.find_all(&self.broker).await.unwrap();
        self.pass(0).await;
    }

    /// The process is stopped for longer than two seconds; store time counts as much of it.
    async fn stand_still(&mut self) {
        self.time.advance(2_000);
        self.time.pause();
        self.pass(0).await;
    }

    /// Lets store time pass, and looks at what is due, more than once, as the broker does.
    async fn pass(&mut self, ms: i64) {
        self.time.advance(ms);
        for _ in 0..3 {
            self.timeouts.step(&self.broker).await.unwrap();
        }
    }

    /// A heartbeat of a member of the consumer protocol; its epoch.
    async fn heartbeat(&self, member: &'static str, epoch: i32) -> i32 {
        let request = consumer_heartbeat("g", member, epoch);
        let response: ConsumerGroupHeartbeatResponse =
            ask(&self.broker, Api::CONSUMER_GROUP_HEARTBEAT, 1, &request).await;
        assert_eq!(response.error_code, 0, "{response:?}");
        response.member_epoch
    }

    /// JoinGroup of a classic member, whose client has gone by the time of the answer.
    async fn join(&self, member: &str, is_new: bool) {
        let id = Arc::from(if is_new { "" } else { member });
        let metadata = Blob(Default::default());
        let join = Join {
            member: MemberIdentity { id, instance_id: None, generation: -1 },
            fresh_id: Arc::from(member),
            requires_known_id: false,
            can_skip_assignment: true,
            client_id: Arc::from("client"),
            client_host: Arc::from("/127.0.0.1"),
            session_timeout_ms: SESSION_MS as i32,
            rebalance_timeout_ms: REBALANCE_MS as i32,
            protocol_type: Arc::from("consumer"),
            protocols: vec![MemberProtocol { name: Arc::from("range"), metadata }],
            initial_delay_ms: 0,
            members_max: 100,
            known_topics: KnownTopics::default(),
            now_ms: self.time.now_ms(),
        };
        let group = Arc::from("g");
        let command = GroupCommand::Join(Box::new(join));
        let command = Command::Group { group: Arc::clone(&group), command };
        self.broker.store.commit_one(&Ticket::only(), command).await.unwrap().unwrap();
        self.broker.coordinator.group_changed(&group);
    }

    /// The group's state, and its members in the order in which they joined.
    async fn group(&self) -> (GroupState, Vec<String>) {
        let view = self.broker.store.group(&Arc::from("g")).await.unwrap().unwrap();
        (view.group.state, view.members.iter().map(|(id, _)| id.to_string()).collect())
    }

    /// A rebalance under way: `b` has joined, and `a` is to join again.
    async fn rebalancing() -> Self {
        let mut world = Self::new();
        world.join("a", true).await;
        world.pass(0).await;
        world.join("b", true).await;
        world.pass(REBALANCE_MS - 1_000).await;
        assert_eq!(world.group().await, (GroupState::PreparingRebalance, names(&["a", "b"])));
        world
    }

    /// After an outage, `a` keeps its membership if it is back within a session.
    async fn goes_on(&mut self) {
        self.pass(SESSION_MS - 1).await;
        assert_eq!(self.group().await, (GroupState::PreparingRebalance, names(&["a", "b"])));
        self.join("a", false).await;
        assert_eq!(self.group().await, (GroupState::CompletingRebalance, names(&["a", "b"])));
    }
}

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[tokio::test]
async fn sessions_do_not_go_by_the_wall_clock() {
    for jump_ms in [HOUR_MS, -HOUR_MS] {
        let mut world = World::new();
        let epoch = world.heartbeat("a", 0).await;
        world.heartbeat("b", 0).await;
        world.pass(0).await;
        world.wall.advance(jump_ms);
        world.pass(SESSION_MS - 1).await;
        assert_eq!(world.group().await.1, names(&["a", "b"]), "{jump_ms}");
        world.heartbeat("a", epoch).await;
        world.pass(1).await;
        assert_eq!(world.group().await.1, names(&["a"]), "b was not heard from: {jump_ms}");
        world.pass(SESSION_MS).await;
        assert_eq!(world.group().await.1, names(&[]), "{jump_ms}");
    }
}

#[tokio::test]
async fn a_stop_of_the_process_gives_everybody_a_whole_session() {
    let mut world = World::new();
    world.heartbeat("a", 0).await;
    world.pass(SESSION_MS - 1_000).await;
    world.stand_still().await;
    world.pass(SESSION_MS - 1).await;
    assert_eq!(world.group().await.1, names(&["a"]));
    world.pass(1).await;
    assert_eq!(world.group().await.1, names(&[]), "it is given one session, and no more");
}

#[tokio::test]
async fn the_timeouts_learn_of_a_stop_at_once() {
    let world = World::new();
    let broker = Arc::clone(&world.broker);
    let learns = world.timeouts.stood_still(&broker);
    let stops = async {
        tokio::task::yield_now().await;
        world.time.pause();
    };
    let learnt = async { tokio::join!(learns, stops) };
    tokio::time::timeout(Duration::from_secs(60), learnt).await.unwrap();
}

#[tokio::test]
async fn a_stop_in_a_rebalance_gives_its_members_a_whole_session() {
    let mut world = World::rebalancing().await;
    world.stand_still().await;
    world.goes_on().await;

    let mut world = World::rebalancing().await;
    world.stand_still().await;
    world.pass(SESSION_MS).await;
    assert_eq!(world.group().await, (GroupState::CompletingRebalance, names(&["b"])), "a is gone");
}

#[tokio::test]
async fn a_rebalance_goes_on_in_another_run_whatever_the_clock_shows() {
    for after_ms in [HOUR_MS, 10, -HOUR_MS] {
        let mut world = World::rebalancing().await;
        world.restart(after_ms).await;
        world.goes_on().await;

        let mut world = World::rebalancing().await;
        world.restart(after_ms).await;
        world.pass(SESSION_MS).await;
        let left = (GroupState::CompletingRebalance, names(&["b"]));
        assert_eq!(world.group().await, left, "a is gone: {after_ms}");
    }
}

#[tokio::test]
async fn a_lease_of_a_run_whose_clock_was_ahead_is_no_longer_than_others() {
    let mut world = World::new();
    world.heartbeat("a", 0).await;
    world.pass(0).await;
    world.restart(-HOUR_MS).await;
    world.pass(SESSION_MS - 1).await;
    assert_eq!(world.group().await.1, names(&["a"]));
    world.pass(1).await;
    assert_eq!(world.group().await.1, names(&[]));
}
