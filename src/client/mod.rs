//! A small Kafka client for the command line and the tests.
//!
//! It is not a library for applications. It joins no consumer groups, and produces in no transactions and without TLS.
//! Otherwise it behaves as Kafka's own clients do, so that the broker is used as they use it:
//!
//! - [`connection`]: one TCP connection, many requests in flight, versions negotiated at the start.
//! - [`cluster`]: bootstrap, metadata, a connection to each leader, new metadata when a leader moves.
//! - [`producer`]: batches by partition, linger, acks, codecs, idempotence, retries that preserve order.
//! - [`consumer`]: long polls by partition from an offset, decoded by [`kernel::records`].
//! - [`admin`] and [`offsets`]: topics, their configs, and offsets.
//! - [`groups`]: administration of consumer groups.
//! - [`transactions`]: administration of transactions.
//! - [`isolation`]: whether open and aborted transactions are read.
//! - [`error`]: every failure as a sentence that says what to do.
//!
//! A response is checked by [`kernel::schema::walk`] before it is decoded: brokers are not trusted either.

pub mod admin;
pub mod cluster;
pub mod connection;
pub mod consumer;
pub mod error;
pub mod groups;
pub mod isolation;
pub mod offsets;
pub mod producer;
mod retry;
pub mod transactions;
pub mod versions;

#[cfg(test)]
mod fake;

pub use cluster::Cluster;
pub use connection::Connection;
pub use consumer::Consumer;
pub use error::Error;
pub use isolation::Isolation;
pub use producer::Producer;
