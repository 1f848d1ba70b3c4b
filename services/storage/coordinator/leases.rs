//! Writes down when members were heard from, for the other brokers of a shared store.
//!
//! Members of a group may send their heartbeats to any broker, and one broker looks after their timeouts. So each renews the
//! leases of the members that it hears from: three times a session, many in a commit. A member that falls silent has its
//! last heartbeat written down with the next turn, long before its session ends. A broker that is alone writes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kernel::Ticket;
use rules::commands::{Applied, Command, GroupCommand};
use tracing::warn;

use super::{Coordinator, LastHeard, State};
use crate::broker::Broker;
use crate::engines::StoreError;

/// How often is looked whose turn it is.
const EVERY: Duration = Duration::from_secs(1);
/// Leases in one commit.
const MEMBERS_MAX: usize = 1_000;
/// Turns in a session.
const TURNS: i64 = 3;
/// When a lease is renewed again that could not be, in ms.
const AGAIN_MS: i64 = 1_000;

/// A member of a group.
type Member = (Arc<str>, Arc<str>);
/// When the members of a group were last heard from, in ms.
type Heard = BTreeMap<Arc<str>, i64>;

/// The members, by the time of their next turn in ms; none while there are no other brokers. Each that was heard from is in it
/// once: [`LastHeard::turn_ms`] says where.
#[derive(Default)]
pub(super) struct Turns(BTreeMap<i64, Vec<Member>>);

impl Turns {
    /// Takes about so many whose turn it is, and when it was.
    fn take(&mut self, now_ms: i64, count: usize) -> Vec<(i64, Member)> {
        let mut taken = Vec::new();
        while taken.len() < count {
            match self.0.first_entry() {
                Some(first) if *first.key() <= now_ms => {
                    let (at_ms, members) = first.remove_entry();
                    taken.extend(members.into_iter().map(|member| (at_ms, member)));
                }
                _ => break,
            }
        }
        taken
    }
}

#[cfg(test)]
impl Turns {
    pub(super) fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }
}

impl State {
    /// A member that was heard from has a turn, then if it has none yet.
    pub(super) fn has_turn(&mut self, group: &Arc<str>, member: &Arc<str>, at_ms: i64) {
        let Some(last) = self.last_heard(group, member) else { return };
        if last.turn_ms.is_none() {
            last.turn_ms = Some(at_ms);
            self.turns.0.entry(at_ms).or_default().push((Arc::clone(group), Arc::clone(member)));
        }
    }

    fn last_heard(&mut self, group: &Arc<str>, member: &Arc<str>) -> Option<&mut LastHeard> {
        self.groups.get_mut(group)?.heard.get_mut(member)
    }

    fn forget(&mut self, group: &Arc<str>, member: &Arc<str>) {
        if let Some(record) = self.groups.get_mut(group) {
            record.heard.remove(member);
            if record.heard.is_empty() {
                self.groups.remove(group);
            }
        }
    }

    /// When a member was heard from whose turn it was, unless that is known already. Then it is looked at again when its
    /// session would end, and forgotten if it has fallen silent.
    fn at_turn(&mut self, group: &Arc<str>, member: &Arc<str>, now_ms: i64) -> Option<i64> {
        let last = self.last_heard(group, member)?;
        last.turn_ms = None;
        let heard_ms = if last.waiting > 0 { now_ms } else { last.at_ms };
        let Some(session_ms) = last.session_ms.filter(|_| heard_ms <= last.renewed_ms) else {
            return Some(heard_ms);
        };
        let end_ms = heard_ms + i64::from(session_ms);
        if end_ms <= now_ms {
            self.forget(group, member);
        } else {
            self.has_turn(group, member, end_ms.min(now_ms + i64::from(session_ms) / TURNS));
        }
        None
    }

    /// Each member has a turn now, if there are other brokers. Times that lie in the future are of a clock that was set back.
    pub(super) fn begin_anew(&mut self, now_ms: i64, has_others: bool) {
        let mut all = Vec::new();
        for (group, record) in &mut self.groups {
            for (member, last) in &mut record.heard {
                last.at_ms = last.at_ms.min(now_ms);
                last.renewed_ms = i64::MIN;
                last.turn_ms = has_others.then_some(now_ms);
                all.extend(has_others.then(|| (Arc::clone(group), Arc::clone(member))));
            }
        }
        self.turns = Turns(BTreeMap::from([(now_ms, all)]));
    }

    /// A lease was renewed, as of when its member was heard from.
    fn renewed(&mut self, group: &Arc<str>, member: &Arc<str>, heard_ms: i64, session_ms: i32, now_ms: i64) {
        let Some(last) = self.last_heard(group, member) else { return };
        last.renewed_ms = heard_ms;
        last.session_ms = Some(session_ms);
        self.has_turn(group, member, now_ms + i64::from(session_ms) / TURNS);
    }
}

impl Coordinator {
    /// Tells whether other brokers are there. Once they are, the leases of all members are renewed.
    pub(super) fn has_others(&self, has_others: bool) {
        // Under the lock, so that nobody who has it adds turns for others that have gone.
        let mut state = self.state.lock();
        if self.has_others.swap(has_others, Ordering::Relaxed) != has_others {
            state.begin_anew(self.time.now_ms(), has_others);
            state.graces.clear();
        }
    }

    /// The members whose leases are to be renewed now.
    fn take_turns(&self, now_ms: i64) -> Vec<(Arc<str>, Heard)> {
        let mut state = self.state.lock();
        let mut groups = BTreeMap::<Arc<str>, Heard>::new();
        for (at_ms, (group, member)) in state.turns.take(now_ms, MEMBERS_MAX) {
            // One that was forgotten may have come back, with a turn of its own.
            let is_its_turn =
                state.last_heard(&group, &member).is_some_and(|last| last.turn_ms == Some(at_ms));
            let heard_ms = is_its_turn.then(|| state.at_turn(&group, &member, now_ms)).flatten();
            if let Some(heard_ms) = heard_ms {
                groups.entry(group).or_default().insert(member, heard_ms);
            }
        }
        groups.into_iter().collect()
    }

    fn note_renewed(&self, group: &Arc<str>, heard: Heard, sessions: &BTreeMap<Arc<str>, i32>, now_ms: i64) {
        let mut state = self.state.lock();
        if !self.has_others.load(Ordering::Relaxed) {
            return;
        }
        for (member, heard_ms) in heard {
            match sessions.get(&member) {
                Some(session_ms) => state.renewed(group, &member, heard_ms, *session_ms, now_ms),
                // It is no member any more. Its call that waits here will find out.
                None if state.last_heard(group, &member).is_some_and(|last| last.waiting > 0) => {
                    state.has_turn(group, &member, now_ms + AGAIN_MS);
                }
                None => state.forget(group, &member),
            }
        }
    }

    fn renew_again(&self, group: &Arc<str>, heard: Heard, now_ms: i64) {
        let mut state = self.state.lock();
        if self.has_others.load(Ordering::Relaxed) {
            heard.keys().for_each(|member| state.has_turn(group, member, now_ms + AGAIN_MS));
        }
    }
}

/// Runs as long as the process.
pub(crate) async fn run(broker: &Broker) {
    let mut is_failing = false;
    loop {
        tokio::time::sleep(EVERY).await;
        let renewed = renew(broker).await;
        if let Err(error) = &renewed
            && !is_failing
        {
            warn!(%error, "leases of members cannot be renewed; it is tried again and again");
        }
        is_failing = renewed.is_err();
    }
}

/// Renews the leases whose turn it is.
pub(crate) async fn renew(broker: &Broker) -> Result<(), StoreError> {
    loop {
        let now_ms = broker.time.now_ms();
        let groups = broker.coordinator.take_turns(now_ms);
        if groups.is_empty() {
            return Ok(());
        }
        let commands = groups.iter().map(|(group, heard)| Command::Group {
            group: Arc::clone(group),
            command: GroupCommand::RenewLeases { heard: heard.clone() },
        });
        let outcomes = match broker.store.commit(&Ticket::only(), commands.collect()).await {
            Ok(outcomes) => outcomes,
            Err(error) => {
                groups.into_iter().for_each(|(group, heard)| {
                    broker.coordinator.renew_again(&group, heard, now_ms);
                });
                return Err(error);
            }
        };
        for ((group, heard), outcome) in groups.into_iter().zip(outcomes) {
            match outcome {
                Ok(Applied::LeasesRenewed(sessions)) => {
                    broker.coordinator.note_renewed(&group, heard, &sessions, now_ms);
                }
                // Such as a group that is damaged.
                _ => broker.coordinator.renew_again(&group, heard, now_ms),
            }
        }
    }
}
