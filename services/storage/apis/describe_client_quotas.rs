//! DescribeClientQuotas (KIP-546): there are no client quotas yet, so every valid filter matches none.

use kafka_protocol::messages::describe_client_quotas_request::ComponentData;
use kafka_protocol::messages::{DescribeClientQuotasRequest, DescribeClientQuotasResponse};
use kernel::{Call, ErrorCode};
use rules::commands::Refused;

use crate::apis::common::answer::Answer;
use crate::apis::common::requests::invalid_request;
use crate::apis::common::text;
use crate::broker::Broker;

/// Match types of a filter component: exact name, default entity, or any.
const EXACT: i8 = 0;
const DEFAULT: i8 = 1;
const SPECIFIED: i8 = 2;
const IP: &str = "ip";

pub(crate) async fn handle(_: &Broker, call: &mut Call) -> Answer {
    let request: DescribeClientQuotasRequest = call.decode()?;
    let response = match check(&request.components) {
        Ok(()) => DescribeClientQuotasResponse::default().with_entries(Some(Vec::new())),
        Err(refused) => {
            let (code, message) = text::error_fields(Some(refused));
            let response = DescribeClientQuotasResponse::default().with_error_code(code);
            response.with_error_message(message).with_entries(None)
        }
    };
    Ok(Some(call.reply(&response)?))
}

/// The checks are Kafka's.
fn check(components: &[ComponentData]) -> Result<(), Refused> {
    let mut seen: Vec<&str> = Vec::new();
    for component in components {
        let kind = component.entity_type.as_str();
        match kind {
            "" => return Err(invalid_request("Invalid empty entity type.")),
            "user" | "client-id" | IP => {}
            other => {
                let message = format!("Custom entity type '{other}' not supported");
                return Err(Refused::new(ErrorCode::UnsupportedVersion, message));
            }
        }
        if seen.contains(&kind) {
            return Err(invalid_request(format!(
                "Entity type {kind} cannot appear more than once in the filter."
            )));
        }
        seen.push(kind);
        match (component.match_type, &component._match) {
            (EXACT, Some(_)) | (DEFAULT | SPECIFIED, None) => {}
            (EXACT, None) => {
                return Err(invalid_request(
                    "Request specified MATCH_TYPE_EXACT, but set match string to null.",
                ));
            }
            (DEFAULT | SPECIFIED, Some(_)) => {
                return Err(invalid_request("Only MATCH_TYPE_EXACT takes a match string."));
            }
            (other, _) => return Err(invalid_request(format!("Unknown match type {other}"))),
        }
    }
    if seen.contains(&IP) && seen.len() > 1 {
        let message = "Invalid entity filter component combination, IP filter component should not be used with user or clientId filter component.";
        return Err(invalid_request(message));
    }
    Ok(())
}
