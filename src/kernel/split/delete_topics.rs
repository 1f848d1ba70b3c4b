//! DeleteTopics: a list of names, and from version 6 on a list of names and ids.

use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};

use super::items::ItemsApi;
use super::key::ItemKey;
use crate::api::Api;

/// From this version on topics are structs.
const STRUCTS_FROM: i16 = 6;

pub(super) struct DeleteTopics;

impl ItemsApi for DeleteTopics {
    const API: Api = Api::DELETE_TOPICS;
    type Request = DeleteTopicsRequest;
    type Item = DeleteTopicState;
    type Response = DeleteTopicsResponse;
    type Answer = DeletableTopicResult;

    fn take_items(request: &mut DeleteTopicsRequest) -> Vec<DeleteTopicState> {
        let names = std::mem::take(&mut request.topic_names).into_iter();
        let named = names.map(|name| DeleteTopicState::default().with_name(Some(name)));
        named.chain(std::mem::take(&mut request.topics)).collect()
    }

    fn put_items(request: &mut DeleteTopicsRequest, items: Vec<DeleteTopicState>, version: i16) {
        if version < STRUCTS_FROM {
            request.topic_names = items.into_iter().filter_map(|topic| topic.name).collect();
        } else {
            request.topics = items;
        }
    }

    fn key(topic: &DeleteTopicState) -> ItemKey {
        ItemKey::id_or_topic(topic.topic_id, topic.name.as_ref())
    }

    fn take_answers(response: &mut DeleteTopicsResponse) -> Vec<DeletableTopicResult> {
        std::mem::take(&mut response.responses)
    }

    fn put_answers(response: &mut DeleteTopicsResponse, answers: Vec<DeletableTopicResult>) {
        response.responses = answers;
    }

    fn keys(topic: &DeletableTopicResult) -> [ItemKey; 2] {
        [ItemKey::id(topic.topic_id), ItemKey::optional_topic(topic.name.as_ref())]
    }

    fn join(head: &mut DeleteTopicsResponse, other: DeleteTopicsResponse) {
        head.throttle_time_ms = head.throttle_time_ms.max(other.throttle_time_ms);
    }
}
