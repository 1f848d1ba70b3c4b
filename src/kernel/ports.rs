//! Interfaces through which components use each other.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use crate::ids::{TopicId, TopicPartition};

/// A future behind a trait object.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The facts about a topic that every service has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFacts {
    /// Its name.
    pub name: Arc<str>,
    /// Its id.
    pub id: TopicId,
    /// How many partitions it has.
    pub partitions: i32,
}

/// Finds topics by name and by id, many at once. Unknown topics are left out of the results.
///
/// # Errors
/// Each method says in a sentence why the topics cannot be looked up now.
pub trait TopicDirectory: Send + Sync {
    /// Topics by name.
    fn by_name(&self, names: Vec<Arc<str>>) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>>;

    /// Topics by id, for requests that carry ids where names are needed.
    fn by_id(&self, ids: Vec<TopicId>) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>>;

    /// All topics.
    fn all(&self) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>>;

    /// The log end offset of each of these partitions; `None` where there is no such partition, or it cannot be told.
    fn ends(&self, partitions: Vec<TopicPartition>) -> BoxFuture<'_, Result<Vec<Option<i64>>, String>> {
        let unknown = vec![None; partitions.len()];
        Box::pin(std::future::ready(Ok(unknown)))
    }

    /// A number that grows whenever a topic is created, grows or is deleted. Take it before a look-up: what was found
    /// then holds while the number is the same.
    fn version(&self) -> u64;
}
