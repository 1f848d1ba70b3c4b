//! ListPartitionReassignments: of some topics, or of all. Kafka's topic tool asks with every description.

use kafka_protocol::messages::list_partition_reassignments_request::ListPartitionReassignmentsTopics;
use kafka_protocol::messages::list_partition_reassignments_response::OngoingTopicReassignment;
use kafka_protocol::messages::{ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse};

use super::items::{ItemsApi, first_error};
use super::key::ItemKey;
use crate::api::Api;
use crate::schema::walk::{Found, RawValue};

pub(super) struct ListPartitionReassignments;

impl ItemsApi for ListPartitionReassignments {
    const API: Api = Api::LIST_PARTITION_REASSIGNMENTS;
    type Request = ListPartitionReassignmentsRequest;
    type Item = ListPartitionReassignmentsTopics;
    type Response = ListPartitionReassignmentsResponse;
    type Answer = OngoingTopicReassignment;

    fn is_for_all(_: i16, found: &Found<'_>) -> bool {
        found.field.name == "Topics" && found.value == RawValue::Null
    }

    fn take_items(request: &mut ListPartitionReassignmentsRequest) -> Vec<ListPartitionReassignmentsTopics> {
        request.topics.take().unwrap_or_default()
    }

    fn put_items(
        request: &mut ListPartitionReassignmentsRequest,
        items: Vec<ListPartitionReassignmentsTopics>,
        _: i16,
    ) {
        request.topics = Some(items);
    }

    fn key(topic: &ListPartitionReassignmentsTopics) -> ItemKey {
        ItemKey::topic(&topic.name)
    }

    fn take_answers(response: &mut ListPartitionReassignmentsResponse) -> Vec<OngoingTopicReassignment> {
        std::mem::take(&mut response.topics)
    }

    fn put_answers(
        response: &mut ListPartitionReassignmentsResponse,
        answers: Vec<OngoingTopicReassignment>,
    ) {
        response.topics = answers;
    }

    fn keys(topic: &OngoingTopicReassignment) -> [ItemKey; 2] {
        [ItemKey::Nothing, ItemKey::topic(&topic.name)]
    }

    fn join(head: &mut ListPartitionReassignmentsResponse, other: ListPartitionReassignmentsResponse) {
        head.throttle_time_ms = head.throttle_time_ms.max(other.throttle_time_ms);
        if head.error_code == 0 {
            head.error_message = other.error_message;
        }
        first_error(&mut head.error_code, other.error_code);
    }
}
