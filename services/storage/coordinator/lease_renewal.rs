//! Lets time pass for groups: renews leases, lets those of silent members lapse, ends waits that are over.
//!
//! It sleeps until the next thing is due, so that a broker without groups never wakes. What it finds due goes to the store
//! as ticks, those of all groups in one commit: a thousand groups cost one write in a renewal period. The rules check
//! every tick against what is stored by then, so a tick that comes late or twice does no harm.

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

/// It does not wake more often than this, whatever is due.
const PAUSE_MS_MIN: i64 = 10;
/// Until it tries again when the store has failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Runs as long as the process.
pub(crate) async fn run(broker: Arc<Broker>) {
    if let Err(error) = begin(&broker).await {
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
            // The engine has told the operator.
            Err(_) => PAUSE_AFTER_FAILURE,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = broker.coordinator.changed.notified() => {}
        }
    }
}

/// After an outage every member has a whole session to be heard from again: it could not reach anybody.
async fn begin(broker: &Broker) -> Result<(), StoreError> {
    for (group, view) in views(broker).await? {
        for (member, _) in &view.members {
            broker.coordinator.heard(&group, member);
        }
    }
    Ok(())
}

/// The groups in which time matters.
async fn views(broker: &Broker) -> Result<Vec<(Arc<str>, GroupView)>, StoreError> {
    let mut views = Vec::new();
    for (group, document) in broker.store.groups().await? {
        if has_time(&document)
            && let Some(view) = broker.store.group(&group).await?
        {
            views.push((group, view));
        }
    }
    Ok(views)
}

fn has_time(group: &GroupDocument) -> bool {
    !group.members.is_empty() || !group.pending.is_empty() || group.deadline.is_some()
}

/// Does what is due. Says when something will be next, in ms; `None` if nothing will.
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
    let looks: Vec<(Arc<str>, Look)> = views
        .into_iter()
        .map(|(group, view)| (Arc::clone(&group), look(&broker.coordinator, &group, &view, now_ms)))
        .collect();
    // When one lease must be renewed all are that can be: the next write is then a whole period away.
    let renews = looks.iter().any(|(_, look)| look.must_renew);
    let next_ms = looks.iter().filter_map(|(_, look)| look.next_ms).min();
    let due = looks.into_iter().filter(|(_, look)| look.is_due || (renews && !look.heard.is_empty()));
    let commands: Vec<Command> = due
        .map(|(group, look)| Command::Group {
            group,
            command: GroupCommand::Tick { now_ms, heard: look.heard },
        })
        .collect();
    if commands.is_empty() {
        return Ok(next_ms);
    }
    broker.store.commit(&Ticket::only(), commands).await?;
    Ok(Some(now_ms))
}

/// What time means for one group.
#[derive(Default)]
struct Look {
    /// Something is to be done now.
    is_due: bool,
    /// A lease is half over, and its member has been heard from since.
    must_renew: bool,
    /// Members whose leases can be renewed, and until when.
    heard: BTreeMap<Arc<str>, i64>,
    /// When to look again.
    next_ms: Option<i64>,
}

impl Look {
    fn due_at(&mut self, at_ms: i64, now_ms: i64) {
        self.is_due |= at_ms <= now_ms;
        self.again_at(at_ms);
    }

    fn again_at(&mut self, at_ms: i64) {
        self.next_ms = Some(self.next_ms.map_or(at_ms, |next_ms| next_ms.min(at_ms)));
    }
}

fn look(coordinator: &Coordinator, group: &Arc<str>, view: &GroupView, now_ms: i64) -> Look {
    let mut look = Look::default();
    view.group.deadline.iter().for_each(|deadline| look.due_at(deadline.at_ms, now_ms));
    view.group.pending.values().for_each(|until_ms| look.due_at(*until_ms, now_ms));
    for (id, member) in &view.members {
        let heard_ms = coordinator.last_heard(&super::key(group, id), now_ms);
        look_at(&mut look, id, member, heard_ms, now_ms);
    }
    look
}

fn look_at(look: &mut Look, id: &Arc<str>, member: &MemberDocument, heard_ms: Option<i64>, now_ms: i64) {
    let session_ms = i64::from(member.session_timeout_ms);
    let renewed_ms = heard_ms.map_or(member.lease_ms, |heard_ms| heard_ms + session_ms);
    let half_over_ms = member.lease_ms - session_ms / 2;
    // A quarter of a session is worth a write; less waits for the next one, unless the lease is about to lapse.
    let is_worth_it = renewed_ms - member.lease_ms >= session_ms / 4;
    if renewed_ms > member.lease_ms && (is_worth_it || now_ms >= member.lease_ms) {
        look.heard.insert(Arc::clone(id), renewed_ms);
        look.must_renew |= half_over_ms <= now_ms;
    } else if member.has_joined {
        // It waits for the group, whose deadline is looked at.
        return;
    } else if member.lease_ms <= now_ms {
        look.is_due = true;
    }
    let checks = [half_over_ms, member.lease_ms - session_ms / 4, member.lease_ms];
    look.again_at(checks.into_iter().find(|at_ms| *at_ms > now_ms).unwrap_or(now_ms));
}
