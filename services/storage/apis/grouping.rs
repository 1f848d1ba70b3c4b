//! What the group APIs share: texts, checks, and changes that go through the store.

use std::sync::Arc;

use kafka_protocol::messages::GroupId;
use kafka_protocol::protocol::StrBytes;
use kernel::{Call, ErrorCode};
use tracing::warn;

use crate::engines::{StoreError, Subject};
use crate::rules::groups::{GroupChange, Member};
use crate::rules::{Command, Done, Outcome, Refused};
use crate::service::Service;
use crate::store::GroupView;

/// The generation of a reply without one.
pub(super) const NO_GENERATION: i32 = -1;

/// What a client may do to a group where nobody asks who it is: Kafka's bits of all operations that a group has.
pub(super) const GROUP_OPERATIONS: i32 = 3400;

/// A text on memory of its own, so that it may outlive the frame it was read from.
pub(super) fn own(text: &StrBytes) -> Arc<str> {
    Arc::from(text.as_str())
}

/// The same, of one that may be null.
pub(super) fn own_nullable(text: Option<&StrBytes>) -> Option<Arc<str>> {
    text.map(own)
}

/// A text for a reply.
pub(super) fn wire(text: &Arc<str>) -> StrBytes {
    super::shared::words(text)
}

/// The same, of one that may be null.
pub(super) fn wire_nullable(text: Option<&Arc<str>>) -> Option<StrBytes> {
    text.map(wire)
}

/// The member that a request comes from.
pub(super) fn member(id: &StrBytes, instance_id: Option<&StrBytes>, generation: i32) -> Member {
    Member { id: own(id), instance_id: own_nullable(instance_id), generation }
}

/// A group that members join must have an id; offsets may be committed without.
pub(super) fn check_group_id(group: &GroupId) -> Result<(), ErrorCode> {
    if group.as_str().is_empty() { Err(ErrorCode::InvalidGroupId) } else { Ok(()) }
}

/// Clients take an error of the storage for the end of the world where they ask for a coordinator; this one they retry.
pub(super) fn store_failed(call: &Call, error: &StoreError) -> ErrorCode {
    warn!(api = %call.header.api, %error, "a request failed because the store did");
    ErrorCode::CoordinatorNotAvailable
}

/// Changes a group.
pub(super) async fn change(
    service: &Service,
    call: &Call,
    group: &Arc<str>,
    change: GroupChange,
) -> Result<Done, ErrorCode> {
    let command = Command::Group { group: Arc::clone(group), change };
    let outcome: Outcome =
        service.store.commit_one(&call.ticket, command).await.map_err(|error| store_failed(call, &error))?;
    service.coordinator.group_changed();
    outcome.map_err(|Refused { error, .. }| error)
}

/// Waits until a look at a group gives an answer. It looks again whenever the group changes.
pub(super) async fn wait_for<T>(
    service: &Service,
    call: &Call,
    group: &Arc<str>,
    look: impl Fn(Option<&GroupView>) -> Option<Result<T, ErrorCode>>,
) -> Result<T, ErrorCode> {
    let failed = |error: StoreError| store_failed(call, &error);
    let watch = service.store.watch(&[Subject::Group(Arc::clone(group))]).await.map_err(failed)?;
    loop {
        let view = service.store.group(group).await.map_err(failed)?;
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

/// Why a member that is no longer there is told no: somebody may have taken a static member's place.
pub(super) fn gone(view: Option<&GroupView>, member: &Member) -> ErrorCode {
    let taken = view.is_some_and(|view| {
        view.members
            .iter()
            .any(|(_, other)| other.instance_id.is_some() && other.instance_id == member.instance_id)
    });
    if taken { ErrorCode::FencedInstanceId } else { ErrorCode::UnknownMemberId }
}
