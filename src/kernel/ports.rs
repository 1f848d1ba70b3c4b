//! What a room may ask of another without knowing it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::ids::TopicId;

/// A future behind a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What anybody may know of a topic, whichever service has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFacts {
    /// Its name.
    pub name: Arc<str>,
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
}

/// Finds topics by name and by id, many at once. Those that nobody has are left out of the answers.
///
/// # Errors
/// Each method says in a sentence why the topics cannot be looked up now.
pub trait TopicDirectory: Send + Sync {
    /// Topics by name.
    fn by_name(&self, names: Vec<Arc<str>>) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>>;

    /// Topics by id, for where the wire has ids and somebody needs names.
    fn by_id(&self, ids: Vec<TopicId>) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>>;

    /// All topics.
    fn all(&self) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>>;
}
