//! One connection to one broker, with as many requests in flight as the caller wants.
//!
//! Requests are queued immediately and in call order, which a producer relies on; the response is awaited
//! separately ([`Pending`]). Brokers respond in request order, so correlation ids are compared, not looked
//! up: a response with another id than the next one expected ends the connection.

use std::collections::VecDeque;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::{Encodable, Request, StrBytes};
use kernel::call::Header;
use kernel::{Api, frame};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

use super::error::{About, Error};
use super::versions::Versions;

mod pending;
mod wire;

use pending::Posted;
pub use pending::{Pending, Written};

/// Most requests that may be unanswered or unwritten; bounds a caller that does not wait for responses.
const OUTSTANDING_MAX: usize = 4096;

/// A connection; dropping it closes it.
pub struct Connection {
    line: Arc<Line>,
    outgoing: mpsc::UnboundedSender<Outgoing>,
    versions: Versions,
    timeout: Duration,
    reader: AbortHandle,
    writer: AbortHandle,
}

/// What the connection shares with its reading and writing tasks.
struct Line {
    address: Arc<str>,
    client_id: Arc<str>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    unwritten: usize,
    next_correlation_id: i32,
    closed: Option<Error>,
}

struct Waiting {
    correlation_id: i32,
    answer: oneshot::Sender<Result<Bytes, Error>>,
}

struct Outgoing {
    frame: Vec<u8>,
    written: oneshot::Sender<()>,
}

impl Connection {
    /// Connects, and negotiates API versions. `timeout` applies to this and to each [`Connection::call`].
    pub async fn connect(address: &str, client_id: &str, timeout: Duration) -> Result<Connection, Error> {
        match tokio::time::timeout(timeout, Connection::open(address, client_id, timeout)).await {
            Ok(connection) => connection,
            Err(_) => Err(Error::timed_out(address, "the first request", timeout)),
        }
    }

    async fn open(address: &str, client_id: &str, timeout: Duration) -> Result<Connection, Error> {
        let stream = TcpStream::connect(address).await.map_err(|error| Error::unreachable(address, error))?;
        stream.set_nodelay(true).map_err(|error| Error::unreachable(address, error))?;
        let mut connection = Connection::over(stream, address, client_id, timeout);
        connection.versions = connection.negotiate().await?;
        Ok(connection)
    }

    fn over(stream: TcpStream, address: &str, client_id: &str, timeout: Duration) -> Connection {
        let state = Mutex::new(State::default());
        let line = Arc::new(Line { address: Arc::from(address), client_id: Arc::from(client_id), state });
        let (outgoing, queue) = mpsc::unbounded_channel();
        let (read_half, write_half) = stream.into_split();
        let reader = tokio::spawn(wire::read(read_half, Arc::clone(&line))).abort_handle();
        let writer = tokio::spawn(wire::write(write_half, queue, Arc::clone(&line))).abort_handle();
        Connection { line, outgoing, versions: Versions::default(), timeout, reader, writer }
    }

    async fn negotiate(&self) -> Result<Versions, Error> {
        let software = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str("yagura"))
            .with_client_software_version(StrBytes::from_static_str(env!("CARGO_PKG_VERSION")));
        let mut version = 3i16;
        let mut answer = self.post(Api::API_VERSIONS, version, &software)?.answer(&self.line).await?;
        // A broker that does not know the version answers in version 0, with UNSUPPORTED_VERSION (KIP-511).
        if wire::body(&answer).starts_with(&35i16.to_be_bytes()) {
            version = 0;
            let bare = ApiVersionsRequest::default();
            answer = self.post(Api::API_VERSIONS, version, &bare)?.answer(&self.line).await?;
        }
        let response: ApiVersionsResponse =
            wire::decode(Api::API_VERSIONS, version, answer, &self.line.address)?;
        let about = About { address: &self.line.address, ..About::default() };
        Error::check(response.error_code, about)?;
        Ok(Versions::offered(&response))
    }

    /// The broker's address, as host:port.
    pub fn address(&self) -> &str {
        &self.line.address
    }

    /// Whether it has broken or been closed.
    pub fn is_closed(&self) -> bool {
        self.line.state.lock().closed.is_some()
    }

    /// Closes the connection: all unanswered requests fail with `reason`.
    pub fn close(&self, reason: Error) {
        self.line.close(reason);
        self.reader.abort();
        self.writer.abort();
    }

    /// The negotiated version of an API.
    pub fn version<R: Request>(&self) -> Result<i16, Error> {
        self.versions.common::<R>(self.address())
    }

    /// Queues a request; it is written after all queued before it.
    pub fn send<R: Request>(&self, version: i16, request: &R) -> Result<Pending<R::Response>, Error> {
        let api = Api(R::KEY);
        let posted = self.post(api, version, request)?;
        Ok(Pending { posted, api, version, line: Arc::clone(&self.line), response: PhantomData })
    }

    /// Queues a request without a response: a Produce with acks=0. The returned future resolves once it has
    /// been handed to the operating system.
    pub fn send_unanswered<R: Request>(&self, version: i16, request: &R) -> Result<Written, Error> {
        let body = encode(Api(R::KEY), version, request)?;
        let written = self.queue(Api(R::KEY), version, &body, None)?;
        Ok(Written { written, line: Arc::clone(&self.line) })
    }

    /// Sends a request and waits for the response, up to the connection's timeout.
    pub async fn call<R: Request>(&self, version: i16, request: &R) -> Result<R::Response, Error> {
        self.send(version, request)?.within(self.timeout).await
    }

    /// Sends a request in the negotiated version.
    pub async fn ask<R: Request>(&self, request: &R) -> Result<R::Response, Error> {
        self.call(self.version::<R>()?, request).await
    }

    /// Returns once the broker has processed all earlier requests. Brokers process a connection's requests in
    /// order, so the response to a small one implies that earlier ones with acks=0 were processed.
    pub async fn barrier(&self) -> Result<(), Error> {
        self.call(0, &ApiVersionsRequest::default()).await.map(|_| ())
    }

    fn post<R: Request>(&self, api: Api, version: i16, request: &R) -> Result<Posted, Error> {
        let body = encode(api, version, request)?;
        let (answer, receiver) = oneshot::channel();
        drop(self.queue(api, version, &body, Some(answer))?);
        Ok(Posted(receiver))
    }

    fn queue(
        &self,
        api: Api,
        version: i16,
        body: &[u8],
        answer: Option<oneshot::Sender<Result<Bytes, Error>>>,
    ) -> Result<oneshot::Receiver<()>, Error> {
        // The lock is held until the frame is queued, so that the write queue and the waiting requests are in
        // the same order.
        let mut state = self.line.state.lock();
        if let Some(closed) = &state.closed {
            return Err(closed.clone());
        }
        if state.waiting.len() + state.unwritten >= OUTSTANDING_MAX {
            let address = self.address();
            return Err(Error::misused(format!(
                "{OUTSTANDING_MAX} requests to {address} are outstanding already"
            )));
        }
        let correlation_id = state.next_correlation_id;
        state.next_correlation_id = correlation_id.wrapping_add(1);
        let client_id = Some(Arc::clone(&self.line.client_id));
        let frame = frame::encode_request(&Header { api, version, correlation_id, client_id }, body);
        let (written, receiver) = oneshot::channel();
        if self.outgoing.send(Outgoing { frame, written }).is_err() {
            return Err(Error::disconnected(self.address(), "its writer has ended"));
        }
        state.unwritten += 1;
        state.waiting.extend(answer.map(|answer| Waiting { correlation_id, answer }));
        Ok(receiver)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.line.close(Error::disconnected(&self.line.address, "this side has dropped it"));
        // The writer still writes what is queued; then it finds the queue closed, and shuts the socket down.
        self.reader.abort();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("address", &self.line.address).finish_non_exhaustive()
    }
}

impl Line {
    /// Closes the line once; later reasons do not replace the first.
    fn close(&self, reason: Error) {
        let mut state = self.state.lock();
        let reason = state.closed.get_or_insert(reason).clone();
        for waiting in state.waiting.drain(..) {
            // The caller may have given up.
            let _ = waiting.answer.send(Err(reason.clone()));
        }
    }

    /// Why the connection ended.
    fn reason(&self) -> Error {
        let closed = self.state.lock().closed.clone();
        closed.unwrap_or_else(|| Error::disconnected(&self.address, "this side has dropped it"))
    }
}

fn encode<R: Encodable>(api: Api, version: i16, request: &R) -> Result<BytesMut, Error> {
    let refused =
        |error: String| Error::misused(format!("{api} {version} cannot say what was asked: {error}"));
    let size = request.compute_size(version).map_err(|error| refused(format!("{error:#}")))?;
    let mut body = BytesMut::with_capacity(size);
    request.encode(&mut body, version).map_err(|error| refused(format!("{error:#}")))?;
    Ok(body)
}

#[cfg(test)]
mod tests;
