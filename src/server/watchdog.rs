//! Watches what runs as long as the process does. If any of it ends though nobody has stopped it, the process cannot do its
//! work any more, and ends, so that whatever runs it starts it again.
//!
//! The work of a connection is none of this: a panic in it closes that connection.

use std::future::Future;

use kernel::panics;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::error;

/// What the process then ends with: EX_SOFTWARE of sysexits.h.
pub(super) const EXIT_CODE: u8 = 70;

/// The first unexpected end. Cloning shares it.
#[derive(Clone)]
pub(super) struct Watchdog(watch::Sender<Option<String>>);

impl Watchdog {
    pub(super) fn new() -> Self {
        Self(watch::channel(None).0)
    }

    /// Starts work that goes on until it is aborted; what it returns is why it cannot go on.
    pub(super) fn spawn<F>(&self, what: &str, work: F) -> JoinHandle<()>
    where
        F: Future<Output = String> + Send + 'static,
    {
        let (watchdog, name) = (self.clone(), what.to_owned());
        tokio::spawn(self.guard(what, async move {
            let why = work.await;
            watchdog.failed(&format!("{name} has ended: {why}"));
        }))
    }

    /// Starts the same in a thread.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn spawn_thread(
        &self,
        name: &'static str,
        work: impl FnOnce() -> String + Send + 'static,
    ) -> std::io::Result<()> {
        let watchdog = self.clone();
        let run = move || match panics::caught(work) {
            Ok(why) => watchdog.failed(&format!("the thread {name} has ended: {why}")),
            Err(panic) => watchdog.panicked(&format!("the thread {name}"), &panic),
        };
        std::thread::Builder::new().name(name.to_owned()).spawn(run).map(drop)
    }

    /// Work that may end, but must not panic.
    pub(super) fn guard<F>(&self, what: &str, work: F) -> impl Future<Output = ()> + Send + use<F>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (watchdog, what) = (self.clone(), what.to_owned());
        async move {
            if let Err(panic) = panics::catch(work).await {
                watchdog.panicked(&what, &panic);
            }
        }
    }

    fn panicked(&self, what: &str, panic: &str) {
        self.failed(&format!("{what} panicked: {panic}; this is a bug in Yagura, please report it"));
    }

    /// Something cannot go on. This logs it; the first one is why the process ends.
    pub(super) fn failed(&self, why: &str) {
        error!(
            "{why}. The process ends with exit code {EXIT_CODE}, so that whatever runs it starts it again"
        );
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(why.to_owned());
            }
            is_first
        });
    }

    /// Why the process ends, if it does.
    pub(super) fn failure(&self) -> Option<String> {
        self.0.borrow().clone()
    }

    /// Returns once something cannot go on.
    pub(super) async fn has_failed(&self) {
        let mut receiver = self.0.subscribe();
        // There is a sender, in `self`.
        let _ = receiver.wait_for(Option::is_some).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[tokio::test]
    async fn what_ends_or_panics_is_told_and_what_is_stopped_is_not() {
        let watchdog = Watchdog::new();
        let stopped = watchdog.spawn("the loop", pending());
        stopped.abort();
        assert!(stopped.await.unwrap_err().is_cancelled());
        watchdog.guard("the start", async {}).await;
        assert_eq!(watchdog.failure(), None);
        watchdog.spawn("the loop", async { "its queue is gone".to_owned() }).await.unwrap();
        watchdog.has_failed().await;
        let failure = watchdog.failure();
        assert_eq!(failure.as_deref(), Some("the loop has ended: its queue is gone"));
        watchdog.guard("the start", async { panic!("a bug") }).await;
        assert_eq!(watchdog.failure(), failure, "the first one counts");
    }

    #[tokio::test]
    async fn a_panic_is_told_by_name() {
        let watchdog = Watchdog::new();
        let clone = watchdog.clone();
        let accepting = async move {
            assert_eq!(clone.failure(), Some(String::new()), "no socket");
            String::new()
        };
        watchdog.spawn("the accept loop of listener main", accepting).await.unwrap();
        let failure = watchdog.failure().unwrap();
        assert!(failure.starts_with("the accept loop of listener main panicked: "), "{failure}");
        assert!(failure.contains("no socket") && failure.ends_with("please report it"), "{failure}");
    }

    #[tokio::test]
    async fn a_thread_is_watched_as_well() {
        let ended = Watchdog::new();
        ended.spawn_thread("memory", || "nothing is left".to_owned()).unwrap();
        ended.has_failed().await;
        assert_eq!(ended.failure().as_deref(), Some("the thread memory has ended: nothing is left"));
        let panicked = Watchdog::new();
        panicked.spawn_thread("memory", || panic!("a bug")).unwrap();
        panicked.has_failed().await;
        assert!(panicked.failure().unwrap().starts_with("the thread memory panicked: a bug"));
    }
}
