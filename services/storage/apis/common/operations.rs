//! What a client may do where nobody asks who it is: Kafka's bits of all operations that a resource has.

/// To a topic.
pub(crate) const TOPIC_OPERATIONS: i32 = 3576;
/// To a group.
pub(crate) const GROUP_OPERATIONS: i32 = 3400;
/// To the cluster.
pub(crate) const CLUSTER_OPERATIONS: i32 = 8096;
/// Kafka's "the client did not ask for its operations".
pub(crate) const OPERATIONS_NOT_ASKED: i32 = i32::MIN;
