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
    /// The API; framing passes unknown keys only to a stack that serves them.
    pub api: Api,
    /// Its version.
    pub version: i16,
    /// Echoed in the reply. Clients may reuse one, so it must not serve as a lookup key.
    pub correlation_id: i32,
    /// The client's id, as the client sent it.
    pub client_id: Option<Arc<str>>,
}

/// The body of a request: raw bytes until it is decoded.
///
/// A body that no layer changes reaches the service byte for byte.
#[derive(Debug)]
pub struct Body {
    raw: Bytes,
    lease: Arc<Lease>,
    /// The structs, strings and numbers in it, once its bounds have been checked.
    elements: Option<usize>,
    is_decoded: bool,
}

impl Body {
    /// A body of its own that shares the lease of this one: of one part of a split call.
    fn part(&self, raw: Bytes) -> Self {
        Self { raw, lease: self.lease(), elements: None, is_decoded: false }
    }

    /// A body and its lease on the request memory.
    pub fn new(raw: Bytes, lease: Lease) -> Self {
        Self { raw, lease: Arc::new(lease), elements: None, is_decoded: false }
    }

    /// The bytes as they are now.
    pub fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// Whether it has been decoded.
    pub fn is_decoded(&self) -> bool {
        self.is_decoded
    }

    /// Releases the bytes and their request memory; for a call that parks after decoding. It cannot be
    /// decoded or refused afterwards.
    pub fn release(&mut self) {
        *self = Self::new(Bytes::new(), Lease::default());
    }

    /// A shared lease on this body's request memory; keep it as long as slices of the body outlive the call.
    pub fn lease(&self) -> Arc<Lease> {
        Arc::clone(&self.lease)
    }
}

/// One request of one connection.
#[derive(Debug)]
pub struct Call {
    /// The request header.
    pub header: Header,
    /// The request body.
    pub body: Body,
    /// The connection it came from.
    pub session: Arc<Session>,
    /// Its position in the order of that connection's calls.
    pub ticket: Ticket,
    /// The service that gave the producer ids in a Produce; `None` if it is the one that the call is for.
    pub origin: Option<Arc<str>>,
}

impl Call {
    /// The parts of the call, one for each of these bodies. They share its ticket and its request memory.
    pub fn into_parts(self, bodies: Vec<Bytes>) -> Vec<Call> {
        let Call { header, body, session, ticket, origin } = self;
        let tickets = ticket.split(bodies.len());
        let part = |(raw, ticket): (Bytes, Ticket)| Call {
            header: header.clone(),
            body: body.part(raw),
            session: Arc::clone(&session),
            ticket,
            origin: origin.clone(),
        };
        bodies.into_iter().zip(tickets).map(part).collect()
    }

    /// Checks the bounds of the body once; later invocations are free.
    pub fn check(&mut self) -> Result<(), Malformed> {
        self.elements().map(|_| ())
    }

    /// How many structs, strings and numbers in arrays the body has.
    pub fn elements(&mut self) -> Result<usize, Malformed> {
        if let Some(elements) = self.body.elements {
            return Ok(elements);
        }
        let Some(message) = self.header.api.message(Direction::Request) else {
            return Err(Malformed(format!("{} is not an API of Kafka 4.1", self.header.api)));
        };
        let elements = walk::count(message, self.header.version, &self.body.raw, |_| {})?;
        self.body.elements = Some(elements);
        Ok(elements)
    }

    /// Decodes the body, after its bounds have been checked. Strings and bytes are slices of the frame.
    pub fn decode<T: Decodable>(&mut self) -> Result<T, Malformed> {
        self.check()?;
        self.body.is_decoded = true;
        decode(&self.body.raw, self.header.version)
    }

    /// Shows `visit` every value of the body; no decoding and no allocation.
    pub fn walk(&mut self, visit: impl FnMut(walk::Found<'_>)) -> Result<(), Malformed> {
        let Some(message) = self.header.api.message(Direction::Request) else { return Ok(()) };
        let elements = walk::count(message, self.header.version, &self.body.raw, visit)?;
        self.body.elements = Some(elements);
        Ok(())
    }

    /// Replaces the values for which `edit` returns another; the rest stays byte for byte.
    pub fn rewrite(
        &mut self,
        edit: impl FnMut(&walk::Found<'_>) -> Option<walk::Replacement>,
    ) -> Result<(), Malformed> {
        let Some(message) = self.header.api.message(Direction::Request) else { return Ok(()) };
        if let Some(changed) = walk::rewrite(message, self.header.version, &self.body.raw, edit)? {
            self.body.raw = changed;
        }
        Ok(())
    }

    /// Replaces the body.
    pub fn replace_body<T: Encodable>(&mut self, message: &T) -> Result<(), Malformed> {
        self.body.raw = encode(message, self.header.version)?;
        self.body.elements = None;
        Ok(())
    }

    /// The reply with this response, encoded at the version of the call.
    ///
    /// An encoding error is a bug in the code that built the response (a field that this version lacks).
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
            origin: None,
        }
    }
}

pub(crate) fn decode<T: Decodable>(body: &Bytes, version: i16) -> Result<T, Malformed> {
    T::decode(&mut body.clone(), version).map_err(|error| Malformed(format!("{error:#}")))
}

pub(crate) fn encode<T: Encodable>(message: &T, version: i16) -> Result<Bytes, Malformed> {
    let size = message.compute_size(version).map_err(|error| Malformed(format!("{error:#}")))?;
    let mut buffer = bytes::BytesMut::with_capacity(size);
    message.encode(&mut buffer, version).map_err(|error| Malformed(format!("{error:#}")))?;
    Ok(buffer.freeze())
}
