//! What `/metrics` shows of transactions.
//!
//! Open transactions are found in the index of what is due ([`TransactionDue`]), where each has an entry at its timeout at
//! the latest. So a scrape looks at the ids that were in use within the longest timeout, and at [`LOOKED_AT_MAX`] of them at
//! most; those at rest cost nothing, however many they are. Nothing is counted along: what is shown is true of the store,
//! after a restart as well, and whichever broker has begun a transaction.

use std::sync::Arc;

use kernel::metrics::{Counter, MetricKind, Page};
use parking_lot::Mutex;
use rules::documents::{DocumentKind, DueKey, TransactionDocument, TransactionDue, TransactionDueKey};
use tracing::warn;

use crate::broker::Broker;
use crate::engines::StoreError;

/// Transactional ids that a scrape looks at, those first that time out first.
const LOOKED_AT_MAX: usize = 4_096;
/// Those that are read at a time.
const PAGE: usize = 256;

/// The transactions that are open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct OpenTransactions {
    count: usize,
    /// When the oldest of them began, in ms; `None` if none is open.
    oldest_ms: Option<i64>,
    /// Whether there may be more than were looked at.
    is_cut_short: bool,
    /// The time of the look, in ms.
    now_ms: i64,
}

/// What is counted, and what the next page of metrics shows.
#[derive(Debug, Default)]
pub(crate) struct TransactionMetrics {
    /// Transactions that had timed out, and were aborted by this broker.
    pub(crate) timed_out: Counter,
    /// Transactional ids that had expired, and were removed by this broker.
    pub(crate) expired_ids: Counter,
    open: Mutex<Option<OpenTransactions>>,
}

impl TransactionMetrics {
    /// Looks at the open transactions, for the next page.
    pub(crate) async fn refresh(&self, broker: &Broker) {
        let found = look(broker, LOOKED_AT_MAX).await;
        if let Err(error) = &found {
            warn!(%error, "the metrics lack the open transactions");
        }
        *self.open.lock() = found.ok();
    }

    /// Writes the metrics.
    pub(crate) fn collect(&self, page: &mut Page) {
        let counters = [
            (
                "yagura_transactions_timed_out_total",
                "Transactions that this broker has aborted at their timeout.",
                &self.timed_out,
            ),
            (
                "yagura_transactional_ids_expired_total",
                "Transactional ids that this broker has removed because they were not in use.",
                &self.expired_ids,
            ),
        ];
        for (name, help, counter) in counters {
            page.family(name, MetricKind::Counter, help);
            page.sample(&[], counter.get() as f64);
        }
        let Some(OpenTransactions { count, oldest_ms, is_cut_short, now_ms }) = *self.open.lock() else {
            return;
        };
        let oldest_ms = oldest_ms.map_or(0, |oldest_ms| now_ms.saturating_sub(oldest_ms).max(0));
        let gauges = [
            ("yagura_transactions_open", "Transactions that are open.", count as f64),
            (
                "yagura_transactions_oldest_open_seconds",
                "How long the oldest open transaction has been open; 0 if none is.",
                oldest_ms as f64 / 1_000.0,
            ),
            (
                "yagura_transactions_cut_short",
                "Whether there may be more open transactions than were counted.",
                f64::from(is_cut_short),
            ),
        ];
        for (name, help, value) in gauges {
            page.family(name, MetricKind::Gauge, help);
            page.sample(&[], value);
        }
    }
}

/// Looks at the transactional ids that are due within the longest timeout.
async fn look(broker: &Broker, looked_at_max: usize) -> Result<OpenTransactions, StoreError> {
    let now_ms = broker.clock.now_ms();
    let timeout_ms = broker.settings.transaction_max_timeout.0.as_millis();
    let timeout_ms = i64::try_from(timeout_ms).unwrap_or(i64::MAX);
    // One that was begun while longer timeouts were allowed is seen once it is due within this time.
    let until_ms = DueKey::time(now_ms.saturating_add(timeout_ms), now_ms);
    let mut found = OpenTransactions { now_ms, ..OpenTransactions::default() };
    let (mut after, mut left) = (None, looked_at_max);
    while left > 0 {
        let limit = PAGE.min(left);
        let page = broker.store.page::<TransactionDue>(after.take(), limit).await?;
        let keys = page.into_iter().map(|(key, _)| key);
        let due: Vec<TransactionDueKey> = keys.take_while(|key| key.at_ms <= until_ms).collect();
        let ids: Vec<Arc<str>> = due.iter().map(|key| Arc::clone(&key.transaction)).collect();
        // Without those that cannot be read.
        for document in broker.store.get_each::<TransactionDocument>(&ids).await?.into_iter().flatten() {
            if let Some(started_ms) = document.and_then(|document| document.open_since_ms()) {
                found.count += 1;
                found.oldest_ms = Some(found.oldest_ms.map_or(started_ms, |oldest| oldest.min(started_ms)));
            }
        }
        if due.len() < limit {
            return Ok(found);
        }
        left -= limit;
        after = due.last().map(TransactionDue::key);
    }
    Ok(OpenTransactions { is_cut_short: true, ..found })
}

#[cfg(test)]
mod tests {
    use kernel::clock::ManualClock;

    use super::*;
    use crate::apis::testing::{
        NOW_MS, broker, broker_over, end_transaction, open_transaction, transactional_producer,
    };
    use crate::engines::memory::Memory;
    use crate::transaction_timeouts;

    async fn page(broker: &Broker) -> String {
        broker.transaction_metrics.refresh(broker).await;
        let mut page = Page::default();
        broker.transaction_metrics.collect(&mut page);
        page.into_text()
    }

    fn assert_shows(page: &str, lines: &[&str]) {
        for line in lines {
            assert!(page.lines().any(|found| found == *line), "{line} is not in\n{page}");
        }
    }

    #[tokio::test]
    async fn open_transactions_are_counted_until_they_end_or_time_out() {
        let (store, clock) = (Arc::new(Memory::new()), Arc::new(ManualClock::at(NOW_MS)));
        let broker = broker_over(Arc::clone(&store), Arc::clone(&clock), 64 << 20);
        let none = ["yagura_transactions_open 0", "yagura_transactions_oldest_open_seconds 0"];
        assert_shows(&page(&broker).await, &none);
        transactional_producer(&broker, "at rest").await;
        open_transaction(&broker, "a").await;
        let producer = open_transaction(&broker, "b").await;
        clock.advance(5_000);
        let two = [
            "yagura_transactions_open 2",
            "yagura_transactions_oldest_open_seconds 5",
            "yagura_transactions_cut_short 0",
            "yagura_transactions_timed_out_total 0",
        ];
        assert_shows(&page(&broker).await, &two);
        let other = broker_over(store, Arc::clone(&clock), 64 << 20);
        assert_shows(&page(&other).await, &two[..2]);
        end_transaction(&broker, "b", producer, true).await;
        assert_shows(&page(&other).await, &["yagura_transactions_open 1"]);
        clock.advance(120_000);
        transaction_timeouts::look(&broker).await.unwrap();
        assert_shows(&page(&broker).await, &none);
        assert_shows(&page(&broker).await, &["yagura_transactions_timed_out_total 1"]);
        assert_shows(&page(&other).await, &["yagura_transactions_timed_out_total 0"]);
    }

    #[tokio::test]
    async fn many_are_cut_short_and_ids_at_rest_are_not_looked_at() {
        let broker = broker().await;
        for id in ["a", "b", "c"] {
            transactional_producer(&broker, &format!("at rest {id}")).await;
            open_transaction(&broker, id).await;
        }
        let look = |limit| look(&broker, limit);
        let all = OpenTransactions { count: 3, oldest_ms: Some(NOW_MS), is_cut_short: false, now_ms: NOW_MS };
        assert_eq!(look(4).await.unwrap(), all, "the fourth entry is not due for days");
        assert_eq!(look(2).await.unwrap(), OpenTransactions { count: 2, is_cut_short: true, ..all });
    }
}
