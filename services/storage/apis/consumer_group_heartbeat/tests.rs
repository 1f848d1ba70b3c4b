//! Heartbeats by regular expression: what they see of new topics. Members that join at once, or while no target assignment
//! is there: what they get.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupId};
use kafka_protocol::protocol::StrBytes;
use kernel::clock::ManualClock;
use kernel::{Api, ErrorCode, Ticket, TopicId};
use rules::commands::{Command, GroupCommand, Join, KnownTopics, MemberIdentity, NewConfigs};
use rules::documents::{Blob, ConsumerGroup, GroupState, MemberProtocol};

use crate::apis::testing::{NOW_MS, ask, broker, broker_over, topic};
use crate::broker::Broker;
use crate::engines::Engine;
use crate::engines::sqlite::Sqlite;
use crate::settings::Settings;

fn request(member: &'static str, epoch: i32) -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("g")))
        .with_member_id(StrBytes::from_static_str(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
}

async fn join(
    broker: &Arc<Broker>,
    member: &'static str,
    regex: &'static str,
) -> ConsumerGroupHeartbeatResponse {
    let request = request(member, 0)
        .with_rebalance_timeout_ms(1_000)
        .with_subscribed_topic_regex(Some(StrBytes::from_static_str(regex)))
        .with_topic_partitions(Some(Vec::new()));
    ask(broker, Api::CONSUMER_GROUP_HEARTBEAT, 1, &request).await
}

/// Heartbeats until an epoch, which takes more than one while an expression rests.
async fn reach(broker: &Arc<Broker>, member: &'static str, from: i32, to: i32) -> Option<usize> {
    let (mut epoch, mut assigned) = (from, None);
    while epoch < to {
        let response: ConsumerGroupHeartbeatResponse =
            ask(broker, Api::CONSUMER_GROUP_HEARTBEAT, 1, &request(member, epoch)).await;
        assert_eq!(response.error_code, 0, "{response:?}");
        epoch = response.member_epoch;
        assigned = response.assignment.map(|own| own.topic_partitions.len()).or(assigned);
    }
    assert_eq!(epoch, to);
    assigned
}

#[tokio::test]
async fn one_members_heartbeat_sees_the_new_topics_of_all_expressions() {
    let broker = broker().await;
    topic(&broker, "red-1", 1, &[]).await;
    let red = join(&broker, "red", "red-.*").await;
    assert_eq!((red.error_code, red.member_epoch), (0, 2));
    assert_eq!(red.assignment.unwrap().topic_partitions.len(), 1);
    let blue = join(&broker, "blue", "blue-.*").await;
    // There is no such topic yet, so its expression changes nothing.
    assert_eq!((blue.error_code, blue.member_epoch), (0, 2));
    topic(&broker, "blue-1", 1, &[]).await;
    // Only `red` is heard from, and its heartbeat finds the topic of `blue`.
    assert_eq!(reach(&broker, "red", 2, 3).await, None);
    assert_eq!(reach(&broker, "blue", 2, 3).await, Some(1));
    topic(&broker, "red-2", 1, &[]).await;
    assert_eq!(reach(&broker, "red", 3, 4).await, Some(2));
}

#[tokio::test]
async fn an_expression_that_is_none_is_refused() {
    let broker = broker().await;
    let response = join(&broker, "a", "(").await;
    assert_eq!(response.error_code, ErrorCode::InvalidRegularExpression.code());
    assert!(response.error_message.unwrap().contains("is not a regular expression"));
}

#[tokio::test]
async fn the_timeouts_of_a_group_are_its_configs() {
    let broker = broker().await;
    topic(&broker, "red-1", 1, &[]).await;
    let session_ms = async || {
        let group = broker.store.group(&Arc::from("g")).await.unwrap().unwrap();
        group.members[0].1.session_timeout_ms
    };
    assert_eq!(join(&broker, "red", "red-.*").await.heartbeat_interval_ms, 5_000);
    assert_eq!(session_ms().await, 45_000);
    for (session, heartbeat) in [(50_000, 10_000), (60_000, 5_000)] {
        let configs =
            [("consumer.session.timeout.ms", session), ("consumer.heartbeat.interval.ms", heartbeat)];
        let command = Command::AlterGroupConfigs {
            group: Arc::from("g"),
            configs: NewConfigs::Replace(
                configs.into_iter().map(|(name, value)| (name.to_owned(), value.to_string())).collect(),
            ),
            defaults: broker.settings.group_defaults(),
        };
        broker.store.commit_one(&Ticket::only(), command).await.unwrap().unwrap();
        // Its next heartbeat, though nothing else has changed.
        let response: ConsumerGroupHeartbeatResponse =
            ask(&broker, Api::CONSUMER_GROUP_HEARTBEAT, 1, &request("red", 2)).await;
        assert_eq!((response.error_code, response.heartbeat_interval_ms), (0, heartbeat));
        assert_eq!(session_ms().await, session);
    }
}

/// Sends a heartbeat of a member of the group `h` that has these partitions, and updates what it has. It joins with epoch 0.
async fn beat(
    broker: &Arc<Broker>,
    topic: TopicId,
    member: String,
    epoch: i32,
    has: Vec<i32>,
) -> (i32, Vec<i32>) {
    let owned = TopicPartitions::default().with_topic_id(topic.0).with_partitions(has.clone());
    let owned = if epoch == 0 { Vec::new() } else { vec![owned] };
    let mut request = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("h")))
        .with_member_id(StrBytes::from_string(member))
        .with_member_epoch(epoch)
        .with_rebalance_timeout_ms(-1)
        .with_topic_partitions(Some(owned));
    if epoch == 0 {
        let names = vec![kafka_protocol::messages::TopicName(StrBytes::from_static_str("t"))];
        request = request.with_rebalance_timeout_ms(60_000).with_subscribed_topic_names(Some(names));
    }
    let response: ConsumerGroupHeartbeatResponse =
        ask(broker, Api::CONSUMER_GROUP_HEARTBEAT, 1, &request).await;
    assert_eq!(response.error_code, 0, "{response:?}");
    let told = response.assignment.map(|told| told.topic_partitions.into_iter().flat_map(|of| of.partitions));
    (response.member_epoch, told.map_or(has, Iterator::collect))
}

/// The error of a join of a member of the group `b` that subscribes to a topic, by its name or by an expression.
async fn join_with(broker: &Arc<Broker>, number: usize) -> i16 {
    let topic = StrBytes::from_string(format!("burst-{number}"));
    let request = ConsumerGroupHeartbeatRequest::default()
        .with_group_id(GroupId(StrBytes::from_static_str("b")))
        .with_member_id(StrBytes::from_string(format!("m-{number}")))
        .with_rebalance_timeout_ms(60_000)
        .with_topic_partitions(Some(Vec::new()));
    let request = if number.is_multiple_of(5) {
        request.with_subscribed_topic_regex(Some(topic))
    } else {
        request.with_subscribed_topic_names(Some(vec![kafka_protocol::messages::TopicName(topic)]))
    };
    let response: ConsumerGroupHeartbeatResponse =
        ask(broker, Api::CONSUMER_GROUP_HEARTBEAT, 1, &request).await;
    assert!(response.error_code != 0 || response.member_epoch > 0, "{response:?}");
    response.error_code
}

/// Each changes what the group subscribes to. A store on disk decides those that wait together, one after another.
async fn join_in_a_burst(broker: Arc<Broker>) {
    const MEMBERS: usize = 50;
    for number in 0..MEMBERS {
        topic(&broker, &format!("burst-{number}"), 1, &[]).await;
    }
    let mut joins = tokio::task::JoinSet::new();
    for number in 0..MEMBERS {
        let broker = Arc::clone(&broker);
        joins.spawn(async move { join_with(&broker, number).await });
    }
    assert_eq!(joins.join_all().await, vec![0; MEMBERS]);
    // They have joined, and heartbeats bring each its topic.
    let name: Arc<str> = Arc::from("b");
    for _ in 0..20 {
        let view = broker.store.group(&name).await.unwrap().unwrap();
        let mut is_over = view.group.state == GroupState::Stable;
        for (member, document) in &view.members {
            let own = document.consumer.as_ref().unwrap();
            is_over &= own.assigned.len() == 1;
            let request = ConsumerGroupHeartbeatRequest::default()
                .with_group_id(GroupId(StrBytes::from_static_str("b")))
                .with_member_id(StrBytes::from_string(member.to_string()))
                .with_member_epoch(own.epoch)
                .with_rebalance_timeout_ms(-1);
            let response: ConsumerGroupHeartbeatResponse =
                ask(&broker, Api::CONSUMER_GROUP_HEARTBEAT, 1, &request).await;
            assert_eq!(response.error_code, 0, "{response:?}");
        }
        if is_over {
            assert_eq!(view.members.len(), MEMBERS);
            return;
        }
    }
    panic!("the group does not come to rest");
}

#[tokio::test]
async fn a_burst_of_joins_of_different_subscriptions_gets_no_error() {
    join_in_a_burst(broker().await).await;
}

#[tokio::test]
async fn a_burst_of_joins_on_a_store_on_disk_gets_no_error() {
    let home = std::env::temp_dir().join(format!("yagura-burst-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&home);
    std::fs::create_dir_all(&home).unwrap();
    let store = Arc::new(Sqlite::open(&home.join("y.db"), &Settings::at("")).unwrap());
    let broker = broker_over(Arc::clone(&store), Arc::new(ManualClock::at(NOW_MS)), 64 << 20);
    join_in_a_burst(broker).await;
    store.close().await.unwrap();
    std::fs::remove_dir_all(&home).unwrap();
}

#[tokio::test]
async fn members_that_join_at_once_share_the_partitions() {
    const MEMBERS: usize = 12;
    let broker = broker().await;
    let id = topic(&broker, "t", MEMBERS as i32, &[]).await.id;
    let mut joins = tokio::task::JoinSet::new();
    for number in 0..MEMBERS {
        let (broker, member) = (Arc::clone(&broker), format!("m-{number}"));
        joins.spawn(async move {
            let joined = beat(&broker, id, member.clone(), 0, Vec::new()).await;
            (member, joined)
        });
    }
    let mut members: BTreeMap<String, (i32, Vec<i32>)> = joins.join_all().await.into_iter().collect();
    assert!(members.values().all(|(epoch, _)| *epoch > 0));
    for _ in 0..6 {
        for (member, (epoch, has)) in &mut members {
            (*epoch, *has) = beat(&broker, id, member.clone(), *epoch, has.clone()).await;
        }
    }
    let group = broker.store.group(&Arc::from("h")).await.unwrap().unwrap().group;
    // Each join has bumped the epoch.
    let epoch = ConsumerGroup::FIRST_EPOCH + MEMBERS as i32;
    assert_eq!((group.state, group.generation), (GroupState::Stable, epoch));
    let mut all: Vec<i32> = members.into_values().flat_map(|(_, has)| has).collect();
    all.sort_unstable();
    assert_eq!(all, Vec::from_iter(0..MEMBERS as i32));
}

#[tokio::test(start_paused = true)]
async fn a_member_of_a_new_group_is_answered_before_the_first_target_is_there() {
    let broker = broker().await;
    topic(&broker, "red-1", 1, &[]).await;
    // Somebody computes a target, and takes longer than a call waits.
    let turn = broker.targets.turn(&Arc::from("g")).await;
    let joined = join(&broker, "a", "red-.*").await;
    assert_eq!((joined.error_code, joined.member_epoch), (0, ConsumerGroup::FIRST_EPOCH));
    assert_eq!(joined.assignment.unwrap().topic_partitions, []);
    drop(turn);
    assert_eq!(reach(&broker, "a", 1, 2).await, Some(1));
}

/// A classic group in its first rebalance is in generation 0, and keeps that as its epoch when it is upgraded.
#[tokio::test(start_paused = true)]
async fn a_member_without_any_epoch_is_told_to_ask_again() {
    let broker = broker().await;
    topic(&broker, "red-1", 1, &[]).await;
    broker.store.commit_one(&Ticket::only(), classic_join()).await.unwrap().unwrap();
    let turn = broker.targets.turn(&Arc::from("g")).await;
    let refused = join(&broker, "a", "red-.*").await;
    assert_eq!(refused.error_code, ErrorCode::CoordinatorLoadInProgress.code());
    drop(turn);
    let joined = join(&broker, "a", "red-.*").await;
    assert_eq!((joined.error_code, joined.member_epoch), (0, 1));
    assert_eq!(joined.assignment.unwrap().topic_partitions.len(), 1);
}

/// A member of the classic protocol joins a new group `g`, and waits for others.
fn classic_join() -> Command {
    // A subscription of version 0, without topics or user data.
    let metadata = Blob(Bytes::from_static(b"\0\0\0\0\0\0\xff\xff\xff\xff"));
    let join = Join {
        member: MemberIdentity { id: Arc::from(""), instance_id: None, generation: -1 },
        fresh_id: Arc::from("classic"),
        requires_known_id: false,
        can_skip_assignment: true,
        client_id: Arc::from("client"),
        client_host: Arc::from("/127.0.0.1"),
        session_timeout_ms: 45_000,
        rebalance_timeout_ms: 60_000,
        protocol_type: Arc::from("consumer"),
        protocols: vec![MemberProtocol { name: Arc::from("range"), metadata }],
        initial_delay_ms: 3_000,
        members_max: 100,
        known_topics: KnownTopics::default(),
        now_ms: NOW_MS,
    };
    Command::Group { group: Arc::from("g"), command: GroupCommand::Join(Box::new(join)) }
}
