//! Looks at each group when one of its timeouts may have passed, and sends the ticks that are due.
//!
//! A queue holds one time per group: the earliest end of a session, of a pending id or of the group's state, as of when
//! the group was last looked at. Heartbeats only move such an end into the future, so they need not touch the queue: the
//! group is looked at once more when the old time comes. A group costs one look at its members per session. When it has
//! changed, its own document tells whether to look earlier: no member's session ends sooner than the shortest session
//! timeout from now. The rules check every tick against the stored state, so a late or repeated tick is harmless. What
//! a broker finds when it starts is a list that the rules keep ([`LiveGroup`]), not all groups.
//!
//! All of this is store time. It begins anew with each run, and stands still while the process does: deadlines of before
//! mean nothing, so a group that has some is *resumed* before it gets its first tick.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kernel::{ErrorCode, Ticket};
use rules::commands::{Command, GroupCommand};
use rules::documents::{DocumentKind, DueComplete, GroupDocument, LiveGroup};
use rules::groups::{GroupView, must_resume};
use tracing::{info, warn};

use crate::broker::Broker;
use crate::engines::StoreError;

/// The shortest pause between two looks: what changes meanwhile is looked at once. A thousand members that join one
/// after another would otherwise be looked at a thousand times each.
const PAUSE: Duration = Duration::from_millis(10);
/// The pause after the store has failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// When a group that is damaged is looked at again.
const AFTER_DAMAGE_MS: i64 = 60_000;
/// Ticks, and groups that are resumed, in one commit.
const COMMANDS_MAX: usize = 256;

/// Runs as long as the process.
pub(crate) async fn run(broker: Arc<Broker>) {
    let mut timeouts = Timeouts::default();
    while let Err(error) = timeouts.find_all(&broker).await {
        warn!(%error, "the timeouts of groups cannot be looked up; it is tried again in {PAUSE_AFTER_FAILURE:?}");
        tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
    }
    loop {
        let pause = match timeouts.step(&broker).await {
            Ok(Some(due_ms)) => millis(due_ms - broker.time.now_ms()),
            Ok(None) => Duration::MAX,
            // The engine has logged the error.
            Err(_) => PAUSE_AFTER_FAILURE,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = broker.coordinator.changed.notified() => tokio::time::sleep(PAUSE).await,
            () = timeouts.stood_still(&broker) => {}
        }
    }
}

fn millis(ms: i64) -> Duration {
    Duration::from_millis(u64::try_from(ms).unwrap_or(0)).max(PAUSE)
}

/// When to look at which group.
#[derive(Default)]
pub(crate) struct Timeouts {
    at_ms: HashMap<Arc<str>, i64>,
    queue: BTreeSet<(i64, Arc<str>)>,
    /// Groups that may wait for deadlines of before the process started, or last stood still.
    left_off: BTreeSet<Arc<str>>,
    /// How often the process has stood still, as of the last look.
    pauses: u64,
}

impl Timeouts {
    /// Queues the groups that were there before this broker and have timeouts.
    pub(crate) async fn find_all(&mut self, broker: &Broker) -> Result<(), StoreError> {
        let groups: Vec<Arc<str>> = if broker.store.get_one::<DueComplete>(&()).await?.is_some() {
            let live = broker.store.scan::<LiveGroup>(LiveGroup::prefix()).await?;
            live.into_iter().map(|(group, _)| group).collect()
        } else {
            // An earlier release has stored them, and no list.
            let all = broker.store.groups().await?.into_iter();
            all.filter(|(_, document)| document.has_timeouts()).map(|(group, _)| group).collect()
        };
        self.pauses = *broker.time.pauses().borrow();
        broker.coordinator.starts();
        let now_ms = broker.time.now_ms();
        groups.iter().for_each(|group| self.set(group, Some(now_ms)));
        self.left_off.extend(groups);
        Ok(())
    }

    /// Returns once the process has stood still since the last look.
    pub(super) async fn stood_still(&self, broker: &Broker) {
        let (mut pauses, seen) = (broker.time.pauses(), self.pauses);
        let is_closed = pauses.wait_for(|pauses| *pauses != seen).await.is_err();
        if is_closed {
            std::future::pending::<()>().await;
        }
    }

    /// Whether the process has stood still since the last look. Then every member gets a whole session: it could not
    /// reach this broker meanwhile.
    fn find_pause(&mut self, broker: &Broker) -> bool {
        let pauses = *broker.time.pauses().borrow();
        let is_found = self.pauses != pauses;
        if is_found {
            self.pauses = pauses;
            broker.coordinator.starts();
            info!("the process stood still for a while: members of groups get a whole session from now");
        }
        is_found
    }

    /// All groups are to be resumed.
    fn resume_all(&mut self, now_ms: i64) {
        let groups: Vec<_> = self.at_ms.keys().cloned().collect();
        groups.iter().for_each(|group| self.set(group, Some(now_ms)));
        self.left_off.extend(groups);
    }

    /// Looks at the groups that have changed or whose time has come, and sends the ticks that are due. Returns when to
    /// look again, in ms; `None` if no group has a timeout.
    pub(crate) async fn step(&mut self, broker: &Broker) -> Result<Option<i64>, StoreError> {
        // In this order: a time that counts a stop in comes with the notice of it.
        let now_ms = broker.time.now_ms();
        let has_paused = self.find_pause(broker);
        let mut failure = None;
        for group in broker.coordinator.take_changed() {
            let at_ms = match self.after_change(broker, &group, now_ms).await {
                Ok(at_ms) => at_ms,
                Err(error) => {
                    failure = Some(error);
                    now_ms
                }
            };
            self.set(&group, Some(at_ms));
        }
        if has_paused {
            self.resume_all(now_ms);
        }
        let is_due = |(at_ms, _): &&(i64, Arc<str>)| *at_ms <= now_ms;
        let due: Vec<_> = self.queue.iter().take_while(is_due).map(|(_, group)| Arc::clone(group)).collect();
        let mut commands = Vec::new();
        for group in due {
            // A group that cannot be read does not hold up the others.
            let look = match look(broker, &group, now_ms, self.left_off.contains(&group)).await {
                Ok(Found::Look(look)) => look,
                Ok(Found::LeftOff) => {
                    commands.push(Command::Group { group, command: GroupCommand::Resume { now_ms } });
                    self.commit_if_many(broker, &mut commands).await?;
                    continue;
                }
                Err(error) => {
                    failure = Some(error);
                    continue;
                }
            };
            self.left_off.remove(&group);
            if !look.is_due {
                self.set(&group, look.next_ms);
                continue;
            }
            // It stays in the queue, and is looked at again after the tick.
            let wall_ms = broker.clock.now_ms();
            let command = GroupCommand::Tick { now_ms, wall_ms, timed_out: look.timed_out };
            commands.push(Command::Group { group, command });
            self.commit_if_many(broker, &mut commands).await?;
        }
        self.commit(broker, commands).await?;
        failure.map_or_else(|| Ok(self.queue.first().map(|(at_ms, _)| *at_ms)), Err)
    }

    async fn commit_if_many(
        &mut self,
        broker: &Broker,
        commands: &mut Vec<Command>,
    ) -> Result<(), StoreError> {
        if commands.len() < COMMANDS_MAX {
            return Ok(());
        }
        self.commit(broker, std::mem::take(commands)).await
    }

    /// Commits commands, and notes the groups that are resumed then. A group that refuses one because it is damaged is not
    /// asked again at once.
    async fn commit(&mut self, broker: &Broker, commands: Vec<Command>) -> Result<(), StoreError> {
        if commands.is_empty() {
            return Ok(());
        }
        let of_group = |command: &Command| match command {
            Command::Group { group, command } => {
                Some((Arc::clone(group), matches!(command, GroupCommand::Resume { .. })))
            }
            _ => None,
        };
        let groups: Vec<_> = commands.iter().filter_map(of_group).collect();
        let outcomes = broker.store.commit(&Ticket::only(), commands).await?;
        let again_ms = broker.time.now_ms() + AFTER_DAMAGE_MS;
        for ((group, resumes), outcome) in groups.iter().zip(outcomes) {
            if outcome.is_err_and(|refused| refused.error == ErrorCode::CoordinatorNotAvailable) {
                self.set(group, Some(again_ms));
            } else if *resumes {
                self.left_off.remove(group);
            }
        }
        Ok(())
    }

    /// When to look at the members of a group that has changed.
    async fn after_change(&self, broker: &Broker, group: &Arc<str>, now_ms: i64) -> Result<i64, StoreError> {
        let Some(queued_ms) = self.at_ms.get(group).copied() else { return Ok(now_ms) };
        let document = broker.store.get_one::<GroupDocument>(group).await?;
        // A group without members is looked at once more, so that nothing is remembered of them.
        let Some(document) = document.filter(|document| document.members > 0) else { return Ok(now_ms) };
        let Some(session_ms) = document.tally().session_timeouts.keys().next() else { return Ok(now_ms) };
        let session_ends_ms = now_ms + i64::from(*session_ms);
        let deadline_ms = document.deadline.map(|deadline| deadline.at_ms);
        let pending_ms = document.pending_ids.map(|ids| ids.next_ms);
        let first_ms = deadline_ms.into_iter().chain(pending_ms).fold(session_ends_ms, i64::min);
        Ok(first_ms.min(queued_ms))
    }

    fn set(&mut self, group: &Arc<str>, at_ms: Option<i64>) {
        let was_ms = match at_ms {
            Some(at_ms) => self.at_ms.insert(Arc::clone(group), at_ms),
            None => self.at_ms.remove(group),
        };
        if let Some(was_ms) = was_ms {
            self.queue.remove(&(was_ms, Arc::clone(group)));
        }
        self.queue.extend(at_ms.map(|at_ms| (at_ms, Arc::clone(group))));
    }
}

/// What was found of a group.
enum Found {
    /// It must be resumed.
    LeftOff,
    Look(Look),
}

/// What a look at a group has found.
#[derive(Default)]
struct Look {
    /// A timeout has passed.
    is_due: bool,
    /// Members whose sessions have timed out, and their leases.
    timed_out: BTreeMap<Arc<str>, i64>,
    /// The earliest timeout, in ms.
    next_ms: Option<i64>,
}

impl Look {
    fn add(&mut self, at_ms: i64, now_ms: i64) {
        self.is_due |= at_ms <= now_ms;
        self.next_ms = Some(self.next_ms.map_or(at_ms, |next_ms| next_ms.min(at_ms)));
    }
}

async fn look(
    broker: &Broker,
    group: &Arc<str>,
    now_ms: i64,
    may_be_left_off: bool,
) -> Result<Found, StoreError> {
    let view = broker.store.group(group).await?;
    if may_be_left_off && view.as_ref().is_some_and(|view| must_resume(view, now_ms)) {
        return Ok(Found::LeftOff);
    }
    let ends = broker.coordinator.sessions_end(group, view.as_ref(), now_ms);
    Ok(Found::Look(view.map(|view| look_at(&view, &ends, now_ms)).unwrap_or_default()))
}

fn look_at(view: &GroupView, sessions_end: &[i64], now_ms: i64) -> Look {
    let mut look = Look::default();
    view.group.deadline.iter().for_each(|deadline| look.add(deadline.at_ms, now_ms));
    view.group.pending_ids.iter().for_each(|ids| look.add(ids.next_ms, now_ms));
    for ((id, member), end_ms) in view.members.iter().zip(sessions_end) {
        // One that has joined waits for the rebalance, whose deadline is looked at instead.
        if member.has_joined {
            continue;
        }
        look.add(*end_ms, now_ms);
        if *end_ms <= now_ms {
            look.timed_out.insert(Arc::clone(id), member.lease_ms);
        }
    }
    look
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use kafka_protocol::messages::offset_commit_request::{
        OffsetCommitRequestPartition, OffsetCommitRequestTopic,
    };
    use kafka_protocol::messages::{
        ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupId, HeartbeatRequest,
        HeartbeatResponse, OffsetCommitRequest, OffsetCommitResponse, TopicName,
    };
    use kafka_protocol::protocol::StrBytes;
    use kernel::clock::ManualClock;
    use kernel::{Api, ErrorCode};
    use rules::documents::GroupState;

    use super::*;
    use crate::apis::testing::{NOW_MS, ask, broker_over, topic};
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
            let mut request = ConsumerGroupHeartbeatRequest::default()
                .with_group_id(GroupId(StrBytes::from_string(group.to_owned())))
                .with_member_id(StrBytes::from_string(member.to_owned()))
                .with_member_epoch(epoch)
                .with_rebalance_timeout_ms(-1);
            if epoch == 0 {
                request = request
                    .with_rebalance_timeout_ms(1_000)
                    .with_subscribed_topic_names(Some(Vec::new()))
                    .with_topic_partitions(Some(Vec::new()));
            }
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
            Arc::ptr_eq(&before.group, &after.group)
                && Arc::ptr_eq(&before.members[0].1, &after.members[0].1)
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
}
