//! DeleteGroups (KIP-229): deletes empty groups and their committed offsets.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};
use kernel::Call;
use rules::commands::GroupCommand;

use crate::apis::common::answer::Answer;
use crate::apis::common::groups::commit;
use crate::apis::common::requests::keep_last;
use crate::apis::common::text::to_arc;
use crate::broker::Broker;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: DeleteGroupsRequest = call.decode()?;
    let mut results = Vec::with_capacity(request.groups_names.len());
    // A duplicate group is deleted and listed once, as in Kafka.
    for (group, ()) in keep_last(request.groups_names.into_iter().map(|group| (group, ())).collect()) {
        let deleted = commit(broker, call, &to_arc(&group.0), GroupCommand::Delete).await;
        let code = deleted.err().map_or(0, |error| error.code());
        results.push(DeletableGroupResult::default().with_group_id(group).with_error_code(code));
    }
    let response = DeleteGroupsResponse::default().with_results(results);
    Ok(Some(call.reply(&response)?))
}
