//! Isolation levels.

/// Which records a client reads (KIP-98).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Isolation {
    /// All that are durable.
    #[default]
    ReadUncommitted,
    /// Those before the last stable offset, without those of aborted transactions.
    ReadCommitted,
}

impl Isolation {
    /// Its number in a request.
    pub(super) fn level(self) -> i8 {
        match self {
            Isolation::ReadUncommitted => 0,
            Isolation::ReadCommitted => 1,
        }
    }
}
