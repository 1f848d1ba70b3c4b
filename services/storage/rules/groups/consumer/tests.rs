//! The rules of groups of the consumer protocol, tested alone: time is an argument.
//!
//! A new group begins in epoch 1. So the first member joins in epoch 2, the second one in epoch 3.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use kernel::consumer_protocol::read_assignment;
use kernel::ports::TopicFacts;
use kernel::{ErrorCode, TopicId, TopicPartition};
use uuid::Uuid;

use super::current_assignment::assigned_since;
use super::*;
use crate::commands::{
    Applied, CommittedOffset, ConsumerHeartbeat, ConsumerLeave, GroupCommand, HeartbeatReply, InstallTarget,
    Joined, KnownTopics, MemberIdentity, Outcome, ResolvedRegex, Sync, Synced,
};
use crate::documents::{
    AssignedKey, AssignedPartition, Blob, ConsumerMember, Document, DocumentKind, GroupDocument, GroupState,
    MemberDocument, MemberKey, MemberProtocol, MemberState, OffsetDocument, Partitions, each,
};
use crate::groups::tests::{REBALANCE_MS, SESSION_MS, Store, dynamic, text};

const TOPIC: TopicId = TopicId(Uuid::from_u128(7));

fn shared(numbers: &[i32]) -> Arc<Partitions> {
    Arc::new(part(numbers))
}

fn part(numbers: &[i32]) -> Partitions {
    match numbers {
        [] => Partitions::new(),
        _ => BTreeMap::from([(TOPIC, numbers.iter().copied().collect())]),
    }
}

/// Metadata of the topic `t`; some other names do not exist.
fn known(partitions: i32) -> KnownTopics {
    let mut known = KnownTopics::default();
    let topic = TopicFacts { name: text("t"), id: TOPIC, partitions };
    known.add(&BTreeSet::from(["t", "u", "other", "gone"].map(text)), vec![topic]);
    known
}

impl Store {
    /// A store with a topic.
    fn with_topic(partitions: i32) -> Self {
        let mut store = Self::new();
        store.grow_topic(partitions);
        store
    }

    fn grow_topic(&mut self, partitions: i32) {
        self.topics = known(partitions);
    }

    /// A heartbeat that says everything.
    fn full_heartbeat(&self, id: &str, epoch: i32) -> ConsumerHeartbeat {
        ConsumerHeartbeat {
            rebalance_timeout_ms: Some(REBALANCE_MS),
            topics: Some(BTreeSet::from([text("t")])),
            owned: Some(Partitions::new()),
            ..self.short_heartbeat(id, epoch)
        }
    }

    fn short_heartbeat(&self, id: &str, epoch: i32) -> ConsumerHeartbeat {
        ConsumerHeartbeat {
            member_id: text(id),
            instance_id: None,
            member_epoch: epoch,
            client_id: text("client"),
            client_host: text("/127.0.0.1"),
            rack: None,
            rebalance_timeout_ms: None,
            topics: None,
            regex: None,
            resolved_regexes: Vec::new(),
            assignor: None,
            owned: None,
            session_timeout_ms: SESSION_MS,
            members_max: 100,
            known_topics: self.topics.clone(),
            topics_are_current: false,
            now_ms: self.now_ms,
        }
    }

    fn heartbeat(
        &mut self,
        id: &str,
        epoch: i32,
        change: impl FnOnce(&mut ConsumerHeartbeat),
    ) -> Result<HeartbeatReply, ErrorCode> {
        let mut heartbeat =
            if epoch == 0 { self.full_heartbeat(id, epoch) } else { self.short_heartbeat(id, epoch) };
        change(&mut heartbeat);
        match self.run_heartbeat(heartbeat) {
            Ok(Applied::Heartbeat(reply)) => Ok(reply),
            Ok(Applied::MissingTopics(_)) => Err(ErrorCode::UnknownTopicOrPartition),
            Err(refused) => Err(refused.error),
            other => panic!("{other:?}"),
        }
    }

    /// Runs a heartbeat. If `rest` knows the reply, it must be the same, and nothing may change.
    fn run_heartbeat(&mut self, heartbeat: ConsumerHeartbeat) -> Outcome {
        let group = self.documents.get::<GroupDocument>(&text("g")).cloned();
        let seen = Some((self.topics.clone(), group.as_ref().map_or(0, |group| group.generation)));
        let is_seen = self.looked_at == seen && heartbeat.resolved_regexes.is_empty();
        let at_rest = group.zip(self.member(&heartbeat.member_id)).filter(|_| is_seen);
        let reply = at_rest.and_then(|(group, member)| rest(&group, &member, &heartbeat));
        let before = self.documents.0.clone();
        let outcome = self.run(GroupCommand::ConsumerHeartbeat(Box::new(heartbeat)));
        let outcome = self.continued(outcome);
        if let Some(reply) = reply {
            assert_eq!(outcome, Ok(Applied::Heartbeat(reply)));
            assert_eq!(self.documents.0, before, "a member at rest changes nothing");
            self.at_rest += 1;
        }
        if outcome.is_ok() {
            self.looked_at = seen;
        }
        outcome
    }

    /// A heartbeat with the current member epoch and these owned partitions.
    fn holds(&mut self, id: &str, owned: &[i32]) -> HeartbeatReply {
        let epoch = self.consumer(id).epoch;
        self.heartbeat(id, epoch, |heartbeat| heartbeat.owned = Some(part(owned))).unwrap()
    }

    fn leave_with(&mut self, id: &str, instance: Option<&str>, epoch: i32) -> Result<(), ErrorCode> {
        let (member_id, instance_id) = (text(id), instance.map(text));
        let leave = ConsumerLeave { member_id, instance_id, member_epoch: epoch, now_ms: self.now_ms };
        let outcome = self.run(GroupCommand::ConsumerLeave(leave));
        outcome.map(|_| ()).map_err(|refused| refused.error)
    }

    /// Commits offsets of these partitions with a member epoch.
    fn commit_at(&mut self, id: &str, epoch: i32, partitions: &[i32]) -> Result<(), ErrorCode> {
        let offset = |partition: &i32| CommittedOffset {
            topic: text("t"),
            partition: *partition,
            document: OffsetDocument {
                topic_id: TOPIC,
                offset: 5,
                leader_epoch: -1,
                metadata: text(""),
                committed_ms: self.now_ms,
                expires_ms: None,
                revision: 0,
                sent_after: None,
                sent_as: 0,
            },
        };
        let command = GroupCommand::CommitOffsets {
            member: MemberIdentity { generation: epoch, ..dynamic(id) },
            offsets: partitions.iter().map(offset).collect(),
            knows_epochs: true,
            now_ms: self.now_ms,
        };
        self.run(command).map(drop).map_err(|refused| refused.error)
    }

    fn consumer(&self, id: &str) -> ConsumerMember {
        *self.member(id).unwrap().consumer.unwrap()
    }

    /// The group epoch and the assignment epoch.
    fn epochs(&self) -> (i32, i32) {
        let group = self.group();
        (group.generation, group.consumer.unwrap().assignment_epoch)
    }

    fn assigned(&self, id: &str) -> Vec<i32> {
        each(&self.consumer(id).assigned).map(|(_, at)| at).collect()
    }

    fn join_classic(&mut self, member: &str, fresh: &str, owned: &[i32]) -> Result<Joined, ErrorCode> {
        let metadata = Blob(subscription("t", owned));
        self.join_with(dynamic(member), fresh, vec![MemberProtocol { name: text("range"), metadata }])
    }

    fn sync_classic(
        &mut self,
        id: &str,
        generation: i32,
        parts: &[(&str, &[i32])],
    ) -> Result<Vec<i32>, ErrorCode> {
        let assignment = |(id, numbers): &(&str, &[i32])| (text(id), assignment(numbers));
        let sync = Sync {
            member: MemberIdentity { generation, ..dynamic(id) },
            protocol_type: Some(text("consumer")),
            protocol: Some(text("range")),
            assignments: parts.iter().map(assignment).collect(),
            now_ms: self.now_ms,
        };
        let bytes = match self.run(GroupCommand::Sync(Box::new(sync))) {
            Ok(Applied::Synced(Synced::Assigned(bytes))) => bytes,
            Ok(Applied::Synced(Synced::ByBroker { assignment, .. })) => assignment,
            Err(refused) => return Err(refused.error),
            other => panic!("{other:?}"),
        };
        Ok(read_assignment(&bytes).unwrap().into_values().flatten().collect())
    }

    fn must_rejoin(&self, id: &str) -> bool {
        let member = self.member(id).unwrap();
        let are_released = awaited(&member).into_iter().all(|(topic, partition)| {
            let key = AssignedKey { group: text("g"), partition: TopicPartition { topic, partition } };
            let assigned = self.documents.get::<AssignedPartition>(&key);
            assigned.is_none_or(|assigned| assigned.members.iter().all(|other| **other == *id))
        });
        must_join_again(&self.group(), &member, are_released)
    }

    /// Checks that each partition is assigned to one member at most.
    fn check_exclusive(&self) {
        let mut seen = BTreeSet::new();
        for id in &self.members() {
            let own = self.consumer(id);
            for place in each(&own.assigned).chain(each(&own.revoking)) {
                assert!(seen.insert(place), "{place:?} is with two members");
            }
        }
    }
}

/// The subscription of a consumer, version 1.
fn subscription(topic: &str, owned: &[i32]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    bytes.put_i32(1);
    put_text(&mut bytes, topic);
    bytes.put_i32(-1);
    put_partitions(&mut bytes, topic, owned);
    bytes.freeze()
}

fn assignment(numbers: &[i32]) -> Bytes {
    let mut bytes = BytesMut::new();
    bytes.put_i16(1);
    put_partitions(&mut bytes, "t", numbers);
    bytes.put_i32(-1);
    bytes.freeze()
}

fn put_text(bytes: &mut BytesMut, text: &str) {
    bytes.put_i16(text.len() as i16);
    bytes.put_slice(text.as_bytes());
}

fn put_partitions(bytes: &mut BytesMut, topic: &str, numbers: &[i32]) {
    bytes.put_i32(1);
    put_text(bytes, topic);
    bytes.put_i32(numbers.len() as i32);
    numbers.iter().for_each(|number| bytes.put_i32(*number));
}

/// Its first member can be told something before there is a target (KAFKA-20268).
#[test]
fn a_new_group_begins_in_epoch_1_with_an_empty_target() {
    let mut store = Store::with_topic(2);
    let joins = store.full_heartbeat("a", 0);
    let outcome = store.run(GroupCommand::ConsumerHeartbeat(Box::new(joins)));
    let Ok(Applied::TargetDue(mut advance)) = outcome else { panic!("{outcome:?}") };
    assert_eq!((store.epochs(), advance.awaited_epoch), ((2, 1), 2));
    advance.waits_for_target = false;
    let nothing_yet = HeartbeatReply { member_epoch: 1, assignment: Some(shared(&[])) };
    assert_eq!(store.run(GroupCommand::Advance(advance)), Ok(Applied::Heartbeat(nothing_yet)));
    assert_eq!((store.epochs(), store.state().0), ((2, 1), GroupState::Assigning));
    let all = HeartbeatReply { member_epoch: 2, assignment: Some(shared(&[0, 1])) };
    assert_eq!(store.holds("a", &[]), all);
    assert_eq!((store.epochs(), store.state().0), ((2, 2), GroupState::Stable));
}

/// No target is due for nobody (KAFKA-20442).
#[test]
fn a_group_that_becomes_empty_has_its_group_epoch_as_assignment_epoch() {
    let leave: fn(&mut Store) = |store| store.leave_with("a", None, -1).unwrap();
    let remove: fn(&mut Store) = |store| assert_eq!(store.leave(&[dynamic("a")])[0], Ok(()));
    let time_out: fn(&mut Store) = |store| store.pass(i64::from(SESSION_MS), &[]);
    for empties in [leave, remove, time_out] {
        let mut store = Store::with_topic(2);
        store.heartbeat("a", 0, |_| {}).unwrap();
        assert_eq!(store.epochs(), (2, 2));
        empties(&mut store);
        assert_eq!((store.epochs(), store.state().0), ((3, 3), GroupState::Empty));
        // A target that was computed before does not count any more.
        let before = store.documents.0.clone();
        let target = InstallTarget { epoch: 3, base_epoch: 2, members: BTreeMap::new(), now_ms: 0 };
        store.run(GroupCommand::InstallTarget(target)).unwrap();
        assert!(store.documents.0 == before);
        assert_eq!(store.heartbeat("b", 0, |_| {}).unwrap().member_epoch, 4);
        assert_eq!(store.epochs(), (4, 4));
    }
    // While somebody is left, the next target is due.
    let mut store = Store::with_topic(2);
    store.heartbeat("a", 0, |_| {}).unwrap();
    store.heartbeat("b", 0, |_| {}).unwrap();
    store.leave_with("b", None, -1).unwrap();
    assert_eq!((store.epochs(), store.state().0), ((4, 3), GroupState::Assigning));
}

#[test]
fn a_partition_is_reassigned_only_after_it_is_revoked() {
    let mut store = Store::with_topic(3);
    let all = HeartbeatReply { member_epoch: 2, assignment: Some(shared(&[0, 1, 2])) };
    assert_eq!(store.heartbeat("a", 0, |_| {}), Ok(all));
    assert_eq!(
        store.heartbeat("b", 0, |_| {}),
        Ok(HeartbeatReply { member_epoch: 3, assignment: Some(shared(&[])) })
    );
    assert_eq!(store.state(), (GroupState::Reconciling, 3));
    // `a` is asked to revoke, and advances only after it reports that it has.
    assert_eq!(
        store.heartbeat("a", 2, |_| {}),
        Ok(HeartbeatReply { member_epoch: 2, assignment: Some(shared(&[0, 1])) })
    );
    assert_eq!(store.holds("a", &[0, 1, 2]), HeartbeatReply { member_epoch: 2, assignment: None });
    assert_eq!(store.holds("b", &[]), HeartbeatReply { member_epoch: 3, assignment: None });
    assert_eq!(store.holds("a", &[0, 1]), HeartbeatReply { member_epoch: 3, assignment: None });
    assert_eq!(store.holds("b", &[]), HeartbeatReply { member_epoch: 3, assignment: Some(shared(&[2])) });
    assert_eq!(store.state(), (GroupState::Stable, 3));
}

#[test]
fn a_heartbeat_that_changes_nothing_writes_nothing() {
    let mut store = Store::with_topic(3);
    store.heartbeat("a", 0, |_| {}).unwrap();
    let before = store.documents.0.clone();
    store.now_ms += 5_000;
    assert_eq!(store.holds("a", &[0, 1, 2]), HeartbeatReply { member_epoch: 2, assignment: None });
    assert!(store.documents.0 == before);
}

#[test]
fn a_target_of_an_earlier_epoch_is_not_installed() {
    let mut store = Store::with_topic(3);
    store.heartbeat("a", 0, |_| {}).unwrap();
    store.leave_with("a", None, -1).unwrap();
    store.heartbeat("a", 0, |_| {}).unwrap();
    let epoch = store.group().generation;
    let base_epoch = epoch;
    let install = |epoch, id: &str, numbers: &[i32]| {
        let members = BTreeMap::from([(text(id), shared(numbers))]);
        GroupCommand::InstallTarget(InstallTarget { epoch, base_epoch, members, now_ms: 0 })
    };
    let before = store.documents.0.clone();
    // One of an earlier epoch, of a later one, and one of this epoch, which has its target.
    for epoch in [epoch - 1, epoch + 1, epoch] {
        store.run(install(epoch, "a", &[0])).unwrap();
        assert!(store.documents.0 == before);
    }
    // The epoch of a target that is due, for a member that has left or got another id.
    store.grow_topic(4);
    let heartbeat = |store: &mut Store| {
        let before = store.consumer("a").epoch;
        let heartbeat = store.full_heartbeat("a", before);
        store.run(GroupCommand::ConsumerHeartbeat(Box::new(heartbeat)))
    };
    assert!(matches!(heartbeat(&mut store), Ok(Applied::TargetDue(_))));
    let before = store.documents.0.clone();
    store.run(install(epoch + 1, "b", &[0])).unwrap();
    assert!(store.documents.0 == before);
    assert!(matches!(heartbeat(&mut store), Ok(Applied::TargetDue(_))), "it is due again");
    store.run(install(epoch + 1, "a", &[3])).unwrap();
    let reply = HeartbeatReply { member_epoch: epoch + 1, assignment: Some(shared(&[3])) };
    assert_eq!(heartbeat(&mut store), Ok(Applied::Heartbeat(reply)));
}

/// Members that join faster than targets are computed: each waits for one that knows of it, and not for the last one.
#[test]
fn a_target_behind_the_group_epoch_is_installed() {
    let mut store = Store::with_topic(2);
    store.heartbeat("a", 0, |_| {}).unwrap();
    let joins = |store: &mut Store, id: &str| {
        let heartbeat = store.full_heartbeat(id, 0);
        match store.run(GroupCommand::ConsumerHeartbeat(Box::new(heartbeat))) {
            Ok(Applied::TargetDue(advance)) => advance,
            other => panic!("{other:?}"),
        }
    };
    let b = joins(&mut store, "b");
    let target = target_assignment(&store.view(), store.now_ms).unwrap();
    let c = joins(&mut store, "c");
    assert_eq!((b.awaited_epoch, c.awaited_epoch, target.epoch, target.base_epoch), (3, 4, 3, 2));
    store.run(GroupCommand::InstallTarget(target.clone())).unwrap();
    let reply = HeartbeatReply { member_epoch: 3, assignment: Some(shared(&[])) };
    assert_eq!(store.run(GroupCommand::Advance(b)), Ok(Applied::Heartbeat(reply)));
    assert_eq!(store.state(), (GroupState::Assigning, 4));
    let before = store.documents.0.clone();
    assert_eq!(store.run(GroupCommand::Advance(c.clone())), Ok(Applied::TargetDue(c.clone())));
    // The targets of members have changed since it was computed.
    store.run(GroupCommand::InstallTarget(InstallTarget { epoch: 4, ..target })).unwrap();
    assert!(store.documents.0 == before);
    // A member that has left since is left out.
    let members = [("b", shared(&[])), ("c", shared(&[1])), ("gone", shared(&[0]))];
    let members = members.into_iter().map(|(id, partitions)| (text(id), partitions)).collect();
    joins(&mut store, "d");
    let target = InstallTarget { epoch: 4, base_epoch: 3, members, now_ms: 0 };
    store.run(GroupCommand::InstallTarget(target)).unwrap();
    let Ok(Applied::Heartbeat(reply)) = store.run(GroupCommand::Advance(c)) else { panic!() };
    assert_eq!((reply.member_epoch, store.state()), (4, (GroupState::Assigning, 5)));
    store.install_target();
    for _ in 0..3 {
        for id in ["a", "b", "c", "d"] {
            let owned = store.assigned(id);
            store.holds(id, &owned);
        }
        store.check_exclusive();
    }
    assert_eq!(store.state(), (GroupState::Stable, 5));
}

/// Each brings a topic. Who looked up those of the group before others came need not do so again.
#[test]
fn topics_that_others_have_brought_may_stand() {
    let mut store = Store::with_topic(2);
    store.heartbeat("a", 0, |_| {}).unwrap();
    let other = TopicFacts { name: text("other"), id: TopicId(Uuid::from_u128(8)), partitions: 1 };
    let mut known_topics = KnownTopics::default();
    known_topics.add(&BTreeSet::from([text("other")]), vec![other]);
    let topics = Some(BTreeSet::from([text("other")]));
    let mut joins = ConsumerHeartbeat { known_topics, topics, ..store.full_heartbeat("b", 0) };
    let missing = Applied::MissingTopics(BTreeSet::from([text("t")]));
    assert_eq!(store.run(GroupCommand::ConsumerHeartbeat(Box::new(joins.clone()))), Ok(missing));
    joins.known_topics.let_others_stand();
    let outcome = store.run(GroupCommand::ConsumerHeartbeat(Box::new(joins)));
    assert!(matches!(outcome, Ok(Applied::TargetDue(_))), "{outcome:?}");
    assert_eq!(store.topics_of().topics.len(), 2);
    assert_eq!(store.topics_of().topics[&text("t")].partitions, 2);
}

/// A call does not wait for ever: its member advances towards the target that is there.
#[test]
fn a_member_that_does_not_wait_for_the_target_advances_to_the_one_before() {
    let mut store = Store::with_topic(2);
    store.heartbeat("a", 0, |_| {}).unwrap();
    let joins = store.full_heartbeat("b", 0);
    let outcome = store.run(GroupCommand::ConsumerHeartbeat(Box::new(joins)));
    let Ok(Applied::TargetDue(mut advance)) = outcome else { panic!("{outcome:?}") };
    advance.waits_for_target = false;
    let reply = HeartbeatReply { member_epoch: 2, assignment: Some(shared(&[])) };
    assert_eq!(store.run(GroupCommand::Advance(advance)), Ok(Applied::Heartbeat(reply)));
    assert_eq!(store.state(), (GroupState::Assigning, 3));
    assert_eq!(store.holds("b", &[]).member_epoch, 3);
}

#[test]
fn a_group_of_the_release_before_goes_on() {
    let mut store = Store::with_topic(3);
    store.heartbeat("a", 0, |_| {}).unwrap();
    store.downgrade_documents();
    store.heartbeat("b", 0, |_| {}).unwrap();
    assert_eq!((store.group().members, store.members().len()), (2, 2));
    assert_eq!(store.assigned("b"), Vec::<i32>::new(), "`a` still has all partitions");
    store.holds("a", &[0, 1, 2]);
    store.holds("a", &[0, 1]);
    assert_eq!(store.holds("b", &[]).assignment, Some(shared(&[2])));
    assert_eq!(store.state().0, GroupState::Stable);
}

#[test]
fn wrong_member_epochs_are_refused() {
    let mut store = Store::with_topic(3);
    store.heartbeat("a", 0, |_| {}).unwrap();
    store.heartbeat("b", 0, |_| {}).unwrap();
    store.holds("a", &[0, 1]);
    assert_eq!(store.consumer("a").epoch, 3);
    assert_eq!(store.heartbeat("a", 4, |_| {}), Err(ErrorCode::FencedMemberEpoch));
    // A member that missed the reply sends its owned partitions, all of which are assigned to it.
    assert_eq!(store.heartbeat("a", 2, |_| {}), Err(ErrorCode::FencedMemberEpoch));
    assert_eq!(
        store.heartbeat("a", 2, |heartbeat| heartbeat.owned = Some(part(&[2]))),
        Err(ErrorCode::FencedMemberEpoch)
    );
    assert!(store.heartbeat("a", 2, |heartbeat| heartbeat.owned = Some(part(&[0, 1]))).is_ok());
    // It joins again, with nothing: it gets all that is assigned to it.
    let again = HeartbeatReply { member_epoch: 3, assignment: Some(shared(&[0, 1])) };
    assert_eq!(store.heartbeat("a", 0, |_| {}), Ok(again));
    assert_eq!(store.heartbeat("c", 1, |_| {}), Err(ErrorCode::UnknownMemberId));
    assert_eq!(Store::new().heartbeat("a", 1, |_| {}), Err(ErrorCode::GroupIdNotFound));
}

#[test]
fn new_topics_and_partitions_are_assigned_at_the_next_heartbeat() {
    let mut store = Store::new();
    let unknown = store.heartbeat("a", 0, |_| {});
    assert_eq!(unknown, Err(ErrorCode::UnknownTopicOrPartition), "it asks for facts about the topic");
    store.topics.add(&BTreeSet::from([text("t")]), Vec::new());
    store.heartbeat("a", 0, |_| {}).unwrap();
    store.grow_topic(1);
    assert_eq!(store.holds("a", &[]), HeartbeatReply { member_epoch: 3, assignment: Some(shared(&[0])) });
    store.grow_topic(3);
    assert_eq!(
        store.holds("a", &[0]),
        HeartbeatReply { member_epoch: 4, assignment: Some(shared(&[0, 1, 2])) }
    );
    store.topics = KnownTopics::default();
    store.topics.add(&BTreeSet::from([text("t")]), Vec::new());
    assert_eq!(
        store.holds("a", &[0, 1, 2]),
        HeartbeatReply { member_epoch: 4, assignment: Some(shared(&[])) }
    );
}

#[test]
fn a_group_whose_topics_are_current_needs_no_metadata_of_them() {
    let mut store = Store::with_topic(3);
    let current = |heartbeat: &mut ConsumerHeartbeat| {
        (heartbeat.known_topics, heartbeat.topics_are_current) = (KnownTopics::default(), true);
    };
    let subscribe = |name: &'static str| {
        move |heartbeat: &mut ConsumerHeartbeat| {
            current(heartbeat);
            heartbeat.topics = Some(BTreeSet::from([text(name)]));
        }
    };
    store.heartbeat("a", 0, |_| {}).unwrap();
    store.heartbeat("b", 0, |heartbeat| heartbeat.topics = Some(BTreeSet::from([text("u")]))).unwrap();
    assert_eq!(store.heartbeat("a", 2, current).unwrap().member_epoch, 3, "a step of the rebalance");
    assert_eq!(store.heartbeat("b", 3, subscribe("t")).unwrap().member_epoch, 4, "the group has this topic");
    assert_eq!(store.topics_of().topics.len(), 1);
    let unknown = store.heartbeat("b", 4, subscribe("other"));
    assert_eq!(unknown, Err(ErrorCode::UnknownTopicOrPartition), "this one is to be looked up");
}

#[test]
fn an_expression_that_was_lost_is_found_again() {
    let mut store = Store::with_topic(2);
    let by_regex = |heartbeat: &mut ConsumerHeartbeat| {
        (heartbeat.topics, heartbeat.regex) = (None, Some(text("t.*")));
    };
    store.heartbeat("b", 0, |_| {}).unwrap();
    let joined = store.heartbeat("a", 0, by_regex).unwrap();
    assert_eq!(
        (joined.member_epoch, joined.assignment),
        (2, Some(shared(&[]))),
        "nobody has said what it matches, so nothing has changed for the group"
    );
    let found = store.heartbeat("a", 2, |heartbeat| {
        let topics = BTreeSet::from([text("t")]);
        heartbeat.resolved_regexes = vec![ResolvedRegex { regex: text("t.*"), topics }];
    });
    assert_eq!(found.unwrap().member_epoch, 3);
}

#[test]
fn topics_that_match_a_regular_expression_are_subscribed() {
    let mut store = Store::with_topic(2);
    let by_regex = |topics: &[&str]| {
        let matches =
            ResolvedRegex { regex: text("t.*"), topics: topics.iter().map(|name| text(name)).collect() };
        move |heartbeat: &mut ConsumerHeartbeat| {
            (heartbeat.topics, heartbeat.regex) = (None, Some(text("t.*")));
            heartbeat.resolved_regexes = vec![matches];
        }
    };
    let joined = store.heartbeat("a", 0, by_regex(&[])).unwrap();
    assert_eq!((joined.member_epoch, joined.assignment), (1, Some(shared(&[]))));
    let next = store.heartbeat("a", 1, by_regex(&["t"])).unwrap();
    assert_eq!(next, HeartbeatReply { member_epoch: 2, assignment: Some(shared(&[0, 1])) });
    // It unsubscribes from the expression.
    store.heartbeat("a", 2, |heartbeat| heartbeat.regex = Some(text(""))).unwrap();
    assert_eq!(store.topics_of().regexes.len(), 0);
    assert_eq!(store.assigned("a"), Vec::<i32>::new());
}

#[test]
fn members_are_removed_after_session_and_rebalance_timeouts() {
    let mut store = Store::with_topic(4);
    store.heartbeat("a", 0, |_| {}).unwrap();
    store.heartbeat("b", 0, |_| {}).unwrap();
    store.heartbeat("a", 2, |_| {}).unwrap();
    // `a` keeps its session, but does not revoke what it must.
    for _ in 0..6 {
        store.pass(9_000, &["a", "b"]);
    }
    assert_eq!(store.members().len(), 2);
    store.pass(9_000, &["a", "b"]);
    assert_eq!(store.members(), [text("b")]);
    assert_eq!(store.holds("b", &[]).assignment, Some(shared(&[0, 1, 2, 3])));
    store.pass(i64::from(SESSION_MS) - 1, &[]);
    assert_eq!(store.state().0, GroupState::Stable);
    store.pass(1, &[]);
    assert_eq!(store.state().0, GroupState::Empty);
}

#[test]
fn a_static_member_that_leaves_temporarily_keeps_its_assignment() {
    let mut store = Store::with_topic(4);
    let fixed = |heartbeat: &mut ConsumerHeartbeat| heartbeat.instance_id = Some(text("i"));
    store.heartbeat("a", 0, fixed).unwrap();
    store.heartbeat("b", 0, |_| {}).unwrap();
    store
        .heartbeat("a", 2, |heartbeat| {
            fixed(heartbeat);
            heartbeat.owned = Some(part(&[0, 1]))
        })
        .unwrap();
    store.holds("b", &[]);
    assert_eq!(store.heartbeat("c", 0, fixed), Err(ErrorCode::UnreleasedInstanceId));
    store.leave_with("a", Some("i"), -2).unwrap();
    assert_eq!(store.group().generation, 3, "nothing is shared anew");
    assert_eq!(
        store.heartbeat("c", 0, fixed),
        Ok(HeartbeatReply { member_epoch: 3, assignment: Some(shared(&[0, 1])) })
    );
    assert_eq!(store.heartbeat("a", 3, fixed), Err(ErrorCode::FencedInstanceId));
    store.leave_with("c", Some("i"), -2).unwrap();
    assert_eq!(
        store.heartbeat("b", 0, fixed),
        Err(ErrorCode::UnreleasedInstanceId),
        "it is somebody already"
    );
    store.heartbeat("c", 0, fixed).unwrap();
    assert_eq!(store.leave_with("a", Some("i"), -1), Err(ErrorCode::FencedInstanceId));
    store.leave_with("c", Some("i"), -1).unwrap();
    assert_eq!(store.members(), [text("b")]);
}

#[test]
fn a_static_member_that_got_no_answer_asks_again() {
    let mut store = Store::with_topic(4);
    let fixed = |heartbeat: &mut ConsumerHeartbeat| heartbeat.instance_id = Some(text("i"));
    let first = store.heartbeat("a", 0, fixed).unwrap();
    assert_eq!(first, HeartbeatReply { member_epoch: 2, assignment: Some(shared(&[0, 1, 2, 3])) });
    assert_eq!(store.heartbeat("a", 0, fixed), Ok(first.clone()));
    assert_eq!((store.members(), store.state()), (vec![text("a")], (GroupState::Stable, 2)));
    // Others join meanwhile, and answers with later epochs are lost as well.
    store.heartbeat("b", 0, |_| {}).unwrap();
    for _ in 0..2 {
        let again = HeartbeatReply { member_epoch: 3, assignment: Some(shared(&[0, 1])) };
        assert_eq!(store.heartbeat("a", 0, fixed), Ok(again));
    }
    store.check_exclusive();
    assert_eq!(store.holds("b", &[]).assignment, Some(shared(&[2, 3])));
    assert_eq!(store.heartbeat("c", 0, fixed), Err(ErrorCode::UnreleasedInstanceId), "another process");
    assert_eq!(store.state().0, GroupState::Stable);
}

#[test]
fn a_static_member_that_asks_again_may_be_revoking() {
    let mut store = Store::with_topic(4);
    let fixed = |heartbeat: &mut ConsumerHeartbeat| heartbeat.instance_id = Some(text("i"));
    store.heartbeat("a", 0, fixed).unwrap();
    store.heartbeat("b", 0, |_| {}).unwrap();
    store.heartbeat("a", 2, fixed).unwrap();
    assert_eq!(store.consumer("a").state, MemberState::Revoking);
    // It has lost its memory, and with it its partitions.
    let again = HeartbeatReply { member_epoch: 3, assignment: Some(shared(&[0, 1])) };
    assert_eq!(store.heartbeat("a", 0, fixed), Ok(again));
    store.check_exclusive();
    assert_eq!(store.holds("b", &[]).assignment, Some(shared(&[2, 3])));
}

#[test]
fn members_commit_with_their_member_epoch() {
    let mut store = Store::with_topic(1);
    store.heartbeat("a", 0, |_| {}).unwrap();
    let member = |id: &str, generation| MemberIdentity { generation, ..dynamic(id) };
    assert_eq!(store.commit(member("a", 2), 0, 5), Ok(()));
    assert_eq!(store.commit(member("a", 3), 0, 5), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(store.commit(member("b", 2), 0, 5), Err(ErrorCode::UnknownMemberId));
    assert_eq!(store.commit(member("", -1), 0, 5), Err(ErrorCode::UnknownMemberId));
    store.leave_with("a", None, -1).unwrap();
    assert_eq!(store.commit(member("", -1), 0, 5), Ok(()));
}

/// KIP-1251.
#[test]
fn a_commit_counts_if_its_member_has_had_the_partitions_since_its_epoch() {
    let stale = Err(ErrorCode::StaleMemberEpoch);
    let mut store = Store::with_topic(4);
    store.heartbeat("a", 0, |_| {}).unwrap();
    store.heartbeat("b", 0, |_| {}).unwrap();
    store.heartbeat("a", 2, |_| {}).unwrap();
    assert_eq!(store.consumer("a").state, MemberState::Revoking);
    assert_eq!(store.commit_at("a", 2, &[0, 2]), Ok(()), "it has not revoked yet");
    store.holds("a", &[0, 1]);
    assert_eq!(store.consumer("a").epoch, 3);
    assert_eq!(store.commit_at("a", 2, &[0, 1]), Ok(()), "it was sent before its epoch advanced");
    assert_eq!(store.commit_at("a", 2, &[0, 2]), stale, "another member may have one of them");
    assert_eq!(store.commit_at("a", 1, &[0]), stale);
    assert_eq!(store.commit_at("a", 4, &[0]), stale);

    store.holds("b", &[]);
    store.leave_with("a", None, -1).unwrap();
    store.holds("b", &[2, 3]);
    assert_eq!((store.consumer("b").epoch, store.assigned("b")), (4, vec![0, 1, 2, 3]));
    assert_eq!(store.commit_at("b", 3, &[2, 3]), Ok(()));
    assert_eq!(store.commit_at("b", 3, &[0, 2]), stale, "it has had one of them since epoch 4");
    assert_eq!(store.commit_at("b", 2, &[2]), stale);
    assert_eq!(store.commit_at("b", 4, &[0, 2]), Ok(()));
}

#[test]
fn what_an_earlier_release_assigned_counts_from_the_current_epoch() {
    let before = ConsumerMember { epoch: 5, assigned: shared(&[0, 1]), ..Default::default() };
    let since = |own: &ConsumerMember, partition| own.assigned_since(TOPIC, partition);
    assert_eq!((since(&before, 0), since(&before, 2)), (Some(5), None));
    let mut after = ConsumerMember { epoch: 6, assigned: shared(&[0, 2]), ..before.clone() };
    after.since = Arc::new(assigned_since(&before, &after));
    assert_eq!(*after.since, BTreeMap::from([(5, part(&[0])), (6, part(&[2]))]));
    assert_eq!((since(&after, 0), since(&after, 1), since(&after, 2)), (Some(5), None, Some(6)));
    let mut revoking = ConsumerMember { epoch: 7, assigned: shared(&[2]), ..after.clone() };
    revoking.revoking = shared(&[0]);
    assert_eq!(assigned_since(&after, &revoking), *after.since);
}

/// Two classic members that share four partitions.
fn classic_pair() -> Store {
    let mut store = Store::with_topic(4);
    store.join_classic("", "a", &[]).unwrap();
    store.join_classic("", "b", &[]).unwrap();
    store.join_classic("a", "", &[]).unwrap();
    let generation = store.group().generation;
    store.sync_classic("a", generation, &[("a", &[0, 1]), ("b", &[2, 3])]).unwrap();
    assert_eq!(store.sync_classic("b", generation, &[]), Ok(vec![2, 3]));
    store
}

#[test]
fn a_classic_group_is_migrated_member_by_member() {
    let mut store = classic_pair();
    let generation = store.group().generation;
    let joined = store.heartbeat("c", 0, |_| {}).unwrap();
    assert_eq!(joined, HeartbeatReply { member_epoch: generation + 1, assignment: Some(shared(&[])) });
    store.check_exclusive();
    // The classic members are told to rejoin, and revoke one partition.
    assert!(store.must_rejoin("a"));
    let first = store.join_classic("a", "", &[0, 1]).unwrap();
    let Joined::ByBroker { epoch, .. } = first else { panic!("{first:?}") };
    let mut kept = store.sync_classic("a", epoch, &[]).unwrap();
    assert_eq!(kept.len() + store.consumer("a").revoking.len(), 2);
    if store.must_rejoin("a") {
        let again = store.join_classic("a", "", &kept).unwrap();
        let Joined::ByBroker { epoch, .. } = again else { panic!("{again:?}") };
        kept = store.sync_classic("a", epoch, &[]).unwrap();
    }
    let Joined::ByBroker { epoch, .. } = store.join_classic("b", "", &[2, 3]).unwrap() else { panic!() };
    let others = store.sync_classic("b", epoch, &[]).unwrap();
    let Joined::ByBroker { epoch, .. } = store.join_classic("b", "", &others).unwrap() else { panic!() };
    store.sync_classic("b", epoch, &[]).unwrap();
    store.holds("c", &[]);
    store.check_exclusive();
    assert_eq!(store.state().0, GroupState::Stable);
    let total: usize = ["a", "b", "c"].iter().map(|id| store.assigned(id).len()).sum();
    assert_eq!((total, kept.is_empty()), (4, false));
    // They leave with LeaveGroup, and the member of the consumer protocol gets all partitions.
    store.leave(&[dynamic("a"), dynamic("b")]);
    let mine = store.assigned("c");
    assert_eq!(store.holds("c", &mine).assignment, Some(shared(&[0, 1, 2, 3])));
}

#[test]
fn a_group_is_downgraded_when_its_last_consumer_member_leaves() {
    let mut store = classic_pair();
    store.heartbeat("c", 0, |_| {}).unwrap();
    let generation = store.group().generation;
    store.leave_with("c", None, -1).unwrap();
    // The generation id stays: members are told to rejoin, and keep their partitions until then.
    assert_eq!(store.state(), (GroupState::PreparingRebalance, generation));
    assert_eq!(store.group().consumer, None);
    assert!(store.member("a").unwrap().consumer.is_none());
    assert!(matches!(store.join_classic("a", "", &[0, 1]), Ok(Joined::Waits { .. })));
}

#[test]
fn a_static_member_is_migrated_by_a_restart_and_back() {
    let fixed = |id: &str| MemberIdentity { instance_id: Some(text("i")), ..dynamic(id) };
    let protocols = || vec![MemberProtocol { name: text("range"), metadata: Blob(subscription("t", &[])) }];
    let mut store = Store::with_topic(2);
    store.join_with(fixed(""), "a", protocols()).unwrap();
    let generation = store.group().generation;
    let sync = Sync {
        member: MemberIdentity { generation, ..fixed("a") },
        protocol_type: None,
        protocol: None,
        assignments: vec![(text("a"), assignment(&[0, 1]))],
        now_ms: store.now_ms,
    };
    store.run(GroupCommand::Sync(Box::new(sync))).unwrap();
    let by_consumer = |heartbeat: &mut ConsumerHeartbeat| heartbeat.instance_id = Some(text("i"));
    let told = store.heartbeat("b", 0, by_consumer).unwrap().assignment;
    assert_eq!((told, store.members()), (Some(shared(&[0, 1])), vec![text("b")]));
    store.leave_with("b", Some("i"), -2).unwrap();
    assert!(matches!(
        store.join_with(fixed(""), "c", protocols()),
        Ok(Joined::Waits { .. } | Joined::In { .. })
    ));
    assert_eq!((store.group().consumer, store.members()), (None, vec![text("c")]));
}

#[test]
fn an_empty_group_accepts_either_protocol() {
    let mut store = Store::with_topic(1);
    store.heartbeat("a", 0, |_| {}).unwrap();
    store.leave_with("a", None, -1).unwrap();
    assert!(matches!(store.join_classic("", "b", &[]), Ok(Joined::Waits { .. })));
    store.leave(&[dynamic("b")]);
    assert_eq!(store.state(), (GroupState::Empty, 2));
    // It becomes a new group: its generation does not go on.
    assert_eq!(store.heartbeat("c", 0, |_| {}).unwrap().member_epoch, 2);
    assert_eq!(store.epochs(), (2, 2));
}

#[test]
fn a_classic_member_with_unreadable_metadata_prevents_the_upgrade() {
    let mut store = classic_pair();
    let member = Arc::new({
        let mut member = store.member("a").unwrap();
        member.protocols[0].metadata = Blob(Bytes::from_static(b"what?"));
        member
    });
    let key = MemberKey { group: text("g"), member: text("a") };
    store.documents.0.insert(MemberDocument::key(&key), Document::new::<MemberDocument>(member));
    assert_eq!(store.heartbeat("c", 0, |_| {}), Err(ErrorCode::GroupIdNotFound));
    assert_eq!(store.state().0, GroupState::Stable);
}

/// No partition is ever assigned twice, and all are assigned once members do what they are told.
#[test]
fn random_calls_keep_assignments_exclusive_and_converge() {
    let mut at_rest = 0;
    for seed in 1..200_u64 {
        let mut dice = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut roll = |below: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            (dice >> 8) % below
        };
        let mut store = Store::with_topic(7);
        // The partitions that each member owns.
        let mut held: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for _ in 0..60 {
            let id = ["a", "b", "c", "d"][roll(4) as usize];
            match (held.contains_key(id), roll(8)) {
                (false, _) => {
                    let told = store.heartbeat(id, 0, |_| {}).unwrap().assignment.unwrap();
                    held.insert(id, each(&told).map(|(_, at)| at).collect());
                }
                (true, 0) => {
                    store.leave_with(id, None, -1).unwrap();
                    held.remove(id);
                }
                (true, 1) => store.pass(1_000, &["a", "b", "c", "d"]),
                (true, _) => follow(&mut store, id, &mut held),
            }
            store.check_exclusive();
        }
        for _ in 0..6 {
            let ids: Vec<&str> = held.keys().copied().collect();
            ids.into_iter().for_each(|id| follow(&mut store, id, &mut held));
        }
        let total: usize = held.values().map(Vec::len).sum();
        assert!(held.is_empty() || (total, store.state().0) == (7, GroupState::Stable), "seed {seed}");
        at_rest += store.at_rest;
    }
    assert!(at_rest > 1_000, "only {at_rest} heartbeats of members at rest");
}

/// A heartbeat of a member that does what the last reply told it.
fn follow(store: &mut Store, id: &'static str, held: &mut BTreeMap<&'static str, Vec<i32>>) {
    let told = store.holds(id, &held[id]).assignment;
    if let Some(told) = told {
        held.insert(id, each(&told).map(|(_, at)| at).collect());
    }
}

#[test]
fn another_run_gives_members_their_whole_time_to_revoke() {
    for ms in [-3_600_000, 0, 3_600_000] {
        let mut store = Store::with_topic(3);
        store.heartbeat("a", 0, |_| {}).unwrap();
        store.heartbeat("b", 0, |_| {}).unwrap();
        store.heartbeat("a", 2, |_| {}).unwrap();
        assert_eq!(store.consumer("a").state, MemberState::Revoking);
        store.pass(9_000, &["a", "b"]);
        assert!(store.restart(ms, &["a", "b"]));
        let due_ms = store.now_ms + i64::from(REBALANCE_MS);
        assert_eq!(store.consumer("a").due_ms, Some(due_ms), "{ms}");
        assert_eq!(store.consumer("b").due_ms, None);
        assert_eq!(store.group().deadline.unwrap().at_ms, due_ms);
        store.pass(i64::from(REBALANCE_MS) - 1, &["a", "b"]);
        assert_eq!(store.members(), ["a", "b"].map(text));
        store.pass(1, &["a", "b"]);
        assert_eq!(store.members(), [text("b")], "it has not revoked in that time");
    }
}
