//! The rules of classic groups, tested alone: time is an argument.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use kernel::{ErrorCode, TopicId};
use uuid::Uuid;

use crate::Documents;
use crate::commands::{
    Applied, Command, CommittedOffset, GroupCommand, Join, Joined, KnownTopics, LeftMember, MemberIdentity,
    Outcome, Sync, Synced,
};
use crate::documents::{
    AssignedPartition, Blob, Document, DocumentKind, Due, DueKey, DueSubject, GroupDocument, GroupState,
    GroupTopics, InstanceDocument, Key, LiveGroup, MemberDocument, MemberKey, MemberProtocol, OffsetDocument,
    PendingDocument, Tally, each,
};
use crate::groups::tally::{Subscription, recount, recount_topics};
use crate::groups::{GroupView, must_resume, target_assignment};
use crate::testing::MapStore;

pub(super) const SESSION_MS: i32 = 10_000;
pub(super) const REBALANCE_MS: i32 = 60_000;

/// Documents in a map, and the time.
pub(super) struct Store {
    pub(super) documents: MapStore,
    /// Topic metadata.
    pub(super) topics: KnownTopics,
    pub(super) now_ms: i64,
    /// How far the wall clock is ahead of store time.
    pub(super) wall_ahead_ms: i64,
    /// Until when the sessions of members last which were heard from.
    heard: BTreeMap<Arc<str>, i64>,
    /// The topics, and the generation of the group, that the last heartbeat has seen.
    pub(super) looked_at: Option<(KnownTopics, i32)>,
    /// Heartbeats of members at rest.
    pub(super) at_rest: usize,
    initial_delay_ms: i64,
    members_max: usize,
}

/// The entry for offsets of the group.
fn offsets_due() -> DueKey {
    DueKey::at_once(DueSubject::Offsets(text("g")))
}

pub(super) fn text(text: &str) -> Arc<str> {
    Arc::from(text)
}

impl Store {
    pub(super) fn new() -> Self {
        let (documents, topics) = (MapStore::default(), KnownTopics::default());
        let heard = BTreeMap::new();
        Self {
            documents,
            topics,
            now_ms: 0,
            wall_ahead_ms: 0,
            heard,
            looked_at: None,
            at_rest: 0,
            initial_delay_ms: 0,
            members_max: 100,
        }
    }

    pub(super) fn run(&mut self, command: GroupCommand) -> Outcome {
        let (outcome, effects) = self.documents.run(&Command::Group { group: text("g"), command });
        assert!(effects.is_empty(), "a group has no log");
        self.check_pending();
        self.check_members();
        self.check_lists();
        outcome
    }

    /// A group with timeouts is listed as one, any other is in the due index.
    fn check_lists(&self) {
        let group = self.documents.get::<GroupDocument>(&text("g"));
        let has_timeouts = group.is_some_and(GroupDocument::has_timeouts);
        assert_eq!(self.documents.get::<LiveGroup>(&text("g")).is_some(), has_timeouts);
        assert!(group.is_none() || has_timeouts || self.documents.due() == [offsets_due()]);
    }

    /// Nothing is left but an entry of the due index, whose look will find nothing.
    fn is_gone(&self) -> bool {
        self.documents.0.keys().all(|key| key.kind() == Due::PREFIX)
    }

    /// The group knows of its members what their documents say.
    fn check_members(&self) {
        let Some(group) = self.documents.get::<GroupDocument>(&text("g")) else { return };
        let Some(known) = &group.tally else { return };
        let target_epoch = group.consumer.as_ref().map(|own| own.assignment_epoch);
        let mut counted = Arc::new(Tally { next_order: known.next_order, ..Tally::EMPTY });
        let stored = self.documents.get::<GroupTopics>(&text("g"));
        let uncounted = GroupTopics { topics: self.topics_of().topics, ..GroupTopics::NONE };
        let uncounted = GroupTopics { regexes: self.topics_of().regexes, ..uncounted };
        let mut topics = Arc::new(uncounted);
        let mut instances = BTreeMap::new();
        let mut assigned: BTreeMap<(TopicId, i32), BTreeSet<Arc<str>>> = BTreeMap::new();
        let members = self.view().members;
        for (id, member) in &members {
            recount(&mut counted, None, Some(&**member), target_epoch);
            recount_topics(&mut topics, &Subscription::of(None), &Subscription::of(Some(&**member)));
            instances
                .extend(member.instance_id.iter().map(|instance| (Arc::clone(instance), Arc::clone(id))));
            let own = member.consumer.iter().flat_map(|own| each(&own.assigned).chain(each(&own.revoking)));
            for at in own {
                assigned.entry(at).or_default().insert(Arc::clone(id));
            }
        }
        assert_eq!((group.members as usize, known), (members.len(), &counted));
        assert_eq!(stored.unwrap_or(&GroupTopics::NONE), &*topics);
        assert!(stored.is_none_or(|stored| *stored != GroupTopics::NONE && group.consumer.is_some()));
        assert_eq!(
            self.all::<InstanceDocument, _, _>(|key, own| (key.instance, own.member.clone())),
            instances
        );
        let stored = self.all::<AssignedPartition, _, _>(|key, own| {
            ((key.partition.topic, key.partition.partition), own.members.clone())
        });
        assert_eq!(stored, assigned);
    }

    fn all<T: DocumentKind, K: Ord, V>(&self, entry: impl Fn(T::Key, &T) -> (K, V)) -> BTreeMap<K, V> {
        let of_kind = self
            .documents
            .0
            .iter()
            .filter_map(|(key, document)| Some(entry(T::parse_key(key)?, document.get::<T>()?)));
        of_kind.collect()
    }

    /// The group and all its members.
    pub(super) fn view(&self) -> GroupView {
        let members = self.documents.0.iter().filter_map(|(key, document)| {
            Some((MemberDocument::parse_key(key)?.member, document.get_arc::<MemberDocument>()?))
        });
        let topics = self.documents.0.get(&GroupTopics::key(&text("g")));
        let topics = topics.and_then(|document| document.get_arc::<GroupTopics>());
        GroupView::new(Arc::new(self.group()), members.collect(), topics)
    }

    /// The topics that the members subscribe to.
    pub(super) fn topics_of(&self) -> GroupTopics {
        (*self.view().topics).clone()
    }

    /// The ids of the members, in the order in which they joined.
    pub(super) fn members(&self) -> Vec<Arc<str>> {
        self.view().members.into_iter().map(|(id, _)| id).collect()
    }

    /// Computes the target assignment and installs it, if it is due.
    pub(super) fn install_target(&mut self) {
        if let Some(target) = target_assignment(&self.view(), self.now_ms) {
            self.run(GroupCommand::InstallTarget(target)).unwrap();
        }
    }

    /// Continues a call that waits for the target assignment, as the broker does.
    pub(super) fn continued(&mut self, outcome: Outcome) -> Outcome {
        let Ok(Applied::TargetDue(advance)) = outcome else { return outcome };
        self.install_target();
        self.run(GroupCommand::Advance(advance))
    }

    /// Makes the group's documents those of the release before: the group lists its members and has its topics, and there
    /// are no documents of group instance ids and assigned partitions.
    pub(super) fn downgrade_documents(&mut self) {
        let (mut group, members) = (self.group(), self.members());
        if let Some(consumer) = &mut group.consumer {
            let GroupTopics { topics, regexes, .. } = self.topics_of();
            let consumer = Arc::make_mut(consumer);
            (consumer.topics, consumer.regexes) = (topics, regexes);
        }
        let kinds = [InstanceDocument::PREFIX, AssignedPartition::PREFIX, GroupTopics::PREFIX];
        self.documents.0.retain(|key, _| !kinds.contains(&key.kind()));
        let mut value = serde_json::to_value(&group).unwrap();
        let fields = value.as_object_mut().unwrap();
        fields.remove("tally");
        fields.insert("members".to_owned(), serde_json::to_value(members).unwrap());
        let document = Document::read::<GroupDocument>(&value.to_string()).unwrap();
        self.documents.0.insert(GroupDocument::key(&text("g")), document);
    }

    /// The group counts its pending ids, and knows when the first may expire.
    fn check_pending(&self) {
        let group = self.documents.get::<GroupDocument>(&text("g"));
        let ids = group.and_then(|group| group.pending_ids);
        let keys = self.documents.keys(&PendingDocument::of_group("g")).unwrap();
        let pending = keys.iter().map(|key| self.documents.0[key].get::<PendingDocument>().unwrap().until_ms);
        let first = pending.clone().min();
        assert_eq!(ids.map_or(0, |ids| ids.count as usize), pending.count());
        assert!(first.is_none_or(|first| ids.is_some_and(|ids| ids.next_ms <= first)));
    }

    pub(super) fn group(&self) -> GroupDocument {
        self.documents.get::<GroupDocument>(&text("g")).unwrap().clone()
    }

    pub(super) fn member(&self, id: &str) -> Option<MemberDocument> {
        self.documents.get(&MemberKey { group: text("g"), member: text(id) }).cloned()
    }

    pub(super) fn state(&self) -> (GroupState, i32) {
        (self.group().state, self.group().generation)
    }

    /// JoinGroup; `fresh` is the id for a new member.
    fn join_as(
        &mut self,
        member: MemberIdentity,
        fresh: &str,
        protocols: &[(&str, &str)],
    ) -> Result<Joined, ErrorCode> {
        let protocol = |(name, metadata): &(&str, &str)| MemberProtocol {
            name: text(name),
            metadata: Blob(Bytes::copy_from_slice(metadata.as_bytes())),
        };
        self.join_with(member, fresh, protocols.iter().map(protocol).collect())
    }

    pub(super) fn join_with(
        &mut self,
        member: MemberIdentity,
        fresh: &str,
        protocols: Vec<MemberProtocol>,
    ) -> Result<Joined, ErrorCode> {
        let join = Join {
            member,
            fresh_id: text(fresh),
            requires_known_id: false,
            can_skip_assignment: true,
            client_id: text("client"),
            client_host: text("/127.0.0.1"),
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            protocol_type: text("consumer"),
            protocols,
            initial_delay_ms: self.initial_delay_ms,
            members_max: self.members_max,
            known_topics: self.topics.clone(),
            now_ms: self.now_ms,
        };
        let protocol = join.protocols.first().map(|own| Arc::clone(&own.name)).unwrap_or_default();
        match self.run(GroupCommand::Join(Box::new(join))) {
            Ok(Applied::Joined(joined)) => Ok(joined),
            Ok(Applied::TargetDue(advance)) => {
                let member = Arc::clone(&advance.member_id);
                match self.continued(Ok(Applied::TargetDue(advance))) {
                    Ok(Applied::Heartbeat(reply)) => {
                        Ok(Joined::ByBroker { member, epoch: reply.member_epoch, protocol })
                    }
                    other => panic!("{other:?}"),
                }
            }
            Err(refused) => Err(refused.error),
            other => panic!("{other:?}"),
        }
    }

    fn join(&mut self, id: &str) -> Result<Joined, ErrorCode> {
        self.join_as(dynamic(id), id, &[("range", "a")])
    }

    /// JoinGroup of a new member, which is given the id.
    fn join_new(&mut self, id: &str) -> Result<Joined, ErrorCode> {
        self.join_as(dynamic(""), id, &[("range", "a")])
    }

    fn join_new_static(&mut self, instance: &str, id: &str) -> Result<Joined, ErrorCode> {
        self.join_as(static_member("", instance), id, &[("range", "a")])
    }

    fn sync(&mut self, id: &str, assignments: &[(&str, &str)]) -> Result<Synced, ErrorCode> {
        let generation = self.group().generation;
        let assignment = |(id, part): &(&str, &str)| (text(id), Bytes::copy_from_slice(part.as_bytes()));
        let sync = Sync {
            member: MemberIdentity { generation, ..dynamic(id) },
            protocol_type: Some(text("consumer")),
            protocol: None,
            assignments: assignments.iter().map(assignment).collect(),
            now_ms: self.now_ms,
        };
        match self.run(GroupCommand::Sync(Box::new(sync))) {
            Ok(Applied::Synced(synced)) => Ok(synced),
            Err(refused) => Err(refused.error),
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn leave(&mut self, members: &[MemberIdentity]) -> Vec<LeftMember> {
        let (now_ms, wall_ms) = (self.now_ms, self.now_ms + self.wall_ahead_ms);
        match self.run(GroupCommand::Leave { members: members.to_vec(), now_ms, wall_ms }) {
            Ok(Applied::Left(left)) => left,
            other => panic!("{other:?}"),
        }
    }

    /// Advances the clock, then ticks with these members heard from.
    pub(super) fn pass(&mut self, ms: i64, heard: &[&str]) {
        self.now_ms += ms;
        let until_ms = self.now_ms + i64::from(SESSION_MS);
        self.heard.extend(heard.iter().map(|id| (text(id), until_ms)));
        let timed_out = self.timed_out();
        let (now_ms, wall_ms) = (self.now_ms, self.now_ms + self.wall_ahead_ms);
        self.run(GroupCommand::Tick { now_ms, wall_ms, timed_out }).unwrap();
    }

    /// Another run of a broker, whose store time begins so far from where the last one has left off; it resumes the
    /// group if that is needed, and hears from these members. Returns whether it was.
    pub(super) fn restart(&mut self, ms: i64, heard: &[&str]) -> bool {
        self.now_ms += ms;
        let until_ms = self.now_ms + i64::from(SESSION_MS);
        self.heard = heard.iter().map(|id| (text(id), until_ms)).collect();
        let is_needed = must_resume(&self.view(), self.now_ms);
        if is_needed {
            self.run(GroupCommand::Resume { now_ms: self.now_ms }).unwrap();
            let once = self.documents.0.clone();
            self.run(GroupCommand::Resume { now_ms: self.now_ms }).unwrap();
            assert_eq!(self.documents.0, once, "a repeated one is harmless");
        }
        is_needed
    }

    /// The members that were not heard from for a whole session, as the broker finds them.
    fn timed_out(&self) -> BTreeMap<Arc<str>, i64> {
        if self.documents.get::<GroupDocument>(&text("g")).is_none() {
            return BTreeMap::new();
        }
        let timed_out = |id: &Arc<str>| {
            let lease_ms = self.member(id)?.lease_ms;
            let until_ms = self.heard.get(id).map_or(lease_ms, |heard_ms| lease_ms.max(*heard_ms));
            (until_ms <= self.now_ms).then(|| (Arc::clone(id), lease_ms))
        };
        self.members().iter().filter_map(timed_out).collect()
    }

    pub(super) fn commit(
        &mut self,
        member: MemberIdentity,
        partition: i32,
        offset: i64,
    ) -> Result<(), ErrorCode> {
        let document = OffsetDocument {
            topic_id: TopicId(Uuid::from_u128(1)),
            offset,
            leader_epoch: -1,
            metadata: text("words"),
            committed_ms: self.now_ms,
            expires_ms: None,
            revision: 0,
            sent_after: None,
            sent_as: 0,
        };
        let offsets = vec![CommittedOffset { topic: text("t"), partition, document }];
        let outcome = self.run(GroupCommand::CommitOffsets {
            member,
            offsets,
            knows_epochs: true,
            now_ms: self.now_ms,
        });
        outcome.map(|_| ()).map_err(|refused| refused.error)
    }

    fn offsets(&self) -> Vec<i32> {
        let partition = |key: &Key| OffsetDocument::parse_key(key).map(|key| key.partition);
        self.documents.0.keys().filter_map(partition).collect()
    }

    /// A stable group of two members; `a` is the leader.
    fn stable() -> Self {
        let mut store = Self::new();
        store.join_new("a").unwrap();
        store.join_new("b").unwrap();
        store.join("a").unwrap();
        assert_eq!(store.sync("b", &[]), Ok(Synced::Waits));
        let assigned = Synced::Assigned(Bytes::from_static(b"0"));
        assert_eq!(store.sync("a", &[("a", "0"), ("b", "1")]), Ok(assigned));
        assert_eq!(store.state(), (GroupState::Stable, 2));
        store
    }
}

pub(super) fn dynamic(id: &str) -> MemberIdentity {
    MemberIdentity { id: text(id), instance_id: None, generation: -1 }
}

fn static_member(id: &str, instance: &str) -> MemberIdentity {
    MemberIdentity { id: text(id), instance_id: Some(text(instance)), generation: -1 }
}

fn waits(id: &str, generation: i32) -> Result<Joined, ErrorCode> {
    Ok(Joined::Waits { member: text(id), generation })
}

#[test]
fn a_renewed_lease_is_as_long_as_the_session_and_never_gets_shorter() {
    let mut store = Store::stable();
    let lease_ms = |store: &Store, id| store.member(&text(id)).unwrap().lease_ms;
    let was_ms = lease_ms(&store, "a");
    let renew = |store: &mut Store, heard_ms| {
        let heard = [(text("a"), heard_ms), (text("stranger"), heard_ms)];
        store.run(GroupCommand::RenewLeases { heard: heard.into() }).unwrap()
    };
    let sessions = Applied::LeasesRenewed(BTreeMap::from([(text("a"), SESSION_MS)]));
    assert_eq!(renew(&mut store, 5_000), sessions);
    assert_eq!(lease_ms(&store, "a"), 5_000 + i64::from(SESSION_MS));
    assert_eq!(renew(&mut store, 4_000), sessions, "another broker heard from it earlier");
    assert_eq!(lease_ms(&store, "a"), 5_000 + i64::from(SESSION_MS));
    assert_eq!(lease_ms(&store, "b"), was_ms, "nobody has heard from it");
    // The clock is set back by an hour, and by an hour again.
    assert_eq!(renew(&mut store, 3_600_000), sessions);
    assert_eq!(renew(&mut store, 6_000), sessions);
    assert_eq!(lease_ms(&store, "a"), 6_000 + i64::from(SESSION_MS));
    // Whoever has seen the former lease evicts nobody.
    let timed_out = BTreeMap::from([(text("a"), was_ms), (text("b"), was_ms)]);
    store.run(GroupCommand::Tick { now_ms: 9_000, wall_ms: 9_000, timed_out }).unwrap();
    assert_eq!(store.members(), [text("a")]);
}

#[test]
fn two_members_join_and_get_their_assignments() {
    let mut store = Store::new();
    assert_eq!(store.join_new("a"), waits("a", 0));
    assert_eq!(store.state(), (GroupState::CompletingRebalance, 1), "nobody else is waited for");
    assert_eq!(store.join_new("b"), waits("b", 1));
    assert_eq!(store.state(), (GroupState::PreparingRebalance, 1), "the first is asked to join again");
    assert_eq!(store.sync("a", &[]), Err(ErrorCode::RebalanceInProgress));
    assert_eq!(store.join("a"), waits("a", 1));
    assert_eq!(store.state(), (GroupState::CompletingRebalance, 2));
    assert_eq!(store.group().leader, Some(text("a")));
    assert_eq!(store.sync("b", &[]), Ok(Synced::Waits));
    store.sync("a", &[("b", "everything")]).unwrap();
    let parts = ["a", "b"].map(|id| store.member(id).unwrap().assignment.0);
    assert_eq!(parts, [Bytes::new(), Bytes::from_static(b"everything")]);
    assert_eq!(store.sync("b", &[]), Ok(Synced::Assigned(Bytes::from_static(b"everything"))));
}

#[test]
fn pending_ids_end_when_they_are_used_left_or_late_and_with_the_group() {
    let mut store = Store::new();
    for (number, id) in ["a", "b", "c", "d"].into_iter().enumerate() {
        store.now_ms = number as i64 * 1_000;
        store.run(GroupCommand::Join(Box::new(known_id_join(id, store.now_ms)))).unwrap();
    }
    assert_eq!(store.group().pending_ids.unwrap().count, 4);
    store.join("a").unwrap();
    store.leave(&[dynamic("b")]).into_iter().for_each(|left| left.unwrap());
    assert_eq!(store.group().pending_ids.unwrap().count, 2);
    // The time of "c" has come, and not that of "d".
    let tick = |now_ms| GroupCommand::Tick { now_ms, wall_ms: now_ms, timed_out: BTreeMap::new() };
    store.run(tick(2_000 + i64::from(SESSION_MS))).unwrap();
    assert_eq!(store.group().pending_ids.unwrap().count, 1);
    assert_eq!(store.group().pending_ids.unwrap().next_ms, 3_000 + i64::from(SESSION_MS));
    store.leave(&[dynamic("a")]).into_iter().for_each(|left| left.unwrap());
    store.run(tick(i64::from(SESSION_MS + REBALANCE_MS))).unwrap();
    assert_eq!((store.state().0, store.group().pending_ids), (GroupState::Empty, None));
    store.run(GroupCommand::Join(Box::new(known_id_join("e", 0)))).unwrap();
    store.run(GroupCommand::Delete).unwrap();
    assert!(store.is_gone(), "{:?}", store.documents);
}

#[test]
fn a_new_member_of_later_versions_is_given_its_id_first() {
    let mut store = Store::new();
    store.run(GroupCommand::Join(Box::new(known_id_join("x", 0)))).unwrap();
    assert_eq!(store.state(), (GroupState::Empty, 0));
    assert_eq!(store.join("x"), waits("x", 0));
    assert_eq!(store.group().pending_ids, None);
    store.run(GroupCommand::Join(Box::new(known_id_join("y", 0)))).unwrap();
    store.join_as(dynamic("x"), "", &[("range", "changed")]).unwrap();
    assert_eq!(store.state(), (GroupState::PreparingRebalance, 1), "whoever has an id is waited for");
    store.pass(i64::from(SESSION_MS), &[]);
    assert_eq!(store.state(), (GroupState::CompletingRebalance, 2), "but not for ever");
    assert_eq!(store.join("y"), Err(ErrorCode::UnknownMemberId));
}

fn known_id_join(fresh: &str, now_ms: i64) -> Join {
    Join {
        member: dynamic(""),
        fresh_id: text(fresh),
        requires_known_id: true,
        can_skip_assignment: true,
        client_id: text("client"),
        client_host: text("/127.0.0.1"),
        session_timeout_ms: SESSION_MS,
        rebalance_timeout_ms: REBALANCE_MS,
        protocol_type: text("consumer"),
        protocols: vec![MemberProtocol { name: text("range"), metadata: Blob::default() }],
        initial_delay_ms: 0,
        members_max: 100,
        known_topics: KnownTopics::default(),
        now_ms,
    }
}

#[test]
fn a_new_group_waits_while_members_keep_joining() {
    let mut store = Store::new();
    store.initial_delay_ms = 3_000;
    store.join_new("a").unwrap();
    store.pass(1_000, &[]);
    store.join_new("b").unwrap();
    store.pass(2_000, &[]);
    assert_eq!(store.state(), (GroupState::PreparingRebalance, 0), "somebody came: another step");
    store.pass(2_999, &[]);
    assert_eq!(store.state(), (GroupState::PreparingRebalance, 0));
    store.pass(1, &[]);
    assert_eq!(store.state(), (GroupState::CompletingRebalance, 1));
    assert_eq!(store.members().len(), 2);
}

#[test]
fn a_member_that_does_not_rejoin_in_time_is_removed() {
    let mut store = Store::stable();
    store.join_new("c").unwrap();
    store.pass(9_000, &["a", "b"]);
    assert_eq!(store.join("a"), waits("a", 2));
    for _ in 0..5 {
        store.pass(9_000, &["b"]);
    }
    assert_eq!(store.state(), (GroupState::PreparingRebalance, 2));
    store.pass(6_000, &["b"]);
    assert_eq!(store.state(), (GroupState::CompletingRebalance, 3));
    assert_eq!(store.members(), [text("a"), text("c")]);
    assert_eq!(store.member("b"), None);
}

#[test]
fn members_are_told_of_a_generation_however_short_their_rebalance_timeout_is() {
    for rebalance_timeout_ms in [0, -1, i32::MIN] {
        let mut store = Store::new();
        let join =
            Join { requires_known_id: false, rebalance_timeout_ms, ..known_id_join("a", store.now_ms) };
        store.run(GroupCommand::Join(Box::new(join))).unwrap();
        store.pass(999, &[]);
        assert_eq!(store.state(), (GroupState::CompletingRebalance, 1), "{rebalance_timeout_ms}");
        store.pass(1, &[]);
        assert_eq!(store.state(), (GroupState::Empty, 2), "{rebalance_timeout_ms}: it has not synced");
    }
}

#[test]
fn a_member_is_removed_after_its_session_timeout() {
    let mut store = Store::stable();
    store.pass(9_000, &["a"]);
    assert_eq!(store.state(), (GroupState::Stable, 2));
    store.pass(1_000, &[]);
    assert_eq!(store.state(), (GroupState::PreparingRebalance, 2), "b is gone");
    assert_eq!(store.members(), [text("a")]);
    store.pass(9_000, &[]);
    assert_eq!(store.state(), (GroupState::Empty, 3));
    assert_eq!(store.group().leader, None);
}

#[test]
fn a_late_tick_removes_no_member_that_has_joined_since() {
    let mut store = Store::stable();
    let before = store.member("b").unwrap().lease_ms;
    store.now_ms += 9_999;
    store.join_as(dynamic("b"), "", &[("range", "changed")]).unwrap();
    store.join("a").unwrap();
    let tick = |lease_ms| GroupCommand::Tick {
        now_ms: 10_000,
        wall_ms: 10_000,
        timed_out: BTreeMap::from([(text("b"), lease_ms)]),
    };
    store.run(tick(before)).unwrap();
    assert_eq!(store.members(), [text("a"), text("b")]);
    let now = store.member("b").unwrap().lease_ms;
    store.run(tick(now)).unwrap();
    assert_eq!(store.members(), [text("a")]);
}

#[test]
fn a_member_that_joined_and_never_synced_is_removed() {
    let mut store = Store::stable();
    store.leave(&[dynamic("b")]);
    store.join("a").unwrap();
    assert_eq!(store.state(), (GroupState::CompletingRebalance, 3));
    for _ in 0..7 {
        store.pass(9_000, &["a"]);
    }
    assert_eq!(store.state(), (GroupState::Empty, 4));
}

#[test]
fn an_unchanged_member_that_rejoins_starts_no_rebalance() {
    let mut store = Store::stable();
    let stays = |lists_members| Joined::In {
        member: text("b"),
        lists_members,
        skips_assignment: false,
        leader: text("a"),
    };
    assert_eq!(store.join("b"), Ok(stays(false)));
    assert_eq!(store.state(), (GroupState::Stable, 2));
    store.join_as(dynamic("b"), "", &[("range", "other topics")]).unwrap();
    assert_eq!(store.state(), (GroupState::PreparingRebalance, 2));
    let mut store = Store::stable();
    store.join("a").unwrap();
    assert_eq!(store.state(), (GroupState::PreparingRebalance, 2), "a leader comes again to assign again");
}

#[test]
fn a_group_of_the_release_before_goes_on() {
    let mut store = Store::stable();
    store.join_new_static("one", "c").unwrap();
    store.downgrade_documents();
    assert_eq!(
        store.commit(MemberIdentity { generation: 2, ..static_member("d", "one") }, 0, 5),
        Err(ErrorCode::FencedInstanceId)
    );
    assert_eq!(store.join("a"), waits("a", 2));
    assert_eq!((store.state(), store.group().members), ((GroupState::PreparingRebalance, 2), 3));
    assert_eq!(store.join("b"), waits("b", 2));
    assert_eq!(store.state(), (GroupState::CompletingRebalance, 3));
    assert_eq!(store.members(), [text("a"), text("b"), text("c")]);
    assert_eq!(store.leave(&[static_member("", "one")]), [Ok(())]);
    assert_eq!(store.members(), [text("a"), text("b")]);
}

/// Nobody has got the assignments of the generation that was about to begin, and those before are over.
#[test]
fn assignments_are_void_once_a_rebalance_starts_before_the_leader_has_assigned() {
    let mut store = Store::stable();
    let parts = |store: &Store| -> Vec<Bytes> {
        store.view().members.iter().map(|(_, member)| member.assignment.0.clone()).collect()
    };
    let before = vec![Bytes::from_static(b"0"), Bytes::from_static(b"1")];
    store.join_new("c").unwrap();
    assert_eq!(parts(&store)[..2], before, "a rebalance alone takes nothing away");
    store.join("a").unwrap();
    store.join("b").unwrap();
    assert_eq!(store.state(), (GroupState::CompletingRebalance, 3));
    store.leave(&[dynamic("c")]);
    assert_eq!(store.state(), (GroupState::PreparingRebalance, 3));
    assert_eq!(parts(&store), vec![Bytes::new(); 2]);
    store.join("a").unwrap();
    store.join("b").unwrap();
    assert_eq!((store.state().0, parts(&store)), (GroupState::CompletingRebalance, vec![Bytes::new(); 2]));
    assert_eq!(store.member("b").unwrap().assignment.0, Bytes::new());
}

#[test]
fn a_restarted_static_member_keeps_its_assignment() {
    let mut store = Store::new();
    store.join_new_static("one", "one-1").unwrap();
    store.sync("one-1", &[("one-1", "0")]).unwrap();
    let joined = store.join_new_static("one", "one-2").unwrap();
    let is = Joined::In {
        member: text("one-2"),
        lists_members: true,
        skips_assignment: true,
        leader: text("one-2"),
    };
    assert_eq!(joined, is);
    assert_eq!(store.state(), (GroupState::Stable, 1), "no rebalance (KIP-345)");
    assert_eq!(store.member("one-2").unwrap().assignment.0, Bytes::from_static(b"0"));
    assert_eq!(store.member("one-1"), None);
    assert_eq!(
        store.join_as(static_member("one-1", "one"), "", &[("range", "a")]),
        Err(ErrorCode::FencedInstanceId)
    );
    assert_eq!(store.leave(&[static_member("one-1", "one")]), [Err(ErrorCode::FencedInstanceId)]);
    assert_eq!(
        store.leave(&[static_member("", "two"), static_member("", "one")]),
        [Err(ErrorCode::UnknownMemberId), Ok(())]
    );
    assert_eq!(store.state(), (GroupState::Empty, 2));
}

#[test]
fn a_static_member_stays_without_rejoining_in_time() {
    let mut store = Store::new();
    store.join_new_static("one", "one-1").unwrap();
    store.join_new("b").unwrap();
    for _ in 0..7 {
        store.pass(9_000, &["one-1"]);
    }
    assert_eq!(store.state(), (GroupState::CompletingRebalance, 2));
    assert_eq!(store.members(), [text("one-1"), text("b")]);
    assert_eq!(store.group().leader, Some(text("b")), "somebody leads who is here");
}

#[test]
fn the_assignor_is_the_most_preferred_that_all_support() {
    let mut store = Store::new();
    store.join_new("a").unwrap();
    store.leave(&[dynamic("a")]);
    store.initial_delay_ms = 10;
    store.join_as(dynamic(""), "x", &[("only-x", ""), ("range", ""), ("sticky", "")]).unwrap();
    store.join_as(dynamic(""), "y", &[("sticky", ""), ("range", "")]).unwrap();
    store.join_as(dynamic(""), "z", &[("sticky", ""), ("range", "")]).unwrap();
    let nothing_in_common = store.join_as(dynamic(""), "n", &[("other", "")]);
    assert_eq!(nothing_in_common, Err(ErrorCode::InconsistentGroupProtocol));
    store.pass(10, &[]);
    store.pass(10, &[]);
    assert_eq!(store.group().protocol, Some(text("sticky")));
}

#[test]
fn a_full_group_accepts_no_new_member() {
    let mut store = Store::stable();
    store.members_max = 2;
    assert_eq!(store.join_new("c"), Err(ErrorCode::GroupMaxSizeReached));
    assert_eq!(store.join("a"), waits("a", 2));
}

#[test]
fn requests_with_an_unknown_member_or_old_generation_are_refused() {
    let mut store = Store::stable();
    assert_eq!(store.join("nobody"), Err(ErrorCode::UnknownMemberId));
    assert_eq!(store.sync("nobody", &[]), Err(ErrorCode::UnknownMemberId));
    assert_eq!(store.leave(&[dynamic("nobody")]), [Err(ErrorCode::UnknownMemberId)]);
    let old = MemberIdentity { generation: 1, ..dynamic("a") };
    assert_eq!(store.commit(old, 0, 5), Err(ErrorCode::IllegalGeneration));
    assert_eq!(store.commit(dynamic(""), 0, 5), Err(ErrorCode::UnknownMemberId));
    let other = MemberIdentity { generation: 2, ..dynamic("nobody") };
    assert_eq!(store.commit(other, 0, 5), Err(ErrorCode::UnknownMemberId));
    assert_eq!(store.commit(MemberIdentity { generation: 2, ..dynamic("b") }, 0, 5), Ok(()));
    store.leave(&[dynamic("b")]);
    assert_eq!(
        store.commit(MemberIdentity { generation: 2, ..dynamic("a") }, 0, 6),
        Ok(()),
        "before it joins again"
    );
    store.join("a").unwrap();
    let early = store.commit(MemberIdentity { generation: 3, ..dynamic("a") }, 0, 7);
    assert_eq!(early, Err(ErrorCode::RebalanceInProgress));
}

#[test]
fn offsets_are_deleted_with_their_group() {
    let mut store = Store::new();
    let member = MemberIdentity { generation: 3, ..dynamic("x") };
    assert_eq!(store.commit(member, 0, 1), Err(ErrorCode::GroupIdNotFound));
    assert_eq!(store.commit(dynamic(""), 0, 1), Ok(()), "a consumer that joins no group");
    assert_eq!(store.commit(dynamic(""), 7, 1), Ok(()));
    store.run(GroupCommand::DeleteOffsets { offsets: vec![(text("t"), 0), (text("t"), 99)] }).unwrap();
    assert_eq!(store.offsets(), [7]);
    store.join_new("a").unwrap();
    assert_eq!(store.run(GroupCommand::Delete).unwrap_err().error, ErrorCode::NonEmptyGroup);
    store.leave(&[dynamic("a")]);
    store.run(GroupCommand::Delete).unwrap();
    assert!(store.is_gone(), "{:?}", store.documents);
    assert_eq!(store.run(GroupCommand::Delete).unwrap_err().error, ErrorCode::GroupIdNotFound);
}

#[test]
fn offsets_expire_after_the_retention_time() {
    let mut store = Store::stable();
    store.commit(MemberIdentity { generation: 2, ..dynamic("a") }, 0, 5).unwrap();
    let expire = |store: &mut Store| {
        let now_ms = store.now_ms;
        let deleted_topics = BTreeSet::new();
        store.run(GroupCommand::ExpireOffsets { now_ms, retention_ms: 100_000, deleted_topics }).unwrap();
    };
    for _ in 0..20 {
        store.pass(9_000, &["a", "b"]);
    }
    expire(&mut store);
    assert_eq!(store.offsets(), [0], "the group is in use");
    store.leave(&[dynamic("a"), dynamic("b")]);
    store.pass(99_999, &[]);
    expire(&mut store);
    assert_eq!(store.offsets(), [0]);
    store.pass(1, &[]);
    expire(&mut store);
    assert!(store.is_gone(), "and the group with them");
}

#[test]
fn offsets_of_deleted_topics_are_deleted() {
    let mut store = Store::stable();
    store.commit(MemberIdentity { generation: 2, ..dynamic("a") }, 0, 5).unwrap();
    let deleted_topics = BTreeSet::from([TopicId(Uuid::from_u128(1))]);
    store.run(GroupCommand::ExpireOffsets { now_ms: 0, retention_ms: 100_000, deleted_topics }).unwrap();
    assert!(store.offsets().is_empty());
    assert_eq!(store.state(), (GroupState::Stable, 2));
}

impl Store {
    /// A look at the group's offsets: takes its entries, and returns when to look next, from now.
    fn look(&mut self, retention_ms: i64) -> Option<i64> {
        self.forget_due();
        let (now_ms, deleted_topics) = (self.now_ms, BTreeSet::new());
        match self.run_unlisted(GroupCommand::ExpireOffsets { now_ms, retention_ms, deleted_topics }) {
            Ok(Applied::NextExpiry(next_ms)) => next_ms.map(|next_ms| next_ms - now_ms),
            other => panic!("{other:?}"),
        }
    }

    fn forget_due(&mut self) {
        self.documents.0.retain(|key, _| key.kind() != Due::PREFIX);
    }

    /// Runs a command whose group need not be in the due index, because its entry was taken.
    fn run_unlisted(&mut self, command: GroupCommand) -> Outcome {
        self.documents.run(&Command::Group { group: text("g"), command }).0
    }
}

#[test]
fn only_an_offset_that_may_expire_first_puts_the_group_into_the_due_index() {
    let mut store = Store::new();
    let commit = |store: &mut Store, partition, expires_ms| {
        let (now_ms, member) = (store.now_ms, dynamic(""));
        let document = OffsetDocument {
            topic_id: TopicId(Uuid::from_u128(1)),
            offset: 1,
            leader_epoch: -1,
            metadata: text(""),
            committed_ms: now_ms,
            expires_ms,
            revision: 0,
            sent_after: None,
            sent_as: 0,
        };
        let offsets = vec![CommittedOffset { topic: text("t"), partition, document }];
        let command = GroupCommand::CommitOffsets { member, offsets, knows_epochs: true, now_ms };
        store.forget_due();
        store.run_unlisted(command).unwrap();
        store.documents.due()
    };
    assert_eq!(commit(&mut store, 0, None), [offsets_due()], "the group is new");
    store.now_ms = 10;
    assert!(commit(&mut store, 0, None).is_empty(), "the offset was there");
    assert_eq!(commit(&mut store, 1, None), [offsets_due()]);
    assert_eq!(commit(&mut store, 1, Some(500)), [offsets_due()], "it has a time of its own");
    assert!(commit(&mut store, 1, Some(600)).is_empty(), "a later one");
    assert_eq!(commit(&mut store, 1, Some(400)), [offsets_due()]);
    assert_eq!(commit(&mut store, 1, None), [offsets_due()], "the broker's retention may be shorter");
}

#[test]
fn a_look_at_offsets_says_when_to_look_next() {
    let mut store = Store::new();
    store.commit(dynamic(""), 0, 1).unwrap();
    store.now_ms = 3_000;
    store.commit(dynamic(""), 1, 1).unwrap();
    assert_eq!(store.look(10_000), Some(7_000), "the first offset goes first");
    store.now_ms = 10_000;
    assert_eq!(store.look(10_000), Some(3_000));
    assert_eq!(store.offsets(), [1]);
    store.now_ms = 13_000;
    assert_eq!(store.look(10_000), None);
    assert!(store.is_gone());
    assert_eq!(store.look(10_000), None, "there is no such group");
}

#[test]
fn offsets_in_use_are_looked_at_again_within_an_hour() {
    let mut store = Store::stable();
    store.commit(MemberIdentity { generation: 2, ..dynamic("a") }, 0, 5).unwrap();
    assert_eq!(store.look(i64::from(SESSION_MS)), Some(i64::from(SESSION_MS)), "it cannot expire earlier");
    store.now_ms += 100 * 60 * 60 * 1_000;
    assert_eq!(store.look(2 * 60 * 60 * 1_000), Some(60 * 60 * 1_000));
    assert_eq!(store.look(1_000), Some(1_000), "nor later than the retention time from now");
    store.leave(&[dynamic("a"), dynamic("b")]);
    store.pass(i64::from(REBALANCE_MS), &[]);
    assert_eq!(store.state().0, GroupState::Empty);
    assert_eq!(store.documents.due(), [offsets_due()], "the last member has gone");
}

#[test]
fn deleted_offsets_may_leave_a_group_to_be_deleted() {
    let mut store = Store::new();
    store.commit(dynamic(""), 0, 1).unwrap();
    assert_eq!(store.look(10_000), Some(10_000));
    store.run(GroupCommand::DeleteOffsets { offsets: vec![(text("t"), 0)] }).unwrap();
    assert_eq!(store.documents.due(), [offsets_due()]);
    assert_eq!(store.look(10_000), None);
    assert!(store.is_gone());
}

#[test]
fn a_group_of_the_release_before_is_listed() {
    let mut store = Store::stable();
    let lists = [LiveGroup::PREFIX, Due::PREFIX];
    store.documents.0.retain(|key, _| !lists.contains(&key.kind()));
    store.run(GroupCommand::Index).unwrap();
    assert_eq!(store.documents.due(), [offsets_due()]);
    store.leave(&[dynamic("a"), dynamic("b")]);
    store.pass(i64::from(REBALANCE_MS), &[]);
    store.documents.0.retain(|key, _| !lists.contains(&key.kind()));
    store.run(GroupCommand::Index).unwrap();
    store.run(GroupCommand::Delete).unwrap();
    store.run(GroupCommand::Index).unwrap();
    assert!(store.is_gone(), "one that is not there is not listed");
}

const HOUR_MS: i64 = 3_600_000;

#[test]
fn another_run_gives_a_rebalance_its_whole_time() {
    for ms in [-HOUR_MS, 0, HOUR_MS] {
        let mut store = Store::stable();
        store.join_as(dynamic("a"), "", &[("range", "changed")]).unwrap();
        assert_eq!(store.state(), (GroupState::PreparingRebalance, 2), "b is waited for");
        store.pass(9_000, &["b"]);
        assert!(store.restart(ms, &["b"]));
        let deadline = store.group().deadline.unwrap();
        assert_eq!(deadline.at_ms, store.now_ms + i64::from(REBALANCE_MS), "{ms}");
        assert!(store.member("b").unwrap().lease_ms <= store.now_ms + i64::from(SESSION_MS));
        store.pass(i64::from(SESSION_MS) - 1, &[]);
        assert_eq!(store.join("b"), waits("b", 2));
        assert_eq!(store.state(), (GroupState::CompletingRebalance, 3));
        assert_eq!(store.members(), ["a", "b"].map(text));

        // The leader has the whole time to assign, too.
        assert!(store.restart(ms, &["a", "b"]));
        assert_eq!(store.group().deadline.unwrap().at_ms, store.now_ms + i64::from(REBALANCE_MS));
        store.sync("a", &[("a", "0"), ("b", "1")]).unwrap();
        assert_eq!(store.sync("b", &[]), Ok(Synced::Assigned(Bytes::from_static(b"1"))));
        assert_eq!((store.state(), store.group().deadline), ((GroupState::Stable, 3), None));
    }
}

#[test]
fn a_short_rebalance_is_no_shorter_than_a_session_in_another_run() {
    let mut store = Store::new();
    for (id, now_ms) in [("a", 0), ("b", 100)] {
        let join =
            Join { requires_known_id: false, rebalance_timeout_ms: 1_000, ..known_id_join(id, now_ms) };
        store.run(GroupCommand::Join(Box::new(join))).unwrap();
    }
    assert_eq!(store.state(), (GroupState::PreparingRebalance, 1));
    assert!(store.restart(HOUR_MS, &["a"]));
    assert_eq!(store.group().deadline.unwrap().at_ms, store.now_ms + i64::from(SESSION_MS));
    store.pass(i64::from(SESSION_MS), &["a"]);
    assert_eq!((store.state(), store.members()), ((GroupState::CompletingRebalance, 2), vec![text("b")]));
}

#[test]
fn another_run_gives_pending_ids_a_whole_session() {
    for ms in [-HOUR_MS, 0, HOUR_MS] {
        let mut store = Store::new();
        for (id, now_ms) in [("a", 0), ("b", 5_000)] {
            store.run(GroupCommand::Join(Box::new(known_id_join(id, now_ms)))).unwrap();
        }
        store.now_ms = 6_000;
        assert!(store.restart(ms, &[]));
        let ids = store.group().pending_ids.unwrap();
        assert_eq!((ids.count, ids.next_ms), (2, store.now_ms + i64::from(SESSION_MS)), "{ms}");
        store.pass(i64::from(SESSION_MS) - 1, &[]);
        assert_eq!(store.group().pending_ids, Some(ids));
        store.pass(1, &[]);
        assert_eq!(store.group().pending_ids, None);
    }
}

#[test]
fn another_run_leaves_a_group_at_rest_alone_unless_its_leases_are_of_the_future() {
    let mut store = Store::stable();
    let before = store.documents.0.clone();
    assert!(!store.restart(HOUR_MS, &["a", "b"]));
    assert_eq!(store.documents.0, before);
    // The clock was set back.
    assert!(store.restart(-2 * HOUR_MS, &["a"]));
    assert_eq!(store.member("b").unwrap().lease_ms, store.now_ms + i64::from(SESSION_MS));
    assert_eq!((store.state(), store.group().deadline), ((GroupState::Stable, 2), None));
    store.pass(i64::from(SESSION_MS), &["a"]);
    assert_eq!(store.members(), [text("a")]);
}

#[test]
fn offsets_are_kept_by_the_wall_clock_from_when_their_group_became_empty() {
    let mut store = Store::stable();
    store.wall_ahead_ms = HOUR_MS;
    store.leave(&[dynamic("a"), dynamic("b")]);
    assert_eq!((store.state().0, store.group().since_ms), (GroupState::Empty, store.now_ms + HOUR_MS));

    let mut store = Store::stable();
    store.wall_ahead_ms = -HOUR_MS;
    store.pass(i64::from(SESSION_MS), &[]);
    assert_eq!((store.state().0, store.group().since_ms), (GroupState::Empty, store.now_ms - HOUR_MS));
}
