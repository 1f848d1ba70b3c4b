//! ListConfigResources: the topics of all owners; other resources are those of the owner of their type.

use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{ListConfigResourcesRequest, ListConfigResourcesResponse};
use kafka_protocol::protocol::StrBytes;

use super::items::{ItemsApi, first_error};
use super::key::ItemKey;
use crate::api::Api;
use crate::schema::walk::{Found, RawValue};

/// The type of topics.
const TOPIC: i8 = 2;

pub(super) struct ListConfigResources;

impl ItemsApi for ListConfigResources {
    const API: Api = Api::LIST_CONFIG_RESOURCES;
    type Request = ListConfigResourcesRequest;
    type Item = i8;
    type Response = ListConfigResourcesResponse;
    type Answer = ConfigResource;

    /// It lists types; none are all. Version 0 has no types and lists client metrics only.
    fn is_for_all(_: i16, found: &Found<'_>) -> bool {
        let has_topics = match found.value {
            RawValue::Array(0) => true,
            RawValue::Int(resource_type) => resource_type == i64::from(TOPIC),
            _ => false,
        };
        has_topics && found.field.name == "ResourceTypes"
    }

    fn take_items(request: &mut ListConfigResourcesRequest) -> Vec<i8> {
        std::mem::take(&mut request.resource_types)
    }

    fn put_items(request: &mut ListConfigResourcesRequest, items: Vec<i8>, _: i16) {
        request.resource_types = items;
    }

    /// A type, whatever the names.
    fn key(resource_type: &i8) -> ItemKey {
        ItemKey::Resource(*resource_type, StrBytes::default())
    }

    fn take_answers(response: &mut ListConfigResourcesResponse) -> Vec<ConfigResource> {
        std::mem::take(&mut response.config_resources)
    }

    fn put_answers(response: &mut ListConfigResourcesResponse, answers: Vec<ConfigResource>) {
        response.config_resources = answers;
    }

    /// Before version 1 all resources are client metrics, whatever the type's default.
    fn keys(resource: &ConfigResource) -> [ItemKey; 2] {
        [ItemKey::Nothing, ItemKey::resource(resource.resource_type, &resource.resource_name)]
    }

    fn join(head: &mut ListConfigResourcesResponse, other: ListConfigResourcesResponse) {
        head.throttle_time_ms = head.throttle_time_ms.max(other.throttle_time_ms);
        first_error(&mut head.error_code, other.error_code);
    }
}
