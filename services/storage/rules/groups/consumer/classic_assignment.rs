//! Assignments encoded for classic members.

use bytes::Bytes;
use kernel::consumer_protocol::{version, write_assignment};
use std::sync::Arc;

use crate::documents::{GroupTopics, MemberDocument, Partitions};

/// Encodes partitions in the version of the member's metadata.
pub(super) fn classic_assignment(
    topics: &GroupTopics,
    member: &MemberDocument,
    partitions: &Partitions,
) -> Bytes {
    let named = partitions.iter().filter_map(|(topic, of_topic)| {
        let name = topics.topic_name(*topic)?;
        Some((Arc::clone(name), of_topic.clone()))
    });
    let version = member.protocols.first().map_or(0, |own| version(&own.metadata.0));
    write_assignment(version, &named.collect())
}
