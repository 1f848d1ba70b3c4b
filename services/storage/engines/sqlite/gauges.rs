//! What `/metrics` reads of this engine, on the threads for long look-ups.

use kernel::TopicPartition;
use rules::documents::{Document, Key, Prefix};

use super::reader::Readers;
use super::schema::is_about_damage;
use crate::engines::Pending;
use crate::engines::gauges::ReadDocuments;

impl ReadDocuments for Readers {
    fn scan(&self, prefix: Prefix, after: Option<Key>, limit: usize) -> Pending<Vec<(Key, Document)>> {
        self.scan(prefix, after, limit)
    }

    fn readable(&self, keys: Vec<Key>) -> Pending<Vec<Option<Document>>> {
        let readers = self.clone();
        Box::pin(async move {
            match readers.get(keys.clone()).await {
                Err(failure) if is_about_damage(&failure) => {}
                found => return found,
            }
            // One by one, without those that are damaged.
            let mut found = Vec::with_capacity(keys.len());
            for key in keys {
                found.push(
                    readers.get(vec![key]).await.ok().and_then(|found| found.into_iter().next().flatten()),
                );
            }
            Ok(found)
        })
    }

    fn sizes(&self, partitions: Vec<TopicPartition>) -> Pending<Vec<u64>> {
        self.sizes(partitions)
    }
}
