//! ListPartitionReassignments (KIP-455): a partition has one replica, the store, and is never reassigned.

use kafka_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};
use kernel::Call;

use crate::apis::common::answer::Answer;
use crate::broker::Broker;

pub(crate) async fn handle(_: &Broker, call: &mut Call) -> Answer {
    let _: ListPartitionReassignmentsRequest = call.decode()?;
    let response = ListPartitionReassignmentsResponse::default().with_error_message(None);
    Ok(Some(call.reply(&response)?))
}
