//! Threads that work through a queue of bounded length, because SQLite blocks.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::writer::AnswerTo;
use crate::engines::{Pending, StoreError};

/// Jobs that wait for a thread. More wait with their callers, in order, and cost nothing if a caller goes away.
const QUEUED_MAX: usize = 256;

/// What a thread does.
pub(super) trait Work: Send + 'static {
    /// One piece of work, with the channel for its answer.
    type Job: Send + 'static;

    fn run(&mut self, job: Self::Job);
}

/// Some threads and their queue. The threads start with the first job.
pub(super) struct Lane<W: Work> {
    name: &'static str,
    threads: usize,
    worker: Box<dyn Fn() -> Result<W, StoreError> + Send + Sync>,
    room: Arc<Semaphore>,
    queue: Mutex<Option<Sender<Queued<W>>>>,
}

/// A job and its room in the queue.
struct Queued<W: Work> {
    job: W::Job,
    room: OwnedSemaphorePermit,
}

impl<W: Work> Lane<W> {
    pub(super) fn new(
        name: &'static str,
        threads: usize,
        worker: impl Fn() -> Result<W, StoreError> + Send + Sync + 'static,
    ) -> Self {
        let room = Arc::new(Semaphore::new(QUEUED_MAX));
        Self { name, threads, worker: Box::new(worker), room, queue: Mutex::new(None) }
    }

    /// Queues a job, and waits for its answer.
    pub(super) fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        job: impl FnOnce(AnswerTo<T>) -> W::Job + Send + 'static,
    ) -> Pending<T> {
        let lane = Arc::clone(self);
        let closed = || StoreError("the store is closed".to_owned());
        Box::pin(async move {
            let room = Arc::clone(&lane.room).acquire_owned().await.map_err(|_| closed())?;
            let (answer, answered) = oneshot::channel();
            lane.send(Queued { job: job(answer), room })?;
            drop(lane);
            answered.await.unwrap_or_else(|_| Err(closed()))
        })
    }

    fn send(&self, queued: Queued<W>) -> Result<(), StoreError> {
        let mut queue = self.queue.lock();
        let sender = match &*queue {
            Some(sender) => sender,
            None => queue.insert(self.start()?),
        };
        sender.send(queued).map_err(|_| StoreError("the store's readers have stopped".to_owned()))
    }

    fn start(&self) -> Result<Sender<Queued<W>>, StoreError> {
        let (sender, receiver) = mpsc::channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..self.threads {
            let worker = (self.worker)()?;
            let receiver = Arc::clone(&receiver);
            let thread = std::thread::Builder::new().name(self.name.to_owned());
            thread.spawn(move || work(worker, &receiver)).map_err(|error| {
                StoreError(format!("the thread {} of the store could not be started: {error}", self.name))
            })?;
        }
        Ok(sender)
    }
}

fn work<W: Work>(mut worker: W, queue: &Mutex<Receiver<Queued<W>>>) {
    loop {
        let next = queue.lock().recv();
        let Ok(Queued { job, room }) = next else { return };
        drop(room);
        worker.run(job);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Context, Waker};

    use super::*;

    /// Waits at a gate before each job, and counts those that somebody still waited for.
    struct Gated {
        gate: Arc<Mutex<Receiver<()>>>,
        served: Arc<AtomicUsize>,
    }

    impl Work for Gated {
        type Job = AnswerTo<()>;

        fn run(&mut self, answer: AnswerTo<()>) {
            let _ = self.gate.lock().recv();
            if !answer.is_closed() {
                self.served.fetch_add(1, Ordering::Relaxed);
                let _ = answer.send(Ok(()));
            }
        }
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_callers_that_go_away_leave_it() {
        let (open, gate) = mpsc::channel();
        let (gate, served) = (Arc::new(Mutex::new(gate)), Arc::new(AtomicUsize::new(0)));
        let worker = {
            let served = Arc::clone(&served);
            move || Ok(Gated { gate: Arc::clone(&gate), served: Arc::clone(&served) })
        };
        let lane = Arc::new(Lane::new("test", 1, worker));
        let mut asks: Vec<_> = (0..2 * QUEUED_MAX).map(|_| lane.ask(|answer| answer)).collect();
        for ask in &mut asks {
            assert!(ask.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        // The thread may have taken one job out already.
        assert!(lane.room.available_permits() <= 1, "the others wait outside");
        let first = asks.swap_remove(0);
        drop(asks);
        for _ in 0..2 * QUEUED_MAX {
            let _ = open.send(());
        }
        assert_eq!(first.await, Ok(()));
        assert_eq!(lane.ask(|answer| answer).await, Ok(()));
        assert_eq!(served.load(Ordering::Relaxed), 2, "nobody else waited");
        assert_eq!(lane.room.available_permits(), QUEUED_MAX);
    }
}
