//! Whether the engine can go on.

use kernel::ports::BoxFuture;
use tokio::sync::watch;

use super::StoreError;

/// Why the engine cannot go on, if it cannot. Nothing mends that but another start.
pub(in crate::engines) struct Health(watch::Sender<Option<StoreError>>);

impl Default for Health {
    fn default() -> Self {
        Self(watch::channel(None).0)
    }
}

impl Health {
    /// The engine cannot go on; the first reason counts.
    pub(in crate::engines) fn fail(&self, why: StoreError) {
        self.0.send_if_modified(|first| {
            let is_first = first.is_none();
            if is_first {
                *first = Some(why);
            }
            is_first
        });
    }

    /// Why the engine cannot go on.
    pub(in crate::engines) fn failure(&self) -> Option<StoreError> {
        self.0.borrow().clone()
    }

    /// Resolves once the engine cannot go on.
    pub(in crate::engines) fn failed(&self) -> BoxFuture<'static, StoreError> {
        let mut receiver = self.0.subscribe();
        Box::pin(async move {
            let failure = receiver.wait_for(Option::is_some).await.ok().and_then(|failure| failure.clone());
            match failure {
                Some(failure) => failure,
                // The engine is gone, as it should be.
                None => std::future::pending().await,
            }
        })
    }
}
