//! ListGroups: all groups, or those in some states or of some types (KIP-518, KIP-848).

use std::sync::Arc;

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;
use kernel::Call;
use rules::documents::GroupDocument;

use crate::apis::common::answer::Answer;
use crate::apis::common::groups::store_failed;
use crate::apis::common::text::{self, to_wire, to_wire_nullable};
use crate::broker::Broker;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: ListGroupsRequest = call.decode()?;
    // Kafka trims blanks around a state, but not around a type.
    let states: Vec<StrBytes> =
        request.states_filter.iter().map(|state| text::str_bytes(state.trim())).collect();
    call.ticket.after_writes().await;
    let response = match broker.store.groups().await {
        Ok(groups) => {
            let wanted = |(_, group): &(Arc<str>, Arc<GroupDocument>)| {
                matches_filter(&states, group.state.name())
                    && matches_filter(&request.types_filter, group.type_name())
            };
            let listed = groups.into_iter().filter(wanted).map(|(id, group)| listed(&id, &group));
            ListGroupsResponse::default().with_groups(listed.collect())
        }
        Err(error) => ListGroupsResponse::default().with_error_code(store_failed(call, &error).code()),
    };
    Ok(Some(call.reply(&for_version(response, call.header.version))?))
}

/// An empty filter matches everything. Names are case-insensitive, as in Kafka.
fn matches_filter(filter: &[StrBytes], name: &str) -> bool {
    filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
}

fn listed(id: &Arc<str>, group: &GroupDocument) -> ListedGroup {
    ListedGroup::default()
        .with_group_id(GroupId(to_wire(id)))
        .with_protocol_type(to_wire_nullable(group.protocol_type.as_ref()).unwrap_or_default())
        .with_group_state(text::str_bytes(group.state.name()))
        .with_group_type(text::str_bytes(group.type_name()))
}

/// Clears states and types in versions that do not have them.
fn for_version(mut response: ListGroupsResponse, version: i16) -> ListGroupsResponse {
    for group in &mut response.groups {
        if version < 4 {
            group.group_state = StrBytes::default();
        }
        if version < 5 {
            group.group_type = StrBytes::default();
        }
    }
    response
}
