//! IncrementalAlterConfigs (KIP-339): sets or deletes single configs, and appends to or subtracts from lists.

use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use kernel::Call;
use rules::commands::{ConfigOperation, NewConfigs, Refused};

use crate::apis::common::alter_configs::{self, Change};
use crate::apis::common::answer::Answer;
use crate::apis::common::{requests, text};
use crate::broker::Broker;

/// Operations.
const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: IncrementalAlterConfigsRequest = call.decode()?;
    let change = |resource: &AlterConfigsResource| Change {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
        configs: operations(resource),
    };
    let changes = request.resources.iter().map(change).collect();
    let verdicts = alter_configs::alter(broker, call, changes, request.validate_only).await?;
    let responses = request.resources.iter().zip(verdicts).map(|(resource, refused)| {
        let (code, message) = text::error_fields(refused);
        AlterConfigsResourceResponse::default()
            .with_error_code(code)
            .with_error_message(message)
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone())
    });
    Ok(Some(call.reply(&IncrementalAlterConfigsResponse::default().with_responses(responses.collect()))?))
}

fn operations(resource: &AlterConfigsResource) -> Result<NewConfigs, Refused> {
    let names: Vec<&str> = resource.configs.iter().map(|config| config.name.as_str()).collect();
    let lacks = |config: &&AlterableConfig| config.value.is_none() && config.config_operation != DELETE;
    let lacking = resource.configs.iter().filter(lacks);
    alter_configs::check_entries(&names, lacking.map(|config| config.name.as_str()))?;
    let operations: Result<Vec<_>, Refused> = resource.configs.iter().map(operation).collect();
    Ok(NewConfigs::Incremental(operations?))
}

fn operation(config: &AlterableConfig) -> Result<(String, ConfigOperation), Refused> {
    // Only DELETE needs no value; one that it has is ignored.
    let value = config.value.as_ref().map_or(String::new(), |value| value.to_string());
    let operation = match config.config_operation {
        SET => ConfigOperation::Set(value),
        DELETE => ConfigOperation::Delete,
        APPEND => ConfigOperation::Append(value),
        SUBTRACT => ConfigOperation::Subtract(value),
        // Kafka fails and answers UNKNOWN_SERVER_ERROR, which blames the broker.
        other => return Err(requests::invalid_request(format!("{other} is not an operation on a config"))),
    };
    Ok((config.name.to_string(), operation))
}

#[cfg(test)]
mod tests;
