//! What an item of a request names, by which its owner is found.

use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::ids::TopicId;

/// The `ResourceType` of topics.
const TOPIC_RESOURCE: i8 = 2;

/// What an item of a request or of its response names. Ordered by name, as Kafka lists all topics.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ItemKey {
    /// A topic, by name.
    Topic(StrBytes),
    /// A topic, by id.
    TopicId(TopicId),
    /// A config resource that is not a topic, by type and name.
    Resource(i8, StrBytes),
    /// Nothing that one service has and another has not.
    Nothing,
}

impl ItemKey {
    pub(super) fn topic(name: &TopicName) -> Self {
        ItemKey::Topic(name.0.clone())
    }

    /// A nullable name; requests by id may also have an empty one.
    pub(super) fn optional_topic(name: Option<&TopicName>) -> Self {
        name.map_or(ItemKey::Nothing, Self::topic)
    }

    /// The id, or nothing if it is zero.
    pub(super) fn id(id: Uuid) -> Self {
        if id.is_nil() { ItemKey::Nothing } else { ItemKey::TopicId(TopicId(id)) }
    }

    /// The id if there is one, else the name.
    pub(super) fn id_or_topic(id: Uuid, name: Option<&TopicName>) -> Self {
        if id.is_nil() { Self::optional_topic(name) } else { Self::id(id) }
    }

    pub(super) fn resource(resource_type: i8, name: &StrBytes) -> Self {
        if resource_type == TOPIC_RESOURCE {
            ItemKey::Topic(name.clone())
        } else {
            ItemKey::Resource(resource_type, name.clone())
        }
    }
}
