//! Who waits for which partition to grow.
//!
//! A parked fetch is woken by the append itself; nobody sleeps and polls.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kernel::TopicPartition;
use tokio::sync::Notify;

/// All watches of an engine. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Watchers(Arc<Mutex<HashMap<TopicPartition, Vec<Arc<Waiter>>>>>);

#[derive(Debug, Default)]
struct Waiter {
    bytes: AtomicU64,
    notify: Notify,
}

/// A subscription to some partitions; it ends when it is dropped.
#[derive(Debug)]
pub struct Watch {
    waiter: Arc<Waiter>,
    partitions: Vec<TopicPartition>,
    watchers: Watchers,
}

impl Watchers {
    /// Subscribes to partitions.
    pub fn watch(&self, partitions: &[TopicPartition]) -> Watch {
        let waiter = Arc::new(Waiter::default());
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in partitions {
            all.entry(*partition).or_default().push(Arc::clone(&waiter));
        }
        Watch { waiter, partitions: partitions.to_vec(), watchers: self.clone() }
    }

    /// Wakes those who watch a partition that has grown, or gone (0 bytes).
    pub fn wake(&self, partition: TopicPartition, bytes: u64) {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for waiter in all.get(&partition).into_iter().flatten() {
            waiter.bytes.fetch_add(bytes, Ordering::Relaxed);
            waiter.notify.notify_one();
        }
    }
}

impl Watch {
    /// Returns after the next change since the last call, with the bytes that all changes so far have added.
    pub async fn changed(&self) -> u64 {
        self.waiter.notify.notified().await;
        self.waiter.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let mut all = self.watchers.0.lock().unwrap_or_else(PoisonError::into_inner);
        for partition in &self.partitions {
            if let Some(waiters) = all.get_mut(partition) {
                waiters.retain(|waiter| !Arc::ptr_eq(waiter, &self.waiter));
                if waiters.is_empty() {
                    all.remove(partition);
                }
            }
        }
    }
}
