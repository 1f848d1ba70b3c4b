//! The plane above framing, where a connection is a stream of bytes.

use std::any::Any;
use std::future::Future;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::door::Hangup;
use crate::session::Session;

/// A connection's bidirectional byte stream: a socket, or a TLS stream over it.
pub trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// An accepted connection on its way to framing.
pub struct Connection {
    /// The bytes.
    pub stream: Box<dyn ByteStream>,
    /// Its session; shared once framing begins.
    pub session: Session,
    /// Guards kept until the connection ends, such as its count in a connection limit.
    pub guards: Vec<Box<dyn Any + Send>>,
}

/// A layer above framing.
pub trait StreamLayer: Send + Sync {
    /// Takes a connection and passes it on, changed or not, or closes it.
    fn admit(
        &self,
        connection: Connection,
    ) -> Pin<Box<dyn Future<Output = Result<Connection, Hangup>> + Send + '_>>;
}
