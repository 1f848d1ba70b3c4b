//! Whether a store takes records: it does not while its disk is full, or while it holds `store_bytes_max`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kernel::ErrorCode;
use kernel::metrics::{MetricKind, Page};
use kernel::units::ByteSize;
use rules::commands::{Command, Refused};
use tokio::sync::watch;
use tracing::{error, info};

/// Why a store takes no more records, as a sentence with the remedy; `None` while it takes them.
pub type WhyFull = Option<Arc<str>>;

/// A store that has reached its limit takes records again below this part of it, so that it does not change with every
/// batch.
const AGAIN_PERCENT: u64 = 97;

/// Whether a store holds too much; `was_over` tells whether it did before.
pub(in crate::engines) fn is_over(bytes: u64, bytes_max: u64, was_over: bool) -> bool {
    bytes >= if was_over { bytes_max / 100 * AGAIN_PERCENT } else { bytes_max }
}

/// What the operator is told at the limit.
pub(in crate::engines) fn why_at_limit(bytes_max: u64) -> Arc<str> {
    let bytes_max = ByteSize(bytes_max);
    format!(
        "the store has reached its store_bytes_max of {bytes_max}: clients that produce or create topics get KAFKA_STORAGE_ERROR until it holds less than {AGAIN_PERCENT} % of that; delete topics or records, shorten their retention, or raise store_bytes_max"
    )
    .into()
}

/// What a client is told at the limit.
pub(in crate::engines) const AT_LIMIT: &str = "The store has reached store_bytes_max: no records, topics or partitions are taken, and nothing is added to transactions, until something is deleted.";

/// Refuses a command that adds what only deleting takes away again: records, topics, partitions, and what the end of a
/// transaction will write of. All others go on.
pub(in crate::engines) fn refuse_growth(command: &Command, message: &str) -> Result<(), Refused> {
    growth(command).map_or(Ok(()), |error| Err(Refused::new(error, message)))
}

/// The error for a command that adds what only deleting takes away again. A client tries each of them again.
pub(in crate::engines) fn growth(command: &Command) -> Option<ErrorCode> {
    match command {
        Command::Append(_) | Command::CreateTopic { .. } | Command::CreatePartitions { .. } => {
            Some(ErrorCode::KafkaStorageError)
        }
        // The marker of a partition is a record. Clients take KAFKA_STORAGE_ERROR from a coordinator for the end.
        Command::Transaction { command, .. } if !command.may_end() => {
            Some(ErrorCode::CoordinatorNotAvailable)
        }
        Command::Check(inner) => growth(inner),
        _ => None,
    }
}

/// What is shown of a store's room.
#[derive(Debug)]
pub(in crate::engines) struct RoomStatus {
    why: watch::Sender<WhyFull>,
    bytes: AtomicU64,
    bytes_max: Option<u64>,
}

impl RoomStatus {
    pub(in crate::engines) fn new(bytes_max: Option<ByteSize>) -> Self {
        let (why, bytes) = (watch::Sender::new(None), AtomicU64::new(0));
        Self { why, bytes, bytes_max: bytes_max.map(|bytes_max| bytes_max.0) }
    }

    /// Follows whether the store is full.
    pub(in crate::engines) fn full(&self) -> watch::Receiver<WhyFull> {
        self.why.subscribe()
    }

    pub(in crate::engines) fn is_full(&self) -> bool {
        self.why.borrow().is_some()
    }

    pub(in crate::engines) fn bytes_max(&self) -> Option<u64> {
        self.bytes_max
    }

    /// Shows how many bytes the store holds.
    pub(in crate::engines) fn holds(&self, bytes: u64) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Shows whether the store is full. It is logged once that it is, and once that it is no more.
    pub(in crate::engines) fn tell(&self, why: WhyFull) {
        let before = self.why.borrow().clone();
        if before == why {
            return;
        }
        match &why {
            Some(why) => error!("{why}"),
            None => info!("the store has room again, and takes records"),
        }
        self.why.send_replace(why);
    }

    /// Writes the metrics.
    pub(in crate::engines) fn collect(&self, page: &mut Page) {
        let full = "1 while the store takes no records: its disk is full, or store_bytes_max is reached.";
        page.family("yagura_store_full", MetricKind::Gauge, full);
        page.sample(&[], if self.is_full() { 1.0 } else { 0.0 });
        let bytes = "Bytes that the store holds, without what is free within its file; a while old.";
        page.family("yagura_store_bytes", MetricKind::Gauge, bytes);
        page.sample(&[], self.bytes.load(Ordering::Relaxed) as f64);
        if let Some(bytes_max) = self.bytes_max {
            page.family("yagura_store_bytes_max", MetricKind::Gauge, "The setting store_bytes_max.");
            page.sample(&[], bytes_max as f64);
        }
    }
}

#[cfg(test)]
mod tests {
    use kernel::{ProducerId, TopicId, TopicPartition};
    use rules::commands::{EndTransaction, ProducerIdAndEpoch, TransactionCommand};

    use super::*;

    #[test]
    fn a_limit_that_was_reached_is_left_well_below_it() {
        assert!(!is_over(999, 1_000, false));
        assert!(is_over(1_000, 1_000, false));
        assert!(is_over(970, 1_000, true));
        assert!(!is_over(969, 1_000, true));
    }

    #[test]
    fn only_what_adds_is_refused() {
        let id = TopicId(uuid::Uuid::from_u128(1));
        let create = Command::CreatePartitions { name: Arc::from("t"), count: 2 };
        assert!(refuse_growth(&Command::Check(Box::new(create.clone())), AT_LIMIT).is_err());
        assert_eq!(refuse_growth(&create, AT_LIMIT).unwrap_err().error, ErrorCode::KafkaStorageError);
        let partition = TopicPartition { topic: id, partition: 0 };
        for frees in [Command::DeleteTopic { id }, Command::AdvanceLogStart { partition, offset: 1 }] {
            assert_eq!(refuse_growth(&frees, AT_LIMIT), Ok(()));
        }
        assert_eq!(refuse_growth(&Command::AllocateProducerId { seed: 1 }, AT_LIMIT), Ok(()));
        let of_transaction = |command| Command::Transaction { id: Arc::from("x"), command };
        let producer = ProducerIdAndEpoch { id: ProducerId(1), epoch: 0 };
        let add = TransactionCommand::AddGroup { producer, group: Arc::from("g"), now_ms: 0 };
        let refused = refuse_growth(&of_transaction(add), AT_LIMIT).unwrap_err();
        assert_eq!(refused.error, ErrorCode::CoordinatorNotAvailable);
        let end = EndTransaction { producer, commit: true, version: 2, now_ms: 0, leader_epoch: 0 };
        assert_eq!(refuse_growth(&of_transaction(TransactionCommand::End(end)), AT_LIMIT), Ok(()));
    }

    #[test]
    fn what_is_shown_follows_the_state() {
        let status = RoomStatus::new(Some(ByteSize(1 << 20)));
        let full = status.full();
        let shown = || {
            let mut page = Page::default();
            status.collect(&mut page);
            page.into_text()
        };
        assert!(shown().contains("yagura_store_full 0\n"), "{}", shown());
        status.holds(77);
        status.tell(Some(why_at_limit(1 << 20)));
        assert!(full.borrow().as_ref().is_some_and(|why| why.contains("store_bytes_max of 1MiB")));
        for sample in ["yagura_store_full 1\n", "yagura_store_bytes 77\n", "yagura_store_bytes_max 1048576"] {
            assert!(shown().contains(sample), "{sample} in {}", shown());
        }
        status.tell(None);
        assert!(!status.is_full() && full.borrow().is_none());
    }
}
