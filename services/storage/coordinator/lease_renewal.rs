//! Drives the timeouts of groups: renews leases, and sends ticks when sessions or waits time out.
//!
//! It sleeps until the next timeout, so a broker without groups never wakes. Due ticks of all groups go to
//! the store in one commit: a thousand groups cost one write per renewal period. The rules check every tick
//! against the stored state, so a late or repeated tick is harmless.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kernel::Ticket;
use rules::commands::{Command, GroupCommand};
use rules::documents::{GroupDocument, MemberDocument, MemberKey};
use rules::groups::GroupView;
use tracing::warn;

use super::Coordinator;
use crate::broker::Broker;
use crate::engines::StoreError;

/// The shortest pause between two ticks.
const PAUSE_MS_MIN: i64 = 10;
/// The pause after the store has failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Runs as long as the process.
pub(crate) async fn run(broker: Arc<Broker>) {
    if let Err(error) = renew_all(&broker).await {
        warn!(%error, "group members that were there before are not given a fresh session");
    }
    loop {
        let pause = match tick(&broker).await {
            Ok(None) => {
                broker.coordinator.changed.notified().await;
                continue;
            }
            Ok(Some(due_ms)) => {
                let pause_ms = (due_ms - broker.clock.now_ms()).max(PAUSE_MS_MIN);
                Duration::from_millis(pause_ms.unsigned_abs())
            }
            // The engine has logged the error.
            Err(_) => PAUSE_AFTER_FAILURE,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = broker.coordinator.changed.notified() => {}
        }
    }
}

/// After an outage every member gets a full session timeout: it could not reach any broker.
async fn renew_all(broker: &Broker) -> Result<(), StoreError> {
    for (group, view) in views(broker).await? {
        for (member, _) in &view.members {
            broker.coordinator.heard(&group, member);
        }
    }
    Ok(())
}

/// The groups that have timeouts.
async fn views(broker: &Broker) -> Result<Vec<(Arc<str>, GroupView)>, StoreError> {
    let mut views = Vec::new();
    for (group, document) in broker.store.groups().await? {
        if has_timeouts(&document)
            && let Some(view) = broker.store.group(&group).await?
        {
            views.push((group, view));
        }
    }
    Ok(views)
}

fn has_timeouts(group: &GroupDocument) -> bool {
    !group.members.is_empty() || !group.pending.is_empty() || group.deadline.is_some()
}

/// Sends the ticks that are due. Returns when the next one is due, in ms; `None` if none is.
pub(crate) async fn tick(broker: &Broker) -> Result<Option<i64>, StoreError> {
    let now_ms = broker.clock.now_ms();
    let views = views(broker).await?;
    let keys = |(group, view): &(Arc<str>, GroupView)| {
        let group = Arc::clone(group);
        let key = move |(member, _): &(Arc<str>, _)| super::key(&group, member);
        view.members.iter().map(key).collect::<Vec<MemberKey>>()
    };
    let members: HashSet<MemberKey> = views.iter().flat_map(keys).collect();
    broker.coordinator.keep_only(|key| members.contains(key));
    let checks: Vec<(Arc<str>, GroupCheck)> = views
        .into_iter()
        .map(|(group, view)| (Arc::clone(&group), check(&broker.coordinator, &group, &view, now_ms)))
        .collect();
    // If one lease must be renewed, all that can be are: the next write is then a whole period away.
    let renews = checks.iter().any(|(_, check)| check.must_renew);
    let next_ms = checks.iter().filter_map(|(_, check)| check.next_ms).min();
    let due = checks.into_iter().filter(|(_, check)| check.is_due || (renews && !check.heard.is_empty()));
    let commands: Vec<Command> = due
        .map(|(group, check)| Command::Group {
            group,
            command: GroupCommand::Tick { now_ms, heard: check.heard },
        })
        .collect();
    if commands.is_empty() {
        return Ok(next_ms);
    }
    broker.store.commit(&Ticket::only(), commands).await?;
    Ok(Some(now_ms))
}

/// What is due in one group.
#[derive(Default)]
struct GroupCheck {
    /// A timeout has passed.
    is_due: bool,
    /// A lease is half over, and its member has been heard from since.
    must_renew: bool,
    /// Members whose leases can be renewed, and until when.
    heard: BTreeMap<Arc<str>, i64>,
    /// When to check again.
    next_ms: Option<i64>,
}

impl GroupCheck {
    fn due_at(&mut self, at_ms: i64, now_ms: i64) {
        self.is_due |= at_ms <= now_ms;
        self.check_at(at_ms);
    }

    fn check_at(&mut self, at_ms: i64) {
        self.next_ms = Some(self.next_ms.map_or(at_ms, |next_ms| next_ms.min(at_ms)));
    }
}

fn check(coordinator: &Coordinator, group: &Arc<str>, view: &GroupView, now_ms: i64) -> GroupCheck {
    let mut check = GroupCheck::default();
    view.group.deadline.iter().for_each(|deadline| check.due_at(deadline.at_ms, now_ms));
    view.group.pending.values().for_each(|until_ms| check.due_at(*until_ms, now_ms));
    for (id, member) in &view.members {
        let heard_ms = coordinator.last_heard(&super::key(group, id), now_ms);
        check_member(&mut check, id, member, heard_ms, now_ms);
    }
    check
}

fn check_member(
    check: &mut GroupCheck,
    id: &Arc<str>,
    member: &MemberDocument,
    heard_ms: Option<i64>,
    now_ms: i64,
) {
    let session_ms = i64::from(member.session_timeout_ms);
    let renewed_ms = heard_ms.map_or(member.lease_ms, |heard_ms| heard_ms + session_ms);
    let half_over_ms = member.lease_ms - session_ms / 2;
    // A renewal by a quarter of a session is worth a write; a shorter one waits, unless the lease is about to
    // expire.
    let is_worth_it = renewed_ms - member.lease_ms >= session_ms / 4;
    if renewed_ms > member.lease_ms && (is_worth_it || now_ms >= member.lease_ms) {
        check.heard.insert(Arc::clone(id), renewed_ms);
        check.must_renew |= half_over_ms <= now_ms;
    } else if member.has_joined {
        // It waits for the rebalance, whose deadline is checked instead.
        return;
    } else if member.lease_ms <= now_ms {
        check.is_due = true;
    }
    let checks = [half_over_ms, member.lease_ms - session_ms / 4, member.lease_ms];
    check.check_at(checks.into_iter().find(|at_ms| *at_ms > now_ms).unwrap_or(now_ms));
}
