//! DeleteGroups: ends groups that have no members, and forgets their offsets (KIP-229).

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};
use kernel::Call;

use super::grouping::{change, check_group_id, own};
use crate::rules::groups::GroupChange;
use crate::service::{Answer, Service};

pub(crate) async fn handle(service: &Service, call: &mut Call) -> Answer {
    let request: DeleteGroupsRequest = call.decode()?;
    let mut results = Vec::with_capacity(request.groups_names.len());
    for group in request.groups_names {
        let deleted = match check_group_id(&group) {
            Ok(()) => change(service, call, &own(&group.0), GroupChange::Delete).await.map(|_| ()),
            Err(error) => Err(error),
        };
        let code = deleted.err().map_or(0, |error| error.code());
        results.push(DeletableGroupResult::default().with_group_id(group).with_error_code(code));
    }
    let response = DeleteGroupsResponse::default().with_results(results);
    Ok(Some(call.reply(&response)?))
}
