//! The most that one request of each API can ask for, and the memory for it.
//!
//! A request that was decoded is up to fifty times larger than its bytes, and a reply may be as large as all that is
//! stored. So a call that can be large waits until its reply is the next of its connection, and draws on the reply memory
//! for what it is decoded into and for its reply before it begins. What the size of a reply is cannot be known before a
//! call for all topics or all groups has looked at them: two of those run at a time, and draw when they know.
//!
//! Who holds reply memory never waits for more of it.
//!
//! A part of a split call draws for nothing: its reply is merged with those of other parts, and waiting for memory while
//! one of them holds some would be a circle. Framing draws for the merged reply.

use kernel::budget::Lease;
use kernel::schema::walk::RawValue;
use kernel::{Call, Hangup, Reply};
use tokio::sync::OwnedSemaphorePermit;

use crate::apis::common::answer::ApiError;
use crate::broker::Broker;

/// About how much memory an element of a request takes when it is decoded.
pub(crate) const DECODED_BYTES: usize = 160;
/// A call of less is not large.
pub(crate) const LARGE_BYTES: usize = 64 << 10;
/// The same for Produce, whose calls must not wait for each other: a producer may send to a thousand partitions at once.
const LARGE_PRODUCE_BYTES: usize = 1 << 20;

/// What a request of an API may ask for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// Bytes of reply for each struct, string and number in the request.
    per_element: usize,
    all: All,
    large: usize,
}

/// Whether a request is for all topics, groups or members.
#[derive(Debug, Clone, Copy)]
enum All {
    Never,
    Always,
    /// If an array of this name is null or empty.
    Without(&'static str),
}

impl Effort {
    /// A reply that grows with the elements of the request.
    pub(crate) const fn per_element(bytes: usize) -> Self {
        Self { per_element: bytes, all: All::Never, large: LARGE_BYTES }
    }

    /// Produce.
    pub(crate) const fn produce() -> Self {
        Self { large: LARGE_PRODUCE_BYTES, ..Self::per_element(60) }
    }

    /// A reply that may be as large as all that is stored.
    pub(crate) const fn all() -> Self {
        Self { all: All::Always, ..Self::per_element(0) }
    }

    /// The same if an array of the request is null or empty; otherwise it grows with the elements.
    pub(crate) const fn all_without(array: &'static str, bytes: usize) -> Self {
        Self { all: All::Without(array), ..Self::per_element(bytes) }
    }

    /// The API itself draws for its memory.
    pub(crate) const fn own() -> Self {
        Self { large: usize::MAX, ..Self::per_element(0) }
    }

    /// Waits for the memory of a call, if it may be large.
    pub(crate) async fn room(self, broker: &Broker, call: &mut Call) -> Result<Room, ApiError> {
        if self.large == usize::MAX {
            return Ok(Room::default());
        }
        let is_for_all = self.is_for_all(call)?;
        let bytes = call.elements()?.saturating_mul(DECODED_BYTES + self.per_element);
        if !is_for_all && bytes <= self.large {
            return Ok(Room::default());
        }
        call.ticket.front().await;
        if is_for_all {
            return Ok(Room { survey: broker.survey().await, lease: Lease::default() });
        }
        let lease = if call.ticket.is_part() { Lease::default() } else { broker.replies.take(bytes).await };
        Ok(Room { survey: None, lease })
    }

    fn is_for_all(self, call: &mut Call) -> Result<bool, ApiError> {
        let All::Without(array) = self.all else { return Ok(matches!(self.all, All::Always)) };
        let mut is_missing = false;
        call.walk(|found| {
            let is_empty = matches!(found.value, RawValue::Null | RawValue::Array(0));
            is_missing |= is_empty && found.field.name == array;
        })?;
        Ok(is_missing)
    }
}

/// The memory of a call.
#[derive(Default)]
pub(crate) struct Room {
    /// Whether it is one of the few that look at everything.
    survey: Option<OwnedSemaphorePermit>,
    lease: Lease,
}

impl Room {
    /// Gives the memory to the reply. If that is larger than was thought, what was drawn is given back before more is: who
    /// holds memory never waits for more.
    pub(crate) async fn give(
        self,
        broker: &Broker,
        call: &Call,
        mut answer: Result<Option<Reply>, Hangup>,
    ) -> Result<Option<Reply>, Hangup> {
        let Ok(Some(reply)) = &mut answer else { return answer };
        if !reply.lease.is_empty() || call.ticket.is_part() {
            return answer;
        }
        let Room { survey, mut lease } = self;
        let bytes = reply.body.len();
        if bytes <= lease.bytes() {
            lease.shrink(bytes);
        } else if bytes > LARGE_BYTES {
            drop(lease);
            call.ticket.front().await;
            lease = broker.replies.take(bytes).await;
        }
        reply.lease = lease;
        drop(survey);
        answer
    }
}
