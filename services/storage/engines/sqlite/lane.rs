//! Threads that work through a queue of bounded length, because SQLite blocks.

use std::collections::VecDeque;
use std::sync::Arc;

use kernel::panics::caught;
use parking_lot::{Condvar, Mutex};
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
    queue: Arc<Queue<W>>,
    /// Told why, when a thread has ended.
    failed: Arc<dyn Fn(StoreError) + Send + Sync>,
}

/// The jobs that wait. A job wakes one thread; a channel whose receiver the threads share would wake two.
struct Queue<W: Work> {
    jobs: Mutex<Jobs<W>>,
    changed: Condvar,
}

struct Jobs<W: Work> {
    waiting: VecDeque<Queued<W>>,
    has_threads: bool,
    is_closed: bool,
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
        failed: impl Fn(StoreError) + Send + Sync + 'static,
    ) -> Self {
        let room = Arc::new(Semaphore::new(QUEUED_MAX));
        let jobs = Mutex::new(Jobs { waiting: VecDeque::new(), has_threads: false, is_closed: false });
        let queue = Arc::new(Queue { jobs, changed: Condvar::new() });
        Self { name, threads, worker: Box::new(worker), room, queue, failed: Arc::new(failed) }
    }

    /// Queues a job, and waits for its answer.
    pub(super) fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        job: impl FnOnce(AnswerTo<T>) -> W::Job + Send + 'static,
    ) -> Pending<T> {
        let lane = Arc::clone(self);
        Box::pin(async move {
            let room = Arc::clone(&lane.room).acquire_owned().await.map_err(|_| closed())?;
            let (answer, answered) = oneshot::channel();
            lane.send(Queued { job: job(answer), room })?;
            drop(lane);
            answered.await.unwrap_or_else(|_| Err(closed()))
        })
    }

    fn send(&self, queued: Queued<W>) -> Result<(), StoreError> {
        let mut jobs = self.queue.jobs.lock();
        if jobs.is_closed {
            return Err(closed());
        }
        if !jobs.has_threads {
            self.start()?;
            jobs.has_threads = true;
        }
        jobs.waiting.push_back(queued);
        drop(jobs);
        self.queue.changed.notify_one();
        Ok(())
    }

    /// Starts the threads.
    fn start(&self) -> Result<(), StoreError> {
        let workers = (0..self.threads).map(|_| (self.worker)()).collect::<Result<Vec<_>, _>>()?;
        for worker in workers {
            let (queue, failed, name) = (Arc::clone(&self.queue), Arc::clone(&self.failed), self.name);
            let thread = std::thread::Builder::new().name(self.name.to_owned());
            let run = move || {
                if let Err(panic) = caught(|| work(worker, &queue)) {
                    queue.close();
                    failed(StoreError(format!(
                        "the thread {name} of the store panicked: {panic}; this is a bug in Yagura, please report it"
                    )));
                }
            };
            thread.spawn(run).map_err(|error| {
                StoreError(format!("the thread {} of the store could not be started: {error}", self.name))
            })?;
        }
        Ok(())
    }
}

impl<W: Work> Drop for Lane<W> {
    fn drop(&mut self) {
        self.queue.jobs.lock().is_closed = true;
        self.queue.changed.notify_all();
    }
}

fn closed() -> StoreError {
    StoreError("the store is closed".to_owned())
}

fn work<W: Work>(mut worker: W, queue: &Queue<W>) {
    while let Some(Queued { job, room }) = queue.next() {
        drop(room);
        worker.run(job);
    }
}

impl<W: Work> Queue<W> {
    /// Takes no more jobs, and drops those that wait: who has asked is told.
    fn close(&self) {
        let mut jobs = self.jobs.lock();
        jobs.is_closed = true;
        let waiting = std::mem::take(&mut jobs.waiting);
        drop(jobs);
        drop(waiting);
        self.changed.notify_all();
    }

    /// The next job; `None` once the lane is gone and all are done.
    fn next(&self) -> Option<Queued<W>> {
        let mut jobs = self.jobs.lock();
        loop {
            if let Some(next) = jobs.waiting.pop_front() {
                return Some(next);
            }
            if jobs.is_closed {
                return None;
            }
            self.changed.wait(&mut jobs);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{self, Receiver};
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
        let lane = Arc::new(Lane::new("test", 1, worker, |why| panic!("{why}")));
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

    struct Panicking;

    impl Work for Panicking {
        type Job = AnswerTo<()>;

        fn run(&mut self, answer: AnswerTo<()>) {
            panic!("asked by somebody who waits: {}", !answer.is_closed())
        }
    }

    #[tokio::test]
    async fn a_thread_that_panics_is_told_and_nobody_waits_for_it() {
        let (failed, failures) = mpsc::channel();
        let failed = Mutex::new(failed);
        let tell = move |why| drop(failed.lock().send(why));
        let lane = Arc::new(Lane::new("test", 1, || Ok(Panicking), tell));
        assert_eq!(lane.ask(|answer| answer).await, Err(closed()));
        let why = tokio::task::spawn_blocking(move || failures.recv().unwrap()).await.unwrap();
        assert!(why.0.contains("the thread test of the store panicked: asked by"), "{why}");
        assert_eq!(lane.ask(|answer| answer).await, Err(closed()));
    }
}
