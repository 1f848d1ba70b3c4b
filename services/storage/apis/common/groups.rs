//! Code shared by the group APIs: checks, and commands that the store commits.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::messages::GroupId;
use kafka_protocol::protocol::StrBytes;
use kernel::{Call, ErrorCode};
use rules::commands::{Applied, Command, GroupCommand, KnownTopics, MemberIdentity, Outcome, Refused};
use rules::groups::MemberView;

use super::leaving::note_failure;
use super::text::{to_arc, to_arc_nullable};
use crate::broker::Broker;
use crate::engines::{StoreError, Subject};

/// Kafka's "no generation id".
pub(crate) const NO_GENERATION: i32 = -1;

/// Limit on topic lookups for one command: the group may change between two lookups.
const LOOKUPS_MAX: usize = 8;

/// The member that a request comes from.
pub(crate) fn identity(id: &StrBytes, instance_id: Option<&StrBytes>, generation: i32) -> MemberIdentity {
    MemberIdentity { id: to_arc(id), instance_id: to_arc_nullable(instance_id), generation }
}

/// A group with members must have a group id; offsets may be committed for the empty id.
pub(crate) fn check_group_id(group: &GroupId) -> Result<(), ErrorCode> {
    if group.as_str().is_empty() { Err(ErrorCode::InvalidGroupId) } else { Ok(()) }
}

/// Clients treat a storage error from a coordinator as fatal; COORDINATOR_NOT_AVAILABLE they retry.
pub(crate) fn store_failed(call: &Call, error: &StoreError) -> ErrorCode {
    note_failure(call, error);
    ErrorCode::CoordinatorNotAvailable
}

/// Commits a group command.
pub(crate) async fn commit(
    broker: &Broker,
    call: &Call,
    group: &Arc<str>,
    command: GroupCommand,
) -> Result<Applied, ErrorCode> {
    let outcome = commit_refusable(broker, call, group, command).await;
    outcome.map_err(|error| store_failed(call, &error))?.map_err(|Refused { error, .. }| error)
}

/// The same, but a refusal keeps its message.
pub(crate) async fn commit_refusable(
    broker: &Broker,
    call: &Call,
    group: &Arc<str>,
    command: GroupCommand,
) -> Result<Outcome, StoreError> {
    let changes_timeouts = command.changes_timeouts();
    let command = Command::Group { group: Arc::clone(group), command };
    let outcome = broker.store.commit_one(&call.ticket, command).await?;
    if changes_timeouts {
        broker.coordinator.group_changed(group);
    }
    Ok(outcome)
}

/// Commits a group command that may need facts about topics, which may belong to another service.
pub(crate) async fn commit_with_topics(
    broker: &Broker,
    call: &Call,
    group: &Arc<str>,
    mut command: GroupCommand,
) -> Result<Outcome, StoreError> {
    for _ in 0..LOOKUPS_MAX {
        match commit_refusable(broker, call, group, command.clone()).await? {
            Ok(Applied::MissingTopics(names)) => {
                add_facts(broker, &mut command, &names).await?;
                if let Some(known) = known_topics(&mut command) {
                    known.let_others_stand();
                }
            }
            outcome => return Ok(outcome),
        }
    }
    Ok(Err(ErrorCode::CoordinatorLoadInProgress.into()))
}

/// Looks up topics and adds what was found to the command.
pub(crate) async fn add_facts(
    broker: &Broker,
    command: &mut GroupCommand,
    names: &BTreeSet<Arc<str>>,
) -> Result<(), StoreError> {
    let found = broker.directory().by_name(names.iter().cloned().collect()).await.map_err(StoreError)?;
    if let Some(known) = known_topics(command) {
        known.add(names, found);
    }
    Ok(())
}

fn known_topics(command: &mut GroupCommand) -> Option<&mut KnownTopics> {
    match command {
        GroupCommand::Join(join) => Some(&mut join.known_topics),
        GroupCommand::ConsumerHeartbeat(heartbeat) => Some(&mut heartbeat.known_topics),
        _ => None,
    }
}

/// Waits until `look` returns an answer for a member. It is called again whenever the group changes.
pub(crate) async fn wait_for<T>(
    broker: &Broker,
    call: &Call,
    group: &Arc<str>,
    member: &MemberIdentity,
    look: impl Fn(Option<&MemberView>) -> Option<Result<T, ErrorCode>>,
) -> Result<T, ErrorCode> {
    let failed = |error: StoreError| store_failed(call, &error);
    // Later calls of the connection need not wait for other members.
    call.ticket.settled();
    let watch = broker.store.watch(&[Subject::Group(Arc::clone(group))]).await.map_err(failed)?;
    loop {
        // Of a group of a thousand members a thousand may wait: each looks at itself alone.
        let view = broker.store.member_view(group, member).await.map_err(failed)?;
        if let Some(answer) = look(view.as_ref()) {
            return answer;
        }
        tokio::select! {
            _ = watch.changed() => {}
            // This broker is draining: the client looks up the coordinator again and continues there.
            () = call.session.drain.started() => return Err(ErrorCode::NotCoordinator),
            // Nobody waits for it any more.
            () = call.session.ended() => return Err(ErrorCode::NotCoordinator),
        }
    }
}
