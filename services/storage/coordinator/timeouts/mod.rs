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
//!
//! Of brokers that share a store, each looks after its share of the groups: rendezvous hashing tells which, so that it changes
//! with the brokers that are there. A broker that takes over a group knows no more of it than one that has just started.

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
use crate::nodes::View;

/// The shortest pause between two looks: what changes meanwhile is looked at once. A thousand members that join one
/// after another would otherwise be looked at a thousand times each.
const PAUSE: Duration = Duration::from_millis(10);
/// The pause after the store has failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// When a group that is damaged is looked at again.
const AFTER_DAMAGE_MS: i64 = 60_000;
/// When a group is looked at again about which this broker may do nothing at this moment.
const NOT_OURS_MS: i64 = 1_000;
/// Ticks, and groups that are resumed, in one commit.
const COMMANDS_MAX: usize = 256;

/// Runs as long as the process.
pub(crate) async fn run(broker: Arc<Broker>) {
    let (mut timeouts, mut nodes) = (Timeouts::default(), broker.nodes.follow());
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
            () = others_come_or_go(&mut nodes) => timeouts.share_out(&broker).await,
        }
    }
}

/// Returns once other brokers are there than before.
async fn others_come_or_go(nodes: &mut tokio::sync::watch::Receiver<Arc<View>>) {
    if nodes.changed().await.is_err() {
        std::future::pending::<()>().await;
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
    /// Since when groups are looked after that were taken over from other brokers, in ms.
    taken_over: HashMap<Arc<str>, i64>,
    /// The time of the last look, in ms.
    looked_ms: i64,
    /// How often the process has stood still, as of the last look.
    pauses: u64,
    /// How often nothing was known of members for a while, as of the last look.
    interruptions: u64,
}

impl Timeouts {
    /// Queues the groups that were there before this broker and have timeouts.
    pub(crate) async fn find_all(&mut self, broker: &Broker) -> Result<(), StoreError> {
        broker.coordinator.has_others(!broker.nodes.is_alone());
        let groups = Self::live_groups(broker).await?;
        self.pauses = *broker.time.pauses().borrow();
        self.interruptions = broker.coordinator.interruptions();
        broker.coordinator.starts();
        let now_ms = broker.time.now_ms();
        groups.iter().for_each(|group| self.set(group, Some(now_ms)));
        self.left_off.extend(groups);
        Ok(())
    }

    /// Gives groups up that other brokers look after by now, and takes those over that others have looked after.
    pub(crate) async fn share_out(&mut self, broker: &Broker) {
        broker.coordinator.has_others(!broker.nodes.is_alone());
        broker.coordinator.forget_graces();
        let groups = loop {
            match Self::live_groups(broker).await {
                Ok(groups) => break groups,
                Err(error) => {
                    warn!(%error, "groups of other brokers cannot be taken over yet; it is tried again in {PAUSE_AFTER_FAILURE:?}");
                    tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
                }
            }
        };
        let given_up: Vec<_> =
            self.at_ms.keys().filter(|group| !broker.nodes.looks_after(group)).cloned().collect();
        given_up.iter().for_each(|group| self.forget(group));
        let now_ms = broker.time.now_ms();
        for group in groups {
            if !self.at_ms.contains_key(&group) {
                self.set(&group, Some(now_ms));
                self.taken_over.insert(Arc::clone(&group), now_ms);
                self.left_off.insert(group);
            }
        }
    }

    fn forget(&mut self, group: &Arc<str>) {
        self.set(group, None);
        self.left_off.remove(group);
    }

    /// The groups that have timeouts, as far as this broker looks after them.
    async fn live_groups(broker: &Broker) -> Result<Vec<Arc<str>>, StoreError> {
        let mut groups: Vec<Arc<str>> = if broker.store.get_one::<DueComplete>(&()).await?.is_some() {
            let live = broker.store.scan::<LiveGroup>(LiveGroup::prefix()).await?;
            live.into_iter().map(|(group, _)| group).collect()
        } else {
            // An earlier release has stored them, and no list.
            let all = broker.store.groups().await?.into_iter();
            all.filter(|(_, document)| document.has_timeouts()).map(|(group, _)| group).collect()
        };
        groups.retain(|group| broker.nodes.looks_after(group));
        Ok(groups)
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
        let found = (*broker.time.pauses().borrow(), broker.coordinator.interruptions());
        let is_found = (self.pauses, self.interruptions) != found;
        if is_found {
            (self.pauses, self.interruptions) = found;
            broker.coordinator.starts();
            info!(
                "the process stood still for a while, or could not use its store: members of groups get a whole session from now"
            );
        }
        is_found
    }

    /// If the clock was set back, nothing of what was noted lies in the future.
    fn find_set_back(&mut self, broker: &Broker, now_ms: i64) {
        if now_ms < std::mem::replace(&mut self.looked_ms, now_ms) {
            broker.coordinator.starts();
            self.taken_over.values_mut().for_each(|since_ms| *since_ms = now_ms.min(*since_ms));
            self.look_at_all(now_ms);
        }
    }

    /// All groups are to be looked at.
    fn look_at_all(&mut self, now_ms: i64) -> Vec<Arc<str>> {
        let groups: Vec<_> = self.at_ms.keys().cloned().collect();
        groups.iter().for_each(|group| self.set(group, Some(now_ms)));
        groups
    }

    /// All groups are to be resumed.
    fn resume_all(&mut self, now_ms: i64) {
        let groups = self.look_at_all(now_ms);
        self.left_off.extend(groups);
    }

    /// Looks at the groups that have changed or whose time has come, and sends the ticks that are due. Returns when to
    /// look again, in ms; `None` if no group has a timeout.
    pub(crate) async fn step(&mut self, broker: &Broker) -> Result<Option<i64>, StoreError> {
        // In this order: a time that counts a stop in comes with the notice of it.
        let now_ms = broker.time.now_ms();
        self.find_set_back(broker, now_ms);
        let has_paused = self.find_pause(broker);
        if broker.coordinator.take_missed() {
            self.share_out(broker).await;
            self.look_at_all(now_ms);
        }
        let mut failure = None;
        for group in broker.coordinator.take_changed() {
            if !broker.nodes.looks_after(&group) {
                self.forget(&group);
                continue;
            }
            if !self.at_ms.contains_key(&group) && !broker.nodes.is_alone() {
                // Another broker may have looked after it.
                self.taken_over.insert(Arc::clone(&group), now_ms);
            }
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
            // Another broker may look after it by now: nobody is evicted until that is known.
            if !broker.nodes.holds_lease() || !broker.nodes.looks_after(&group) {
                self.set(&group, Some(now_ms + NOT_OURS_MS));
                continue;
            }
            // A group that cannot be read does not hold up the others.
            let look = match self.look(broker, &group, now_ms).await {
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
            None => {
                self.taken_over.remove(group);
                self.at_ms.remove(group)
            }
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

impl Timeouts {
    async fn look(&self, broker: &Broker, group: &Arc<str>, now_ms: i64) -> Result<Found, StoreError> {
        let view = broker.store.group(group).await?;
        if self.left_off.contains(group) && view.as_ref().is_some_and(|view| must_resume(view, now_ms)) {
            return Ok(Found::LeftOff);
        }
        let since_ms = self.taken_over.get(group).copied();
        let ends = broker.coordinator.sessions_end(group, view.as_ref(), since_ms, now_ms);
        Ok(Found::Look(view.map(|view| look_at(&view, &ends, now_ms)).unwrap_or_default()))
    }
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
mod tests;
