//! Metadata: some topics by name or id, or all. Brokers, controller and cluster id are the default owner's.

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::MetadataResponseTopic;
use kafka_protocol::messages::{MetadataRequest, MetadataResponse};

use super::items::{ItemsApi, first_error};
use super::key::ItemKey;
use crate::api::Api;
use crate::schema::walk::{Found, RawValue};

pub(super) struct Metadata;

impl ItemsApi for Metadata {
    const API: Api = Api::METADATA;
    type Request = MetadataRequest;
    type Item = MetadataRequestTopic;
    type Response = MetadataResponse;
    type Answer = MetadataResponseTopic;

    /// All topics are null, in version 0 an empty list.
    fn is_for_all(version: i16, found: &Found<'_>) -> bool {
        let is_all = match found.value {
            RawValue::Null => true,
            RawValue::Array(0) => version == 0,
            _ => false,
        };
        is_all && found.field.name == "Topics"
    }

    /// If there is an id, Kafka uses only ids and ignores all names; a part would not see the ids of the others.
    fn take_items(request: &mut MetadataRequest) -> Vec<MetadataRequestTopic> {
        let mut topics = request.topics.take().unwrap_or_default();
        if topics.iter().any(|topic| !topic.topic_id.is_nil()) {
            topics.retain(|topic| !topic.topic_id.is_nil());
        }
        topics
    }

    fn put_items(request: &mut MetadataRequest, items: Vec<MetadataRequestTopic>, _: i16) {
        request.topics = Some(items);
    }

    fn key(topic: &MetadataRequestTopic) -> ItemKey {
        ItemKey::id_or_topic(topic.topic_id, topic.name.as_ref())
    }

    fn take_answers(response: &mut MetadataResponse) -> Vec<MetadataResponseTopic> {
        std::mem::take(&mut response.topics)
    }

    fn put_answers(response: &mut MetadataResponse, answers: Vec<MetadataResponseTopic>) {
        response.topics = answers;
    }

    fn keys(topic: &MetadataResponseTopic) -> [ItemKey; 2] {
        [ItemKey::id(topic.topic_id), ItemKey::optional_topic(topic.name.as_ref())]
    }

    fn join(head: &mut MetadataResponse, other: MetadataResponse) {
        head.throttle_time_ms = head.throttle_time_ms.max(other.throttle_time_ms);
        first_error(&mut head.error_code, other.error_code);
    }
}
