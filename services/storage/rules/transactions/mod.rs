//! Transactions (KIP-98, KIP-360, KIP-447, KIP-588, KIP-664, KIP-890).
//!
//! A transactional id has a document with its producer and the state of its transaction, and documents for what an open
//! transaction has in it: partitions, groups, and the offsets that it will commit. No broker knows more. A command that ends
//! a transaction writes the markers of all partitions, commits the offsets of all groups and changes the state at once, so
//! that Kafka's `Prepare` states do not exist, and nobody is told to come again (CONCURRENT_TRANSACTIONS). Its cost grows
//! with what is in the transaction.
//!
//! In the log of a partition, a transaction begins with its first batch, and is an [`OpenTransaction`] until its marker.
//! The last stable offset is where the first of them begins. An [`AbortedTransaction`] is kept as long as its marker.
//!
//! [`OpenTransaction`]: crate::documents::OpenTransaction
//! [`AbortedTransaction`]: crate::documents::AbortedTransaction

mod add;
mod append;
mod decide;
mod end;
mod expire;
mod init;
mod marker;
mod offsets;
mod state;

pub(crate) use append::{check_append, join, needs_to_append};
pub(crate) use decide::{decide, needs};
pub(crate) use marker::{needs_to_write_marker, write_marker};

#[cfg(test)]
mod tests;
