//! Decompresses and recompresses record batches on the blocking thread pool.
//!
//! Decompression takes milliseconds and may need a hundred times the compressed bytes. Only a few batches are
//! decompressed at a time, so that the memory is bounded whatever clients send.

use kernel::records::{Batch, Codec};
use tokio::sync::Semaphore;

use crate::engines::StoreError;

/// Limit on the uncompressed size of a batch.
pub(crate) const UNCOMPRESSED_BYTES_MAX: usize = 100 << 20;

static OPEN: Semaphore = Semaphore::const_new(2);

/// Runs work on the records of a batch. An uncompressed batch is read on the calling thread.
pub(crate) async fn with_records<T: Send + 'static>(
    batch: &Batch,
    work: impl FnOnce(&Batch) -> T + Send + 'static,
) -> Result<T, StoreError> {
    if batch.codec() == Some(Codec::None) {
        return Ok(work(batch));
    }
    let batch = batch.clone();
    run_blocking(move || work(&batch)).await
}

/// Runs CPU-bound work on the blocking thread pool, once the semaphore admits it.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    // The semaphore is never closed. The work owns the permit, because it continues if its call is dropped.
    let permit = OPEN.acquire().await.ok();
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work()
    });
    done.await.map_err(|error| StoreError(format!("the work on a record batch was cut off: {error}")))
}
