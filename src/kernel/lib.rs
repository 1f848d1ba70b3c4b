//! The words that every room of Yagura speaks.
//!
//! A client's request is a [`Call`]; it climbs down a [`Stack`] of layers, each behind a [`Door`], to a service, and a
//! [`Reply`] climbs back. What a connection knows of itself is its [`Session`]; in which order its calls take effect is
//! kept by their [`Ticket`]s. [`schema`] holds Kafka's message definitions as data, [`records`] reads record batches.
//! There are no sockets and no files in here.

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
pub mod layer;
mod malformed;
pub mod metrics;
pub mod ports;
pub mod records;
pub mod refusal;
pub mod reply;
pub mod schema;
pub mod served;
pub mod service;
pub mod session;
pub mod settings;
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
pub use reply::Reply;
pub use served::{Served, ServedApi};
pub use service::Service;
pub use session::Session;
pub use stack::{Depth, Interest, Stack};
pub use ticket::Ticket;
