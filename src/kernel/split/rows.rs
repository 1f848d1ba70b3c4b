//! APIs that are a list of topics or resources and nothing else: a row each.

use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::CreatableTopicResult;
use kafka_protocol::messages::delete_records_request::DeleteRecordsTopic;
use kafka_protocol::messages::delete_records_response::DeleteRecordsTopicResult;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_producers_response::TopicResponse;
use kafka_protocol::messages::incremental_alter_configs_request::AlterConfigsResource as IncrementalResource;
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse as IncrementalResponse;
use kafka_protocol::messages::list_offsets_request::ListOffsetsTopic;
use kafka_protocol::messages::list_offsets_response::ListOffsetsTopicResponse;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderTopic;
use kafka_protocol::messages::offset_for_leader_epoch_response::OffsetForLeaderTopicResult;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, CreatePartitionsRequest, CreatePartitionsResponse,
    CreateTopicsRequest, CreateTopicsResponse, DeleteRecordsRequest, DeleteRecordsResponse,
    DescribeConfigsRequest, DescribeConfigsResponse, DescribeProducersRequest, DescribeProducersResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, ListOffsetsRequest, ListOffsetsResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse,
};

use super::items::ItemsApi;
use super::key::ItemKey;
use crate::api::Api;

/// `NAME = API: REQUEST.field of ITEM (what names it) => RESPONSE.field of ANSWER (what names it);`
macro_rules! rows {
    ($($name:ident = $api:ident:
        $request:ty, $items:ident of $item:ty, |$asked:ident| $key:expr =>
        $response:ty, $answers:ident of $answer:ty, |$told:ident| $told_key:expr;)*) => {$(
        pub(super) struct $name;

        impl ItemsApi for $name {
            const API: Api = Api::$api;
            type Request = $request;
            type Item = $item;
            type Response = $response;
            type Answer = $answer;

            fn take_items(request: &mut $request) -> Vec<$item> {
                std::mem::take(&mut request.$items)
            }

            fn put_items(request: &mut $request, items: Vec<$item>, _: i16) {
                request.$items = items;
            }

            fn key($asked: &$item) -> ItemKey {
                $key
            }

            fn take_answers(response: &mut $response) -> Vec<$answer> {
                std::mem::take(&mut response.$answers)
            }

            fn put_answers(response: &mut $response, answers: Vec<$answer>) {
                response.$answers = answers;
            }

            fn keys($told: &$answer) -> [ItemKey; 2] {
                [ItemKey::Nothing, $told_key]
            }

            fn join(head: &mut $response, other: $response) {
                head.throttle_time_ms = head.throttle_time_ms.max(other.throttle_time_ms);
            }
        }
    )*};
}

rows! {
    ListOffsets = LIST_OFFSETS:
        ListOffsetsRequest, topics of ListOffsetsTopic, |topic| ItemKey::topic(&topic.name) =>
        ListOffsetsResponse, topics of ListOffsetsTopicResponse, |topic| ItemKey::topic(&topic.name);
    OffsetForLeaderEpoch = OFFSET_FOR_LEADER_EPOCH:
        OffsetForLeaderEpochRequest, topics of OffsetForLeaderTopic, |topic| ItemKey::topic(&topic.topic) =>
        OffsetForLeaderEpochResponse, topics of OffsetForLeaderTopicResult, |topic| ItemKey::topic(&topic.topic);
    CreateTopics = CREATE_TOPICS:
        CreateTopicsRequest, topics of CreatableTopic, |topic| ItemKey::topic(&topic.name) =>
        CreateTopicsResponse, topics of CreatableTopicResult, |topic| ItemKey::topic(&topic.name);
    CreatePartitions = CREATE_PARTITIONS:
        CreatePartitionsRequest, topics of CreatePartitionsTopic, |topic| ItemKey::topic(&topic.name) =>
        CreatePartitionsResponse, results of CreatePartitionsTopicResult, |topic| ItemKey::topic(&topic.name);
    DeleteRecords = DELETE_RECORDS:
        DeleteRecordsRequest, topics of DeleteRecordsTopic, |topic| ItemKey::topic(&topic.name) =>
        DeleteRecordsResponse, topics of DeleteRecordsTopicResult, |topic| ItemKey::topic(&topic.name);
    DescribeProducers = DESCRIBE_PRODUCERS:
        DescribeProducersRequest, topics of TopicRequest, |topic| ItemKey::topic(&topic.name) =>
        DescribeProducersResponse, topics of TopicResponse, |topic| ItemKey::topic(&topic.name);
    DescribeConfigs = DESCRIBE_CONFIGS:
        DescribeConfigsRequest, resources of DescribeConfigsResource,
        |asked| ItemKey::resource(asked.resource_type, &asked.resource_name) =>
        DescribeConfigsResponse, results of DescribeConfigsResult,
        |told| ItemKey::resource(told.resource_type, &told.resource_name);
    AlterConfigs = ALTER_CONFIGS:
        AlterConfigsRequest, resources of AlterConfigsResource,
        |asked| ItemKey::resource(asked.resource_type, &asked.resource_name) =>
        AlterConfigsResponse, responses of AlterConfigsResourceResponse,
        |told| ItemKey::resource(told.resource_type, &told.resource_name);
    IncrementalAlterConfigs = INCREMENTAL_ALTER_CONFIGS:
        IncrementalAlterConfigsRequest, resources of IncrementalResource,
        |asked| ItemKey::resource(asked.resource_type, &asked.resource_name) =>
        IncrementalAlterConfigsResponse, responses of IncrementalResponse,
        |told| ItemKey::resource(told.resource_type, &told.resource_name);
}
