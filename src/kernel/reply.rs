//! The reply to a call: a response body, and what the connection must do after it.

use std::time::Duration;

use bytes::Bytes;

use crate::budget::Lease;
use crate::records_later::Records;

/// The reply to one call. The framing layer prepends length, correlation id and header.
#[derive(Debug, Default)]
pub struct Reply {
    /// The response body. If there are `records`, its records fields are empty.
    pub body: Bytes,
    /// The records of a Fetch: none if the body has them, otherwise one entry per records field of the body, in order.
    /// They are put into their places when the reply is sent: see [`crate::frame::response_parts`].
    pub records: Vec<Records>,
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
        Self { body: body.into(), ..Self::default() }
    }

    /// About how many bytes will be sent: those of the body and the records.
    pub fn bytes(&self) -> u64 {
        self.body.len() as u64 + self.records.iter().map(Records::bytes).sum::<u64>()
    }
}
