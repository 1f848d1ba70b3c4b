//! Decompresses and recompresses record batches, on the blocking thread pool where it may take long.
//!
//! Decompression takes milliseconds and may need a hundred times the compressed bytes. Only a few batches are
//! decompressed at a time, so that the memory is bounded whatever clients send; others wait in the order in which they came,
//! and hold their requests' memory.

use kernel::records::{BadRecords, Batch, Codec, CodecError};
use tokio::sync::Semaphore;

use crate::engines::StoreError;

/// Limit on the uncompressed size of a batch.
pub(crate) const UNCOMPRESSED_BYTES_MAX: usize = 100 << 20;

/// Limit on that of a batch that is stored. A cleaner that gives it a delete horizon makes the times in its records longer,
/// once: a record of seven bytes becomes one of seventeen at most.
pub(crate) const STORED_UNCOMPRESSED_BYTES_MAX: usize = 3 * UNCOMPRESSED_BYTES_MAX;

/// A compressed batch up to this size is walked over on the calling thread.
const SMALL_BYTES: usize = 16 << 10;
/// But no farther than this: some 0.3 ms of gzip, the slowest codec.
const SMALL_UNCOMPRESSED_BYTES: usize = 128 << 10;
/// An uncompressed batch up to this size is as well: a millisecond, if its records are short.
const PLAIN_BYTES: usize = 2 << 20;

/// Batches that are decompressed into memory at a time.
static OPEN: Semaphore = Semaphore::const_new(2);
/// Batches that are walked over at a time. A walk takes the memory of a codec's window, 8 MiB mostly and never more than
/// 33 MiB.
static WALKS: Semaphore = Semaphore::const_new(4);

/// Walks over the records of a batch. A short walk is made on the calling thread, which is cheaper than another one; a
/// long one must not hold up the calls of other connections.
///
/// `walk` gets the bytes that it may decompress, and is called again if they are too few.
pub(crate) async fn walk_records<T: Send + 'static>(
    batch: &Batch,
    walk: impl Fn(&Batch, usize) -> Result<T, BadRecords> + Send + 'static,
) -> Result<Result<T, BadRecords>, StoreError> {
    let bytes = batch.bytes().len();
    if batch.codec() == Some(Codec::None) {
        if bytes <= PLAIN_BYTES {
            return Ok(walk(batch, bytes));
        }
    } else if bytes <= SMALL_BYTES {
        match walk(batch, SMALL_UNCOMPRESSED_BYTES) {
            Err(BadRecords::Unreadable(CodecError::TooLarge(_))) => {}
            done => return Ok(done),
        }
    }
    let batch = batch.clone();
    run_with(&WALKS, move || walk(&batch, UNCOMPRESSED_BYTES_MAX)).await
}

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

/// Runs CPU-bound work on the blocking thread pool, once few enough others run.
pub(crate) async fn run_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    run_with(&OPEN, work).await
}

async fn run_with<T: Send + 'static>(
    permits: &'static Semaphore,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    // The semaphore is never closed. The work owns the permit, because it continues if its call is dropped.
    let permit = permits.acquire().await.ok();
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work()
    });
    done.await.map_err(|error| StoreError(format!("the work on a record batch was cut off: {error}")))
}
