//! DescribeAcls: there is no authorizer yet, and clients are told so as Kafka without one tells them.

use kafka_protocol::messages::{DescribeAclsRequest, DescribeAclsResponse};
use kernel::{Call, ErrorCode};

use super::shared;
use crate::service::Answer;

pub(crate) fn handle(call: &mut Call) -> Answer {
    let _: DescribeAclsRequest = call.decode()?;
    let response = DescribeAclsResponse::default()
        .with_error_code(ErrorCode::SecurityDisabled.code())
        .with_error_message(shared::sentence("No Authorizer is configured.".to_owned()));
    Ok(Some(call.reply(&response)?))
}
