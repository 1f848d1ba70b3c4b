//! A partition as requests name it.

use std::sync::Arc;

use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use crate::ids::TopicId;

/// From this version on topics are named by id (KIP-516).
const BY_ID_FROM: i16 = 13;

/// Whether Fetch names topics by id in this version.
pub(super) fn is_by_id(version: i16) -> bool {
    version >= BY_ID_FROM
}

/// A topic as a request names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TopicKey {
    /// By name.
    Name(Arc<str>),
    /// By id.
    Id(TopicId),
}

impl TopicKey {
    pub(super) fn new(version: i16, name: &TopicName, id: Uuid) -> Self {
        if is_by_id(version) { TopicKey::Id(TopicId(id)) } else { TopicKey::Name(Arc::from(name.as_str())) }
    }

    pub(super) fn wire_name(&self) -> TopicName {
        match self {
            TopicKey::Name(name) => TopicName(StrBytes::from_string(name.to_string())),
            TopicKey::Id(_) => TopicName::default(),
        }
    }

    pub(super) fn wire_id(&self) -> Uuid {
        match self {
            TopicKey::Name(_) => Uuid::nil(),
            TopicKey::Id(id) => id.0,
        }
    }
}

/// A partition as a request names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Place {
    /// Its topic.
    pub topic: TopicKey,
    /// Its number.
    pub partition: i32,
}
