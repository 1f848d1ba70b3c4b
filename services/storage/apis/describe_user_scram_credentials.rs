//! DescribeUserScramCredentials (KIP-554): there are no users yet.

use std::collections::HashMap;

use kafka_protocol::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult;
use kafka_protocol::messages::{DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse};
use kafka_protocol::protocol::StrBytes;
use kernel::{Call, ErrorCode};

use crate::apis::common::answer::Answer;
use crate::apis::common::text;
use crate::broker::Broker;

pub(crate) async fn handle(_: &Broker, call: &mut Call) -> Answer {
    let request: DescribeUserScramCredentialsRequest = call.decode()?;
    let mut counts: HashMap<StrBytes, usize> = HashMap::new();
    let mut users = Vec::new();
    for user in request.users.unwrap_or_default() {
        let count = counts.entry(user.name.clone()).or_default();
        *count += 1;
        if *count == 1 {
            users.push(user.name);
        }
    }
    let result = |user: StrBytes| {
        let (error, message) = match counts.get(&user) {
            Some(1) => (
                ErrorCode::ResourceNotFound,
                format!("Attempt to describe a user credential that does not exist: {user}"),
            ),
            _ => (
                ErrorCode::DuplicateResource,
                format!(
                    "Cannot describe SCRAM credentials for the same user twice in a single request: {user}"
                ),
            ),
        };
        DescribeUserScramCredentialsResult::default()
            .with_user(user)
            .with_error_code(error.code())
            .with_error_message(text::error_message(message))
    };
    let results = users.into_iter().map(result).collect();
    let response = DescribeUserScramCredentialsResponse::default().with_results(results);
    Ok(Some(call.reply(&response)?))
}
