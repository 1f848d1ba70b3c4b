//! Open services.

use std::future::ready;
use std::sync::Arc;

use kernel::TopicId;
use kernel::ports::{BoxFuture, TopicDirectory, TopicFacts};
use kernel::service::Service;
use tokio::task::JoinHandle;
use tracing::error;

/// An open service with its background work.
pub(super) struct Running {
    service: Arc<dyn Service>,
    work: JoinHandle<()>,
}

impl Running {
    /// Opens a service and starts its work.
    ///
    /// # Errors
    /// A sentence with the cause and the remedy.
    pub(super) async fn open(name: &str, service: &Arc<dyn Service>) -> Result<Self, String> {
        if let Err(message) = service.open().await {
            // Closes what was opened before the failure, so that it can be opened again. Its own error is
            // secondary.
            let _ = service.close().await;
            return Err(format!("service {name}: {message}"));
        }
        let service = Arc::clone(service);
        let work = tokio::spawn(Arc::clone(&service).run());
        Ok(Self { service, work })
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
