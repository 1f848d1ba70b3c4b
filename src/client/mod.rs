//! A small Kafka client: what the command line and the tests talk to a broker with.
//!
//! It is not a library for applications. It joins no consumer groups, and knows no transactions and no TLS; what it does know
//! it does as Kafka's own clients do, so that the broker is used as they use it:
//!
//! - [`connection`]: one TCP connection, many requests in flight, versions agreed upon at the start.
//! - [`cluster`]: bootstrap, metadata, a connection to each leader, new metadata when a leader moves.
//! - [`producer`]: batches by partition, linger, acks, codecs, idempotence, retries that keep the order.
//! - [`consumer`]: long polls by partition from an offset, decoded by [`kernel::records`].
//! - [`admin`] and [`offsets`]: topics, their configs, their ends.
//! - [`groups`]: consumer groups, seen from outside.
//! - [`error`]: every failure as a sentence that says what to do.
//!
//! An answer is walked by [`kernel::schema::walk`] before it is decoded: this side of the wire is not trusted either.

pub mod admin;
pub mod cluster;
pub mod connection;
pub mod consumer;
pub mod error;
pub mod groups;
pub mod offsets;
pub mod partitioner;
pub mod producer;
mod retry;
pub mod versions;

#[cfg(test)]
mod fake;

pub use cluster::Cluster;
pub use connection::Connection;
pub use consumer::Consumer;
pub use error::Error;
pub use producer::Producer;
