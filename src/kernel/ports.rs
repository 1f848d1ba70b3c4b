//! What a room may ask of another without knowing it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::ids::TopicId;

/// A future behind a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Turns topic ids into names, for every layer that needs names where the wire has ids.
pub trait TopicDirectory: Send + Sync {
    /// The name of a topic, or `None` when nobody knows the id.
    fn topic_name(&self, id: TopicId) -> BoxFuture<'_, Option<Arc<str>>>;
}
