//! Messages that other programs leave in a store, in transactions of their own, for the broker to append.

use std::sync::Arc;

use bytes::Bytes;
use kernel::ports::BoxFuture;
use rules::commands::{Append, Outcome, Refused};

use super::Pending;

/// A message that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Whoever has seen a transaction's commit has later ids than it.
    pub id: i64,
    /// The name of its topic, which may not exist.
    pub topic: Arc<str>,
    /// Its partition; `None` if the key decides.
    pub partition: Option<i32>,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers as JSON: an object of texts, or a list of pairs.
    pub headers: Option<String>,
    /// When it was sent, in ms since the Unix epoch.
    pub timestamp_ms: i64,
}

/// Messages that one command appends.
#[derive(Debug, Clone)]
pub struct Move {
    /// Their ids, in the order of the records of the batch.
    pub ids: Vec<i64>,
    /// The name of their topic.
    pub topic: Arc<str>,
    /// The command.
    pub append: Append,
}

/// A message that no log takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The message.
    pub id: i64,
    /// Why.
    pub why: Refused,
}

/// The messages that wait in a store. One caller at a time moves them.
pub trait Outbox: Send + Sync {
    /// The next messages, in the order of their ids. Those of one page are to be settled, rejected or left where they are before
    /// the next is asked for, and whether any was left is to be said. An empty page is the last one for now: all that was
    /// committed before has been seen.
    fn page(&self, has_left: bool) -> Pending<Vec<Message>>;

    /// Forgets what was seen: the next page begins with the first message that is there.
    fn begin_anew(&self) -> BoxFuture<'static, ()>;

    /// Appends messages, and takes those out in the same transaction that were appended.
    fn settle(&self, moves: Vec<Move>) -> Pending<Vec<Outcome>>;

    /// Puts messages aside, with the reason.
    fn reject(&self, rejected: Vec<Rejection>) -> Pending<()>;

    /// Returns once there may be messages that were not seen.
    fn woken(&self) -> BoxFuture<'static, ()>;
}
