//! ListGroups: the groups whose coordinator this is, all or those in some states or of some types (KIP-518, KIP-848). Clients
//! ask all brokers, and put together what they get.

use std::sync::Arc;

use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{GroupId, ListGroupsRequest, ListGroupsResponse};
use kafka_protocol::protocol::StrBytes;
use kernel::budget::Lease;
use kernel::{Call, ErrorCode};
use rules::documents::GroupDocument;

use crate::apis::common::answer::Answer;
use crate::apis::common::listing::{Found, Listing, holding, rows};
use crate::apis::common::text::{self, to_wire, to_wire_nullable};
use crate::broker::Broker;
use crate::nodes::{Cluster, Coordinates};

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: ListGroupsRequest = call.decode()?;
    call.ticket.after_writes().await;
    let wanted = Wanted::by(&request, broker.nodes.cluster(&call.session));
    let (response, lease) = match rows(broker, call, &wanted).await {
        Ok((groups, lease)) => (ListGroupsResponse::default().with_groups(groups), lease),
        Err(error) => (ListGroupsResponse::default().with_error_code(error.code()), Lease::default()),
    };
    Ok(Some(holding(call.reply(&for_version(response, call.header.version))?, lease)))
}

/// The groups in some states, and of some types.
struct Wanted<'a> {
    cluster: Cluster,
    states: Vec<StrBytes>,
    types: &'a [StrBytes],
}

impl<'a> Wanted<'a> {
    fn by(request: &'a ListGroupsRequest, cluster: Cluster) -> Self {
        // Kafka trims blanks around a state, but not around a type.
        let states = request.states_filter.iter().map(|state| text::str_bytes(state.trim()));
        Self { cluster, states: states.collect(), types: &request.types_filter }
    }
}

impl Listing for Wanted<'_> {
    type Document = GroupDocument;
    type Row = ListedGroup;

    async fn rows(
        &self,
        mut found: Vec<Found<GroupDocument>>,
    ) -> Result<Vec<(ListedGroup, usize)>, ErrorCode> {
        found.retain(|(id, group)| {
            self.cluster.coordinates(Coordinates::Group, id)
                && matches_filter(&self.states, group.state.name())
                && matches_filter(self.types, group.type_name())
        });
        Ok(found.iter().map(|(id, group)| listed(id, group)).collect())
    }
}

/// An empty filter matches everything. Names are case-insensitive, as in Kafka.
fn matches_filter(filter: &[StrBytes], name: &str) -> bool {
    filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
}

fn listed(id: &Arc<str>, group: &GroupDocument) -> (ListedGroup, usize) {
    let bytes = id.len() + group.protocol_type.as_ref().map_or(0, |kind| kind.len());
    let row = ListedGroup::default()
        .with_group_id(GroupId(to_wire(id)))
        .with_protocol_type(to_wire_nullable(group.protocol_type.as_ref()).unwrap_or_default())
        .with_group_state(text::str_bytes(group.state.name()))
        .with_group_type(text::str_bytes(group.type_name()));
    (row, bytes)
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
