//! The parts of a Fetch: what a request asks for, place by place, and what a response has, place by place.
//!
//! [`FetchRequest`] is a request copied out of its frame, so that a part that waits holds no request memory.
//! [`FetchAnswer`] is a response whose records are apart, so that merging copies none. Which parts there are, how long
//! each waits and with which sessions is the caller's.

mod answer;
mod place;
mod request;
mod wire;

pub use answer::{FetchAnswer, FetchedPartition};
pub use place::{Place, TopicKey};
pub use request::{FetchRequest, FetchTerms, Position, SessionFields, write_request};
