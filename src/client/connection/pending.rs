//! Futures of the response to a request.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::protocol::Decodable;
use kernel::Api;
use tokio::sync::oneshot;

use super::super::error::Error;
use super::{Line, wire};

/// A request whose response has not been decoded.
pub(super) struct Posted(pub(super) oneshot::Receiver<Result<Bytes, Error>>);

impl Posted {
    pub(super) async fn answer(self, line: &Line) -> Result<Bytes, Error> {
        self.0.await.unwrap_or_else(|_| Err(line.reason()))
    }
}

/// The response to a queued request. Dropping it does not cancel the request.
pub struct Pending<T> {
    pub(super) posted: Posted,
    pub(super) api: Api,
    pub(super) version: i16,
    pub(super) line: Arc<Line>,
    pub(super) response: PhantomData<fn() -> T>,
}

impl<T: Decodable> Pending<T> {
    /// Waits up to `timeout`.
    pub async fn within(self, timeout: Duration) -> Result<T, Error> {
        let (line, api) = (Arc::clone(&self.line), self.api);
        match tokio::time::timeout(timeout, self).await {
            Ok(answer) => answer,
            Err(_) => Err(Error::timed_out(&line.address, api.name(), timeout)),
        }
    }
}

impl<T: Decodable> Future for Pending<T> {
    type Output = Result<T, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = ready!(Pin::new(&mut self.posted.0).poll(context));
        let answer = answer.unwrap_or_else(|_| Err(self.line.reason()));
        Poll::Ready(answer.and_then(|bytes| wire::decode(self.api, self.version, bytes, &self.line.address)))
    }
}

impl<T> fmt::Debug for Pending<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending")
            .field("api", &self.api)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// Resolves once a request without a response has been written.
pub struct Written {
    pub(super) written: oneshot::Receiver<()>,
    pub(super) line: Arc<Line>,
}

impl Future for Written {
    type Output = Result<(), Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let written = ready!(Pin::new(&mut self.written).poll(context));
        Poll::Ready(written.map_err(|_| self.line.reason()))
    }
}

impl fmt::Debug for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Written").finish_non_exhaustive()
    }
}
