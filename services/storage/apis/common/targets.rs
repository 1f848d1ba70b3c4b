//! Calls that wait for the target assignment of a group of the consumer protocol (KIP-848).

use std::sync::Arc;
use std::time::Duration;

use kernel::{Call, ErrorCode};
use rules::commands::{
    Advance, Applied, Command, GroupCommand, HeartbeatReply, InstallTarget, JOIN_EPOCH, Outcome,
};
use rules::documents::GroupDocument;
use tokio::sync::OwnedMutexGuard;
use tokio::time::{Instant, timeout_at};

use crate::broker::Broker;
use crate::engines::StoreError;

/// How often one call computes or awaits a target. If none is installed then that knows of its member, that is told what
/// is there, and gets its new assignment with a later heartbeat.
const ROUNDS_MAX: usize = 3;

/// How long it does so, at most. Tests run on machines that are busy with others.
const WAIT_MAX: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 1 });

/// Continues a call once a target assignment is installed that knows of its member.
pub(crate) async fn advance(
    broker: &Broker,
    call: &Call,
    group: &Arc<str>,
    mut advance: Advance,
) -> Result<Outcome, StoreError> {
    // The broker must not expire a member whose call it holds itself.
    let _waits = broker.coordinator.waits(group, &advance.member_id);
    let deadline = Instant::now() + WAIT_MAX;
    let mut round = 0;
    loop {
        round += 1;
        let mut commands = Vec::with_capacity(2);
        let due = timeout_at(deadline, due_target(broker, group, advance.awaited_epoch)).await;
        let is_late = due.is_err();
        let turn = due.unwrap_or(Ok(None))?.map(|(target, turn)| {
            commands.push(GroupCommand::InstallTarget(target));
            turn
        });
        advance.waits_for_target = round < ROUNDS_MAX && !is_late;
        commands.push(GroupCommand::Advance(Box::new(advance)));
        let outcome = commit_all(broker, call, group, commands).await?;
        drop(turn);
        match outcome {
            // The target was not installed. A call that does not wait does not come here.
            Ok(Applied::TargetDue(due)) => advance = *due,
            // A member that has joined must not be told that it has not. This is the assignment epoch of a group that an
            // earlier release began, or that was a classic one in its first rebalance, and only until a target is installed.
            Ok(Applied::Heartbeat(HeartbeatReply { member_epoch: JOIN_EPOCH, .. })) => {
                return Ok(Err(ErrorCode::CoordinatorLoadInProgress.into()));
            }
            outcome => return Ok(outcome),
        }
    }
}

/// Computes the target assignment of a group, if that of an epoch or of a later one is due. Others that need it wait while
/// the turn is kept, and find that it knows of them as well.
async fn due_target(
    broker: &Broker,
    group: &Arc<str>,
    awaited_epoch: i32,
) -> Result<Option<(InstallTarget, OwnedMutexGuard<()>)>, StoreError> {
    let turn = broker.targets.turn(group).await;
    let document = broker.store.get_one::<GroupDocument>(group).await?;
    let assignment_epoch = document.and_then(|document| Some(document.consumer.as_ref()?.assignment_epoch));
    if assignment_epoch.is_none_or(|epoch| epoch >= awaited_epoch) {
        return Ok(None);
    }
    let Some(view) = broker.store.group_to_assign(group).await? else { return Ok(None) };
    let target = broker.targets.compute(view, broker.time.now_ms()).await?;
    Ok(target.map(|target| (target, turn)))
}

/// Commits commands of a group at once, and returns the outcome of the last one.
async fn commit_all(
    broker: &Broker,
    call: &Call,
    group: &Arc<str>,
    commands: Vec<GroupCommand>,
) -> Result<Outcome, StoreError> {
    let commands =
        commands.into_iter().map(|command| Command::Group { group: Arc::clone(group), command }).collect();
    let outcomes = broker.store.commit(&call.ticket, commands).await?;
    broker.coordinator.group_changed(group);
    outcomes.into_iter().next_back().ok_or_else(|| StoreError("the engine gave no outcome".to_owned()))
}
