//! What climbs back up: the body of a response, and what the connection must do about it.

use std::time::Duration;

use bytes::Bytes;

use crate::budget::Lease;

/// The answer to one call. The framing layer puts length, correlation id and header before the body.
#[derive(Debug, Default)]
pub struct Reply {
    /// The response body, in parts that are sent one after the other.
    pub body: Vec<Bytes>,
    /// Keeps the connection from being read for this long after the reply was sent (quotas, failed logins).
    pub mute: Option<Duration>,
    /// Closes the connection once the reply has been sent.
    pub close: bool,
    /// Reply memory that is given back once the reply has been sent.
    pub lease: Lease,
}

impl Reply {
    /// A reply with this body.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { body: vec![body.into()], ..Self::default() }
    }

    /// The length of the whole body in bytes.
    pub fn body_bytes(&self) -> usize {
        self.body.iter().map(Bytes::len).sum()
    }

    /// The body in one piece; copies only when it has several parts.
    pub fn contiguous(&self) -> Bytes {
        match self.body.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            parts => parts.concat().into(),
        }
    }
}
