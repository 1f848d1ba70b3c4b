//! DeleteGroups: ends groups that have no members, and forgets their offsets (KIP-229).

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};
use kernel::Call;

use super::grouping::{change, own};
use super::lookup::last_words;
use crate::rules::groups::GroupChange;
use crate::service::{Answer, Service};

pub(crate) async fn handle(service: &Service, call: &mut Call) -> Answer {
    let request: DeleteGroupsRequest = call.decode()?;
    let mut results = Vec::with_capacity(request.groups_names.len());
    // A group that stands there twice is deleted and told once, as in Kafka.
    for (group, ()) in last_words(request.groups_names.into_iter().map(|group| (group, ())).collect()) {
        let deleted = change(service, call, &own(&group.0), GroupChange::Delete).await;
        let code = deleted.err().map_or(0, |error| error.code());
        results.push(DeletableGroupResult::default().with_group_id(group).with_error_code(code));
    }
    let response = DeleteGroupsResponse::default().with_results(results);
    Ok(Some(call.reply(&response)?))
}
