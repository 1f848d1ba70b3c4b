//! DescribeAcls: there is no authorizer yet; the answer is that of Kafka without one.

use kafka_protocol::messages::{DescribeAclsRequest, DescribeAclsResponse};
use kernel::{Call, ErrorCode};

use crate::apis::common::answer::Answer;
use crate::apis::common::text;
use crate::broker::Broker;

pub(crate) async fn handle(_: &Broker, call: &mut Call) -> Answer {
    let _: DescribeAclsRequest = call.decode()?;
    let response = DescribeAclsResponse::default()
        .with_error_code(ErrorCode::SecurityDisabled.code())
        .with_error_message(text::error_message("No Authorizer is configured.".to_owned()));
    Ok(Some(call.reply(&response)?))
}
