//! A client's request on its way down the tower.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::protocol::{Decodable, Encodable};

use crate::api::Api;
use crate::budget::Lease;
use crate::malformed::Malformed;
use crate::reply::Reply;
use crate::schema::{Direction, walk};
use crate::session::Session;
use crate::ticket::Ticket;

/// The request header, whatever its version.
#[derive(Debug, Clone)]
pub struct Header {
    /// The API asked for; framing lets unknown keys through only where a stack wants them.
    pub api: Api,
    /// Its version.
    pub version: i16,
    /// Echoed in the reply. Clients repeat these, so nothing may be looked up by it.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<Arc<str>>,
}

/// The body of a request: raw bytes until somebody asks.
///
/// A body that nobody changes reaches its service as the very bytes that came in.
#[derive(Debug)]
pub struct Body {
    raw: Bytes,
    lease: Arc<Lease>,
    is_checked: bool,
    is_decoded: bool,
}

impl Body {
    /// A body, with the request memory that it holds.
    pub fn new(raw: Bytes, lease: Lease) -> Self {
        Self { raw, lease: Arc::new(lease), is_checked: false, is_decoded: false }
    }

    /// The bytes as they are now.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Whether anybody has decoded it.
    pub fn is_decoded(&self) -> bool {
        self.is_decoded
    }

    /// Gives the bytes and their request memory back; for a call that parks once it knows what is asked. It can no
    /// longer be decoded or refused after that.
    pub fn release(&mut self) {
        *self = Self::new(Bytes::new(), Lease::default());
    }

    /// A share in the request memory of this body; what outlives the call keeps it as long as it keeps slices.
    pub fn lease(&self) -> Arc<Lease> {
        Arc::clone(&self.lease)
    }
}

/// One request of one connection.
#[derive(Debug)]
pub struct Call {
    /// What is asked, and how.
    pub header: Header,
    /// The request itself.
    pub body: Body,
    /// The connection it came from.
    pub session: Arc<Session>,
    /// Its place among the calls of that connection.
    pub ticket: Ticket,
}

impl Call {
    /// Checks the bounds of the body once; later calls are free.
    pub fn check(&mut self) -> Result<(), Malformed> {
        if self.body.is_checked {
            return Ok(());
        }
        let Some(message) = self.header.api.message(Direction::Request) else {
            return Err(Malformed(format!("{} is not an API of Kafka 4.1", self.header.api)));
        };
        walk::check(message, self.header.version, &self.body.raw)?;
        self.body.is_checked = true;
        Ok(())
    }

    /// Decodes the body, after its bounds have been checked. Strings and bytes are slices of the frame.
    pub fn decode<T: Decodable>(&mut self) -> Result<T, Malformed> {
        self.check()?;
        self.body.is_decoded = true;
        let mut bytes = self.body.raw.clone();
        T::decode(&mut bytes, self.header.version).map_err(|error| Malformed(format!("{error:#}")))
    }

    /// Shows `visit` every value of the body; no decoding and no allocation.
    pub fn walk(&mut self, visit: impl FnMut(walk::Found<'_>)) -> Result<(), Malformed> {
        let Some(message) = self.header.api.message(Direction::Request) else { return Ok(()) };
        walk::walk(message, self.header.version, &self.body.raw, visit)?;
        self.body.is_checked = true;
        Ok(())
    }

    /// Replaces values of the body where `edit` gives another, and leaves the rest byte for byte.
    pub fn rewrite(
        &mut self,
        edit: impl FnMut(&walk::Found<'_>) -> Option<walk::Replacement>,
    ) -> Result<(), Malformed> {
        let Some(message) = self.header.api.message(Direction::Request) else { return Ok(()) };
        if let Some(changed) = walk::rewrite(message, self.header.version, &self.body.raw, edit)? {
            self.body.raw = changed;
        }
        self.body.is_checked = true;
        Ok(())
    }

    /// Puts another body in place of the present one.
    pub fn replace_body<T: Encodable>(&mut self, message: &T) -> Result<(), Malformed> {
        self.body.raw = encode(message, self.header.version)?;
        self.body.is_checked = false;
        Ok(())
    }

    /// The reply with this response, encoded at the version of the call.
    ///
    /// An encoding error is a bug of the room that built the response (a field set that this version lacks).
    pub fn reply<T: Encodable>(&self, response: &T) -> Result<Reply, Malformed> {
        encode(response, self.header.version).map(Reply::new)
    }

    /// A call on a test session.
    pub fn for_tests<T: Encodable>(api: Api, version: i16, request: &T) -> Call {
        Self::for_tests_raw(api, version, encode(request, version).expect("a test's request encodes"))
    }

    /// A call with this body on a test session.
    pub fn for_tests_raw(api: Api, version: i16, body: Bytes) -> Call {
        Call {
            header: Header { api, version, correlation_id: 1, client_id: None },
            body: Body::new(body, Lease::default()),
            session: Session::for_tests(),
            ticket: Ticket::only(),
        }
    }
}

fn encode<T: Encodable>(message: &T, version: i16) -> Result<Bytes, Malformed> {
    let size = message.compute_size(version).map_err(|error| Malformed(format!("{error:#}")))?;
    let mut buffer = bytes::BytesMut::with_capacity(size);
    message.encode(&mut buffer, version).map_err(|error| Malformed(format!("{error:#}")))?;
    Ok(buffer.freeze())
}
