//! The types that all layers and services of Yagura share.
//!
//! A client's request is a [`Call`]; it passes down a [`Stack`] of layers, each behind a [`Door`], to a
//! service, and a [`Reply`] returns. A connection's state is its [`Session`]; [`Ticket`]s keep the order in
//! which its calls take effect. [`split`] divides a call among services. [`schema`] holds Kafka's message
//! definitions as data, [`records`] reads record batches. It uses no sockets and no files.

pub mod api;
mod api_versions;
pub mod budget;
pub mod call;
pub mod clock;
pub mod consumer_protocol;
pub mod door;
pub mod drain;
pub mod frame;
pub mod ids;
pub mod kafka_name;
pub mod layer;
mod malformed;
pub mod masked;
pub mod metrics;
pub mod panics;
pub mod partitioner;
pub mod parts;
pub mod ports;
pub mod records;
pub mod records_later;
pub mod refusal;
pub mod reply;
pub mod schema;
pub mod served;
pub mod service;
pub mod session;
pub mod settings;
pub mod split;
pub mod stack;
pub mod stream;
pub mod ticket;
pub mod units;

pub use api::Api;
pub use call::{Body, Call, Header};
pub use door::{Door, Hangup, ReplyFuture};
pub use ids::{IdSource, NodeId, ProducerId, TopicId, TopicPartition};
pub use kafka_protocol::error::ResponseError as ErrorCode;
pub use malformed::Malformed;
pub use records_later::Records;
pub use reply::Reply;
pub use served::{Served, ServedApi};
pub use service::Service;
pub use session::Session;
pub use stack::{Depth, Interest, Stack};
pub use ticket::Ticket;
