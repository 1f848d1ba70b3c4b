//! A pool of bytes for frames and replies, first come first served.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A bounded pool of bytes. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Budget {
    pool: Arc<Semaphore>,
    bytes_max: usize,
}

/// Bytes reserved from a [`Budget`]; released on drop.
#[derive(Debug, Default)]
pub struct Lease(#[allow(dead_code)] Option<OwnedSemaphorePermit>);

impl Budget {
    /// A pool of `bytes_max` bytes, at most 4 GiB - 1.
    pub fn new(bytes_max: usize) -> Self {
        let bytes_max = bytes_max.min(u32::MAX as usize);
        Self { pool: Arc::new(Semaphore::new(bytes_max)), bytes_max }
    }

    /// The size of the whole pool: no lease can be larger.
    pub fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// Bytes reserved at the moment.
    pub fn bytes_in_use(&self) -> usize {
        self.bytes_max - self.pool.available_permits()
    }

    /// Waits until `bytes` are free and takes them. A request larger than the pool waits for the whole pool;
    /// the caller must reject what the pool cannot hold.
    ///
    /// The queue is fair, so small requests do not starve a large one before them.
    pub async fn take(&self, bytes: usize) -> Lease {
        let permits = bytes.min(self.bytes_max) as u32;
        // The semaphore is never closed; if it were, no lease is the safe result.
        Lease(Arc::clone(&self.pool).acquire_many_owned(permits).await.ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_back_and_the_queue_is_fair() {
        let budget = Budget::new(10);
        let first = budget.take(8).await;
        let large = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take(10).await }
        });
        tokio::task::yield_now().await;
        let small = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take(1).await }
        });
        tokio::task::yield_now().await;
        assert!(!small.is_finished(), "a small demand must not overtake a large one");
        drop(first);
        drop(large.await.unwrap());
        small.await.unwrap();
        assert_eq!(budget.bytes_in_use(), 0);
    }
}
