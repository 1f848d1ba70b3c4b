//! Kafka's own topics, and what is alike in all topics.

/// The leader epoch of every partition. The one broker leads all of them from their beginning, so that reading
/// thousands of partition documents for it would be in vain.
pub(crate) const LEADER_EPOCH: i32 = 0;

/// The topic that holds the metadata of a Kafka cluster; nobody may create it.
pub(crate) const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

/// Kafka's internal topics, which it tells by their names.
pub(crate) fn is_internal(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
}
