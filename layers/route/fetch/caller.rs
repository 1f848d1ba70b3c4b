//! Calls of the parts of one Fetch.

use std::sync::Arc;

use bytes::Bytes;
use kernel::budget::Lease;
use kernel::{Body, Call, Header, ReplyFuture, Session, Ticket};

use crate::route::table::Table;

/// Makes the calls of the parts of one Fetch.
pub(super) struct Caller {
    pub(super) table: Arc<Table>,
    pub(super) header: Header,
    /// The connection as the services see it: it has no state of this layer, which holds calls of it.
    pub(super) session: Arc<Session>,
}

impl Caller {
    /// Sends a request to a service. The whole call is the next to be answered on its connection, so the part has no
    /// other call to wait for.
    pub(super) fn call(&self, service: usize, body: Bytes) -> ReplyFuture {
        let call = Call {
            header: self.header.clone(),
            body: Body::new(body, Lease::default()),
            session: Arc::clone(&self.session),
            ticket: Ticket::only(),
            origin: None,
        };
        Box::pin(self.table.enter(service, call))
    }

    /// The version of all parts.
    pub(super) fn version(&self) -> i16 {
        self.header.version
    }
}
