//! The reply to a call: a response body, and what the connection must do after it.

use std::time::Duration;

use bytes::Bytes;

use crate::budget::Lease;

/// The reply to one call. The framing layer prepends length, correlation id and header.
#[derive(Debug, Default)]
pub struct Reply {
    /// The response body, in parts that are sent in order.
    pub body: Vec<Bytes>,
    /// Mutes the connection for this long after the reply has been sent (quotas, failed authentication).
    pub mute: Option<Duration>,
    /// Closes the connection once the reply has been sent.
    pub close: bool,
    /// Reply memory that is released once the reply has been sent.
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
