//! What the group APIs share: checks, and commands that go through the store.

use std::collections::BTreeSet;
use std::sync::Arc;

use kafka_protocol::messages::GroupId;
use kafka_protocol::protocol::StrBytes;
use kernel::{Call, ErrorCode};
use rules::commands::{Applied, Command, GroupCommand, KnownTopics, MemberIdentity, Outcome, Refused};
use rules::groups::GroupView;
use tracing::warn;

use super::text::{to_arc, to_arc_nullable};
use crate::broker::Broker;
use crate::engines::{StoreError, Subject};

/// The generation of a reply without one.
pub(crate) const NO_GENERATION: i32 = -1;

/// Looks for topics that a command is about are so many at most: between two of them the group may change.
const LOOKS_MAX: usize = 8;

/// The member that a request comes from.
pub(crate) fn identity(id: &StrBytes, instance_id: Option<&StrBytes>, generation: i32) -> MemberIdentity {
    MemberIdentity { id: to_arc(id), instance_id: to_arc_nullable(instance_id), generation }
}

/// A group that members join must have an id; offsets may be committed without.
pub(crate) fn check_group_id(group: &GroupId) -> Result<(), ErrorCode> {
    if group.as_str().is_empty() { Err(ErrorCode::InvalidGroupId) } else { Ok(()) }
}

/// Clients treat a storage error as fatal where they ask for a coordinator; this error they retry.
pub(crate) fn store_failed(call: &Call, error: &StoreError) -> ErrorCode {
    warn!(api = %call.header.api, %error, "a request failed because the store did");
    ErrorCode::CoordinatorNotAvailable
}

/// Commits a command of a group.
pub(crate) async fn commit(
    broker: &Broker,
    call: &Call,
    group: &Arc<str>,
    command: GroupCommand,
) -> Result<Applied, ErrorCode> {
    let outcome = commit_refusable(broker, call, group, command).await;
    outcome.map_err(|error| store_failed(call, &error))?.map_err(|Refused { error, .. }| error)
}

/// The same, with the sentence of a refusal.
pub(crate) async fn commit_refusable(
    broker: &Broker,
    call: &Call,
    group: &Arc<str>,
    command: GroupCommand,
) -> Result<Outcome, StoreError> {
    let command = Command::Group { group: Arc::clone(group), command };
    let outcome = broker.store.commit_one(&call.ticket, command).await?;
    broker.coordinator.group_changed();
    Ok(outcome)
}

/// Commits a command of a group that may need facts about topics, which may be another service's.
pub(crate) async fn commit_with_topics(
    broker: &Broker,
    call: &Call,
    group: &Arc<str>,
    mut command: GroupCommand,
) -> Result<Outcome, StoreError> {
    for _ in 0..LOOKS_MAX {
        match commit_refusable(broker, call, group, command.clone()).await? {
            Ok(Applied::MissingTopics(names)) => add_facts(broker, &mut command, &names).await?,
            outcome => return Ok(outcome),
        }
    }
    Ok(Err(ErrorCode::CoordinatorLoadInProgress.into()))
}

/// Looks topics up and puts what was found into the command.
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

/// Waits until a look at a group gives an answer. It looks again whenever the group changes.
pub(crate) async fn wait_for<T>(
    broker: &Broker,
    call: &Call,
    group: &Arc<str>,
    look: impl Fn(Option<&GroupView>) -> Option<Result<T, ErrorCode>>,
) -> Result<T, ErrorCode> {
    let failed = |error: StoreError| store_failed(call, &error);
    let watch = broker.store.watch(&[Subject::Group(Arc::clone(group))]).await.map_err(failed)?;
    loop {
        let view = broker.store.group(group).await.map_err(failed)?;
        if let Some(answer) = look(view.as_ref()) {
            return answer;
        }
        tokio::select! {
            _ = watch.changed() => {}
            // The next broker carries the group on: the client looks for it.
            () = call.session.drain.started() => return Err(ErrorCode::NotCoordinator),
        }
    }
}
