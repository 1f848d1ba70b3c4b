//! Batches are opened, and packed anew, away from the threads that serve calls.
//!
//! Decompressing is work of milliseconds and may need a hundred times the bytes that came in. So it is done on threads
//! that may block, and a few at a time: what it can hold at once is bounded, whatever clients ask.

use kernel::records::{Batch, Codec};
use tokio::sync::Semaphore;

use crate::engines::StoreError;

/// No batch is opened that is larger than this uncompressed.
pub(crate) const UNCOMPRESSED_BYTES_MAX: usize = 100 << 20;

static OPEN: Semaphore = Semaphore::const_new(2);

/// Runs work on the records of a batch; those of an uncompressed one are looked at in place.
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

/// Runs heavy work run_blocking, when its turn comes.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    // The semaphore is never closed. The permit goes with the work, which goes on if its call is dropped.
    let permit = OPEN.acquire().await.ok();
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work()
    });
    done.await.map_err(|error| StoreError(format!("the work on a record batch was cut off: {error}")))
}
