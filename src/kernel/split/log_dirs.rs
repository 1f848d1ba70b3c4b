//! DescribeLogDirs: every owner has a log directory of its own, with its topics in it.

use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
use kafka_protocol::messages::describe_log_dirs_response::DescribeLogDirsResult;
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};

use super::items::{ItemsApi, first_error};
use super::key::ItemKey;
use crate::api::Api;
use crate::schema::walk::{Found, RawValue};

pub(super) struct DescribeLogDirs;

impl ItemsApi for DescribeLogDirs {
    const API: Api = Api::DESCRIBE_LOG_DIRS;
    type Request = DescribeLogDirsRequest;
    type Item = DescribableLogDirTopic;
    type Response = DescribeLogDirsResponse;
    type Answer = DescribeLogDirsResult;

    fn is_for_all(_: i16, found: &Found<'_>) -> bool {
        found.field.name == "Topics" && found.value == RawValue::Null
    }

    fn take_items(request: &mut DescribeLogDirsRequest) -> Vec<DescribableLogDirTopic> {
        request.topics.take().unwrap_or_default()
    }

    fn put_items(request: &mut DescribeLogDirsRequest, items: Vec<DescribableLogDirTopic>, _: i16) {
        request.topics = Some(items);
    }

    fn key(topic: &DescribableLogDirTopic) -> ItemKey {
        ItemKey::topic(&topic.topic)
    }

    fn take_answers(response: &mut DescribeLogDirsResponse) -> Vec<DescribeLogDirsResult> {
        std::mem::take(&mut response.results)
    }

    fn put_answers(response: &mut DescribeLogDirsResponse, answers: Vec<DescribeLogDirsResult>) {
        response.results = answers;
    }

    /// A directory is no item of the request; they stay in the order of the parts.
    fn keys(_: &DescribeLogDirsResult) -> [ItemKey; 2] {
        [ItemKey::Nothing, ItemKey::Nothing]
    }

    fn keep(directory: &mut DescribeLogDirsResult, is_own: &dyn Fn(&ItemKey) -> bool) -> bool {
        directory.topics.retain(|topic| is_own(&ItemKey::topic(&topic.name)));
        true
    }

    fn join(head: &mut DescribeLogDirsResponse, other: DescribeLogDirsResponse) {
        head.throttle_time_ms = head.throttle_time_ms.max(other.throttle_time_ms);
        first_error(&mut head.error_code, other.error_code);
    }
}
