//! Authorized operations without an authorizer: Kafka's bit fields with all operations of a resource.

/// On a topic.
pub(crate) const TOPIC_OPERATIONS: i32 = 3576;
/// On a group.
pub(crate) const GROUP_OPERATIONS: i32 = 3400;
/// On the cluster.
pub(crate) const CLUSTER_OPERATIONS: i32 = 8096;
/// Kafka's "authorized operations were not requested".
pub(crate) const OPERATIONS_NOT_ASKED: i32 = i32::MIN;
