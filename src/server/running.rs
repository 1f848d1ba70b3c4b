//! Open services.

use std::future::ready;
use std::sync::Arc;

use kernel::TopicId;
use kernel::ports::{BoxFuture, TopicDirectory, TopicFacts};
use kernel::service::Service;
use tokio::task::JoinHandle;
use tracing::error;

use super::watchdog::Watchdog;

/// An open service with its background work.
pub(super) struct Running {
    service: Arc<dyn Service>,
    work: JoinHandle<()>,
}

impl Running {
    /// Opens a service and starts its work, without which the process cannot go on.
    ///
    /// # Errors
    /// A sentence with the cause and the remedy.
    pub(super) async fn open(
        name: &str,
        service: &Arc<dyn Service>,
        watchdog: &Watchdog,
    ) -> Result<Self, String> {
        if let Err(message) = service.open().await {
            // Closes what was opened before the failure, so that it can be opened again. Its own error is
            // secondary.
            let _ = service.close().await;
            return Err(format!("service {name}: {message}"));
        }
        let service = Arc::clone(service);
        let what = format!("the background work of service {name}");
        let work = watchdog.spawn(&what, Arc::clone(&service).run());
        Ok(Self { service, work })
    }

    /// Sends new clients elsewhere.
    pub(super) async fn leave(&self) {
        self.service.leave().await;
    }

    /// Returns each time that its clients are to go elsewhere.
    pub(super) async fn drained(&self) {
        self.service.drained().await;
    }

    /// Stops its background work and closes it.
    pub(super) async fn close(self, name: &str) {
        self.work.abort();
        // Until its task has ended, the background work may still use the service.
        let _ = self.work.await;
        if let Err(error) = self.service.close().await {
            error!(service = %name, %error, "the store was not closed cleanly; nothing acknowledged is lost");
        }
        // The directory references services, possibly including this one: the cycle would leak both.
        self.service.set_directory(Arc::new(NoTopics));
    }
}

/// The topic directory of a closed service.
struct NoTopics;

type Found = Result<Vec<TopicFacts>, String>;

impl TopicDirectory for NoTopics {
    fn by_name(&self, _: Vec<Arc<str>>) -> BoxFuture<'_, Found> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn by_id(&self, _: Vec<TopicId>) -> BoxFuture<'_, Found> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn all(&self) -> BoxFuture<'_, Found> {
        Box::pin(ready(Ok(Vec::new())))
    }

    fn version(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use kernel::metrics::{Collect, Page};
    use kernel::{Door, Served};

    use super::*;

    /// What the background work of a service does.
    #[derive(Clone, Copy)]
    enum Work {
        GoesOn,
        Ends,
        Panics,
    }

    struct FakeService(Work);

    impl Collect for FakeService {
        fn collect(&self, _: &mut Page) {}
    }

    impl Service for FakeService {
        fn door(&self) -> Door {
            Door::from_fn(|_| Box::pin(ready(Ok(None))))
        }

        fn served(&self) -> Served {
            Served::default()
        }

        fn readiness(&self) -> Result<(), String> {
            Ok(())
        }

        fn open(&self) -> BoxFuture<'_, Result<(), String>> {
            Box::pin(ready(Ok(())))
        }

        fn run(self: Arc<Self>) -> BoxFuture<'static, String> {
            Box::pin(async move {
                match self.0 {
                    Work::GoesOn => pending().await,
                    Work::Ends => "another process has the store".to_owned(),
                    Work::Panics => panic!("no such group"),
                }
            })
        }

        fn close(&self) -> BoxFuture<'_, Result<(), String>> {
            Box::pin(ready(Ok(())))
        }

        fn topics(&self) -> Arc<dyn TopicDirectory> {
            Arc::new(NoTopics)
        }

        fn set_directory(&self, _: Arc<dyn TopicDirectory>) {}

        fn summary(&self) -> (&'static str, String) {
            ("is", "a fake".to_owned())
        }
    }

    /// Why the process would end.
    async fn failure(work: Work) -> Option<String> {
        let watchdog = Watchdog::new();
        let service: Arc<dyn Service> = Arc::new(FakeService(work));
        let running = Running::open("local", &service, &watchdog).await.unwrap();
        if !matches!(work, Work::GoesOn) {
            watchdog.has_failed().await;
        }
        running.close("local").await;
        watchdog.failure()
    }

    #[tokio::test]
    async fn a_service_whose_work_ends_or_panics_ends_the_process() {
        let ended = failure(Work::Ends).await.unwrap();
        assert_eq!(ended, "the background work of service local has ended: another process has the store");
        let panicked = failure(Work::Panics).await.unwrap();
        let expected = "the background work of service local panicked: no such group";
        assert!(panicked.starts_with(expected), "{panicked}");
        assert_eq!(failure(Work::GoesOn).await, None, "closing it is expected");
    }
}
