//! Connections that are lent for reads. They are opened when they are needed, up to a number.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{FutureExt, join};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::connect::Server;
use super::errors::Failure;
use super::metrics::{Purpose, ReadTimes};
use super::session::Session;
use crate::engines::StoreError;

/// How long a read waits for its turn, and then for its answer.
const DEADLINE: Duration = Duration::from_secs(30);
/// How often a read is tried whose connection is lost.
const ATTEMPTS: usize = 3;

/// Pieces of replies that are read ahead, of all replies together: each is memory that nobody has asked for yet.
const AHEAD_MAX: usize = 4;

/// Connections for reads.
pub(super) struct Pool {
    server: Arc<Server>,
    idle: Mutex<Vec<Arc<Session>>>,
    limit: usize,
    permits: Semaphore,
    waiting: AtomicUsize,
    ahead: Arc<Semaphore>,
    times: Arc<ReadTimes>,
}

/// How much of a pool is used.
pub(super) struct Usage {
    pub(super) busy: usize,
    pub(super) idle: usize,
    pub(super) limit: usize,
    pub(super) waiting: usize,
}

impl Pool {
    /// At most so many connections.
    pub(super) fn new(server: Arc<Server>, limit: usize, times: Arc<ReadTimes>) -> Self {
        let (permits, ahead) = (Semaphore::new(limit), Arc::new(Semaphore::new(AHEAD_MAX)));
        Self { server, idle: Mutex::default(), limit, permits, waiting: AtomicUsize::default(), ahead, times }
    }

    /// How much of it is used.
    pub(super) fn usage(&self) -> Usage {
        let busy = self.limit.saturating_sub(self.permits.available_permits());
        let waiting = self.waiting.load(Ordering::Relaxed);
        Usage { busy, idle: self.idle.lock().len(), limit: self.limit, waiting }
    }

    /// Adds a connection that is open already.
    pub(super) fn add(&self, session: Session) {
        self.idle.lock().push(Arc::new(session));
    }

    /// Reads on a connection; on another one, if that was lost.
    ///
    /// One that is dropped before its end, because nobody waits for it any more, takes its connection with it: nothing is left
    /// in the midst of a transaction.
    pub(super) async fn read<T, F>(
        &self,
        purpose: Purpose,
        work: impl Fn(Arc<Session>) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let _permit = self.permit().await?;
        let mut attempt = 1;
        loop {
            let idle = self.take_idle();
            let session = match idle {
                Some(session) => session,
                None => Arc::new(self.server.connect_patiently().await?),
            };
            let begun = Instant::now();
            let read = timeout(DEADLINE, work(Arc::clone(&session))).await;
            self.times.took(purpose, begun.elapsed());
            let read = read.unwrap_or_else(|_| {
                // The connection goes with it.
                Err(Failure::Lost(StoreError(format!("Postgres did not answer within {DEADLINE:?}"))))
            });
            match read {
                Err(Failure::Lost(_)) if attempt < ATTEMPTS => {}
                Err(Failure::Lost(error)) => return Err(error),
                read => {
                    self.idle.lock().push(session);
                    return read.map_err(Failure::error);
                }
            }
            attempt += 1;
        }
    }

    async fn permit(&self) -> Result<SemaphorePermit<'_>, StoreError> {
        if let Ok(permit) = self.permits.try_acquire() {
            return Ok(permit);
        }
        let _waiting = Waiting::of(&self.waiting);
        let permit = timeout(DEADLINE, self.permits.acquire()).await.map_err(|_| {
            StoreError(format!(
                "no connection to Postgres was free within {DEADLINE:?}; the server is slow, or `connections` in the store's URL is too few"
            ))
        })?;
        permit.map_err(|_| StoreError("the store is closed".to_owned()))
    }

    fn take_idle(&self) -> Option<Arc<Session>> {
        let mut idle = self.idle.lock();
        while let Some(session) = idle.pop() {
            if !session.is_closed() {
                return Some(session);
            }
        }
        None
    }

    /// Reads several statements that all see the same state of the store.
    pub(super) async fn snapshot<T, F>(
        &self,
        purpose: Purpose,
        work: impl Fn(Arc<Session>) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        self.read(purpose, |session| in_snapshot(Arc::clone(&session), work(session))).await
    }

    /// Leave to read a piece ahead, if few are.
    pub(super) fn may_read_ahead(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.ahead).try_acquire_owned().ok()
    }

    /// Lends no more, and closes those that are idle.
    pub(super) fn close(&self) {
        self.permits.close();
        self.idle.lock().clear();
    }
}

/// Somebody who waits, until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn of(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn in_snapshot<T>(
    session: Arc<Session>,
    work: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    // Sent together with the first statement.
    let begin = session.run("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY");
    let (begun, read) = join!(begin, work);
    begun.map_err(|error| Failure::of("reading", &error))?;
    // Nobody waits for the answer: whoever has the connection next is served after it, and would learn that it is lost.
    drop(session.run("COMMIT").now_or_never());
    read
}
