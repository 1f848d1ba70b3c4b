//! AlterConfigs: replaces all configs of a resource. Configs that are not listed return to their defaults.
//!
//! Kafka does not reply to duplicate resources. Yagura replies as IncrementalAlterConfigs does.

use std::collections::BTreeMap;

use kafka_protocol::messages::alter_configs_request::AlterConfigsResource;
use kafka_protocol::messages::alter_configs_response::AlterConfigsResourceResponse;
use kafka_protocol::messages::{AlterConfigsRequest, AlterConfigsResponse};
use kernel::Call;
use rules::commands::{NewConfigs, Refused};

use crate::apis::common::alter_configs::{self, Change};
use crate::apis::common::answer::Answer;
use crate::apis::common::text;
use crate::broker::Broker;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: AlterConfigsRequest = call.decode()?;
    let change = |resource: &AlterConfigsResource| Change {
        resource_type: resource.resource_type,
        resource_name: resource.resource_name.clone(),
        configs: replacement(resource),
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
    Ok(Some(call.reply(&AlterConfigsResponse::default().with_responses(responses.collect()))?))
}

fn replacement(resource: &AlterConfigsResource) -> Result<NewConfigs, Refused> {
    let names: Vec<&str> = resource.configs.iter().map(|config| config.name.as_str()).collect();
    let lacking = resource.configs.iter().filter(|config| config.value.is_none());
    alter_configs::check_entries(&names, lacking.map(|config| config.name.as_str()))?;
    let given = resource.configs.iter().filter_map(|config| {
        let value = config.value.as_ref()?;
        Some((config.name.to_string(), value.to_string()))
    });
    Ok(NewConfigs::Replace(given.collect::<BTreeMap<String, String>>()))
}

#[cfg(test)]
mod tests;
