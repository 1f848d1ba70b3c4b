//! The boundary between a layer and the layer or service below it.

use std::borrow::Cow;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tower::Service;

use crate::call::Call;
use crate::reply::Reply;

/// The connection must be closed; the text is the reason, for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hangup(pub Cow<'static, str>);

impl Hangup {
    /// Closes the connection for this reason.
    pub fn because(reason: impl Into<Cow<'static, str>>) -> Self {
        Self(reason.into())
    }
}

impl fmt::Display for Hangup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Hangup {}

impl From<Infallible> for Hangup {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

/// The outcome of a call: a reply, no reply (a Produce with acks=0), or a closed connection.
pub type ReplyFuture = Pin<Box<dyn Future<Output = Result<Option<Reply>, Hangup>> + Send>>;

/// A type-erased layer or service, so that a config file can define the order.
///
/// Below framing a service is always ready: waiting happens in the call's future, so that one busy service
/// cannot block another. A door therefore never asks `poll_ready`.
#[derive(Clone)]
pub struct Door(Arc<dyn Enter>);

trait Enter: Send + Sync {
    fn enter(&self, call: Call) -> ReplyFuture;
}

struct Room<S>(S);

impl<S> Enter for Room<S>
where
    S: Service<Call, Response = Option<Reply>, Error = Hangup> + Clone + Send + Sync,
    S::Future: Send + 'static,
{
    fn enter(&self, call: Call) -> ReplyFuture {
        Box::pin(self.0.clone().call(call))
    }
}

struct Handler<F>(F);

impl<F: Fn(Call) -> ReplyFuture + Send + Sync> Enter for Handler<F> {
    fn enter(&self, call: Call) -> ReplyFuture {
        (self.0)(call)
    }
}

impl Door {
    /// A door to a tower service.
    pub fn new<S>(service: S) -> Self
    where
        S: Service<Call, Response = Option<Reply>, Error = Hangup> + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        Self(Arc::new(Room(service)))
    }

    /// A door to a function that returns a boxed future, which avoids a second box.
    pub fn from_fn(handler: impl Fn(Call) -> ReplyFuture + Send + Sync + 'static) -> Self {
        Self(Arc::new(Handler(handler)))
    }

    /// Sends a call through.
    pub fn enter(&self, call: Call) -> ReplyFuture {
        self.0.enter(call)
    }

    /// Whether two doors lead to the same service.
    pub fn same_as(&self, other: &Door) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Door")
    }
}

impl Service<Call> for Door {
    type Response = Option<Reply>;
    type Error = Hangup;
    type Future = ReplyFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Hangup>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> ReplyFuture {
        self.enter(call)
    }
}
