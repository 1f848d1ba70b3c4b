//! DeleteGroups: ends groups that have no members, and forgets their offsets (KIP-229).

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};
use kernel::Call;

use crate::apis::common::answer::Answer;
use crate::apis::common::groups::commit;
use crate::apis::common::requests::keep_last;
use crate::apis::common::text::to_arc;
use crate::broker::Broker;
use rules::commands::GroupCommand;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: DeleteGroupsRequest = call.decode()?;
    let mut results = Vec::with_capacity(request.groups_names.len());
    // A group that stands there twice is deleted and told once, as in Kafka.
    for (group, ()) in keep_last(request.groups_names.into_iter().map(|group| (group, ())).collect()) {
        let deleted = commit(broker, call, &to_arc(&group.0), GroupCommand::Delete).await;
        let code = deleted.err().map_or(0, |error| error.code());
        results.push(DeletableGroupResult::default().with_group_id(group).with_error_code(code));
    }
    let response = DeleteGroupsResponse::default().with_results(results);
    Ok(Some(call.reply(&response)?))
}
