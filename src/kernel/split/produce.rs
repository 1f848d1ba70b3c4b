//! Produce: by topic name, and from version 13 on by topic id. Records are copied once, into the body of their part.

use kafka_protocol::messages::produce_request::TopicProduceData;
use kafka_protocol::messages::produce_response::TopicProduceResponse;
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

use super::items::ItemsApi;
use super::key::ItemKey;
use crate::api::Api;

pub(super) struct Produce;

impl ItemsApi for Produce {
    const API: Api = Api::PRODUCE;
    type Request = ProduceRequest;
    type Item = TopicProduceData;
    type Response = ProduceResponse;
    type Answer = TopicProduceResponse;

    fn take_items(request: &mut ProduceRequest) -> Vec<TopicProduceData> {
        std::mem::take(&mut request.topic_data)
    }

    fn put_items(request: &mut ProduceRequest, items: Vec<TopicProduceData>, _: i16) {
        request.topic_data = items;
    }

    fn key(topic: &TopicProduceData) -> ItemKey {
        ItemKey::id_or_topic(topic.topic_id, Some(&topic.name))
    }

    fn take_answers(response: &mut ProduceResponse) -> Vec<TopicProduceResponse> {
        std::mem::take(&mut response.responses)
    }

    fn put_answers(response: &mut ProduceResponse, answers: Vec<TopicProduceResponse>) {
        response.responses = answers;
    }

    fn keys(topic: &TopicProduceResponse) -> [ItemKey; 2] {
        [ItemKey::id(topic.topic_id), ItemKey::topic(&topic.name)]
    }

    fn join(head: &mut ProduceResponse, other: ProduceResponse) {
        head.throttle_time_ms = head.throttle_time_ms.max(other.throttle_time_ms);
        head.node_endpoints.extend(other.node_endpoints);
    }
}
