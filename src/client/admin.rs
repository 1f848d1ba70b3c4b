//! Topics: create, alter and delete them, and describe their configs.
//!
//! A change is requested once. After a broken connection its outcome is unknown, and a retry would report
//! "exists already" for a topic that this call created; the caller gets the error and can check.

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::DescribeConfigsResult;
use kafka_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, DescribeConfigsRequest,
    IncrementalAlterConfigsRequest, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::cluster::Cluster;
use super::error::{About, Error};

/// Kafka's config resource type for topics.
const TOPIC_RESOURCE: i8 = 2;
/// Kafka's config source for a value set on the topic itself.
const SOURCE_TOPIC: i8 = 1;
/// Kafka's config source for a default value.
const SOURCE_DEFAULT: i8 = 5;
const SET: i8 = 0;
const DELETE: i8 = 1;
/// DescribeConfigs gives documentation from this version on.
const DOCUMENTATION_FROM: i16 = 3;
/// The beginning of the last sentence of a config's documentation, if the broker does nothing with the config.
const NO_EFFECT: &str = " No effect here, because ";

/// A config of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Its name.
    pub name: String,
    /// Its value; `None` when it is sensitive.
    pub value: Option<String>,
    /// Whether it was set on the topic itself.
    pub is_of_topic: bool,
    /// Whether it is the default.
    pub is_default: bool,
    /// Why it has no effect on this broker, if so: the end of a sentence.
    pub no_effect: Option<String>,
}

impl Cluster {
    /// Creates a topic, with the broker's default number of partitions unless one is given.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: Option<i32>,
        configs: &[(String, String)],
    ) -> Result<(), Error> {
        let configs = configs.iter().map(|(name, value)| {
            CreatableTopicConfig::default().with_name(text(name)).with_value(Some(text(value)))
        });
        // -1 means the broker's default (KIP-464).
        let topic = CreatableTopic::default()
            .with_name(TopicName(text(name)))
            .with_num_partitions(partitions.unwrap_or(-1))
            .with_replication_factor(-1)
            .with_configs(configs.collect());
        let request =
            CreateTopicsRequest::default().with_topics(vec![topic]).with_timeout_ms(self.timeout_ms());
        let connection = self.controller().await?;
        let response = connection.ask(&request).await?;
        self.forget(name);
        match response.topics.first() {
            Some(result) => {
                Error::check(result.error_code, about(connection.address(), name, &result.error_message))
            }
            None => Err(unanswered(connection.address(), name)),
        }
    }

    /// Deletes a topic and its records.
    pub async fn delete_topic(&self, name: &str) -> Result<(), Error> {
        let connection = self.controller().await?;
        let request = DeleteTopicsRequest::default().with_timeout_ms(self.timeout_ms());
        // Version 6 brought topic ids, and moved the names into a struct.
        let request = match connection.version::<DeleteTopicsRequest>()? {
            6.. => {
                request.with_topics(vec![DeleteTopicState::default().with_name(Some(TopicName(text(name))))])
            }
            _ => request.with_topic_names(vec![TopicName(text(name))]),
        };
        let response = connection.ask(&request).await?;
        self.forget(name);
        match response.responses.first() {
            Some(result) => {
                Error::check(result.error_code, about(connection.address(), name, &result.error_message))
            }
            None => Err(unanswered(connection.address(), name)),
        }
    }

    /// Increases the number of a topic's partitions to `count`.
    pub async fn create_partitions(&self, name: &str, count: i32) -> Result<(), Error> {
        let topic = CreatePartitionsTopic::default()
            .with_name(TopicName(text(name)))
            .with_count(count)
            .with_assignments(None);
        let request =
            CreatePartitionsRequest::default().with_topics(vec![topic]).with_timeout_ms(self.timeout_ms());
        let connection = self.controller().await?;
        let response = connection.ask(&request).await?;
        self.forget(name);
        match response.results.first() {
            Some(result) => {
                Error::check(result.error_code, about(connection.address(), name, &result.error_message))
            }
            None => Err(unanswered(connection.address(), name)),
        }
    }

    /// Sets and unsets configs of a topic, all or none.
    pub async fn alter_topic_configs(
        &self,
        name: &str,
        set: &[(String, String)],
        unset: &[String],
    ) -> Result<(), Error> {
        let set = set.iter().map(|(name, value)| (name, SET, Some(text(value))));
        let unset = unset.iter().map(|name| (name, DELETE, None));
        let configs = set.chain(unset).map(|(name, operation, value)| {
            AlterableConfig::default()
                .with_name(text(name))
                .with_config_operation(operation)
                .with_value(value)
        });
        let resource = AlterConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text(name))
            .with_configs(configs.collect());
        let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
        let connection = self.controller().await?;
        let response = connection.ask(&request).await?;
        match response.responses.first() {
            Some(result) => {
                Error::check(result.error_code, about(connection.address(), name, &result.error_message))
            }
            None => Err(unanswered(connection.address(), name)),
        }
    }

    /// All configs of a topic.
    pub async fn topic_configs(&self, name: &str) -> Result<Vec<Config>, Error> {
        let resource = DescribeConfigsResource::default()
            .with_resource_type(TOPIC_RESOURCE)
            .with_resource_name(text(name))
            .with_configuration_keys(None);
        let connection = self.any().await?;
        let has_documentation = connection.version::<DescribeConfigsRequest>()? >= DOCUMENTATION_FROM;
        let request = DescribeConfigsRequest::default()
            .with_resources(vec![resource])
            .with_include_documentation(has_documentation);
        let response = connection.ask(&request).await?;
        let Some(result) = response.results.first() else {
            return Err(unanswered(connection.address(), name));
        };
        Error::check(result.error_code, about(connection.address(), name, &result.error_message))?;
        Ok(read_configs(result))
    }

    fn timeout_ms(&self) -> i32 {
        i32::try_from(self.timeout().as_millis()).unwrap_or(i32::MAX)
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn about<'a>(address: &'a str, topic: &'a str, message: &'a Option<StrBytes>) -> About<'a> {
    About { address, topic: Some(topic), partition: None, message: message.as_deref() }
}

fn unanswered(address: &str, topic: &str) -> Error {
    Error::malformed(address, format!("an answer that leaves out topic {topic:?}"))
}

fn read_configs(result: &DescribeConfigsResult) -> Vec<Config> {
    let configs = result.configs.iter().map(|config| Config {
        name: config.name.to_string(),
        value: config.value.as_ref().map(|value| value.to_string()),
        is_of_topic: config.config_source == SOURCE_TOPIC,
        is_default: config.config_source == SOURCE_DEFAULT,
        no_effect: config.documentation.as_deref().and_then(no_effect),
    });
    let mut configs: Vec<Config> = configs.collect();
    configs.sort_by(|a, b| a.name.cmp(&b.name));
    configs
}

/// Why a config has no effect, from its documentation.
fn no_effect(documentation: &str) -> Option<String> {
    let (_, reason) = documentation.rsplit_once(NO_EFFECT)?;
    Some(reason.strip_suffix('.').unwrap_or(reason).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_without_effect_is_known_by_its_documentation() {
        let reason = no_effect("The size of a file. No effect here, because Yagura has no log segments.");
        assert_eq!(reason.as_deref(), Some("Yagura has no log segments"));
        assert_eq!(no_effect("How old records may grow."), None);
    }
}
