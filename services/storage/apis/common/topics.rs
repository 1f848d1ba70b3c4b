//! Kafka's internal topics, and facts that hold for all topics.

/// Limit on the partitions that one request creates, as in Kafka.
pub(crate) const PARTITIONS_CREATED_MAX: i64 = 10_000;

/// The metadata topic of a Kafka cluster; clients may not create it.
pub(crate) const CLUSTER_METADATA_TOPIC: &str = "__cluster_metadata";

/// Whether a topic is internal; Kafka decides it by name.
pub(crate) fn is_internal(name: &str) -> bool {
    matches!(name, "__consumer_offsets" | "__transaction_state" | "__share_group_state")
}
