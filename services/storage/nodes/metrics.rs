//! What `/metrics` and `/readyz` say of the brokers of a store.

use std::sync::atomic::Ordering;

use kernel::metrics::{MetricKind, Page};

use super::Nodes;
use super::keeper::LEASE;

impl Nodes {
    /// Writes who is there, and how old this broker's lease is; nothing of a store that brokers cannot share.
    pub(crate) fn collect(&self, page: &mut Page) {
        let view = self.view();
        if view.live.is_empty() {
            return;
        }
        let help = "Brokers that share the store, this one among them, as it has last seen them.";
        page.family("yagura_store_brokers", MetricKind::Gauge, help);
        page.sample(&[], view.live.len() as f64);
        let help = "This broker's id.";
        page.family("yagura_broker_id", MetricKind::Gauge, help);
        page.sample(&[], f64::from(view.own.0));
        let help = "Level of the store: which release's documents are written in it.";
        page.family("yagura_store_level", MetricKind::Gauge, help);
        page.sample(&[], f64::from(view.level));
        let help = "Time since this broker has last renewed its lease; it is taken for gone after 8 seconds. One that is alone, and that nobody calls, does so every 45 seconds, for 55.";
        page.family("yagura_broker_lease_age_seconds", MetricKind::Gauge, help);
        page.sample(&[], (self.time.now_ms().saturating_sub(view.seen_ms).max(0)) as f64 / 1000.0);
    }

    /// Whether clients are to come here.
    ///
    /// # Errors
    /// They are not: a sentence for the operator.
    pub(crate) fn readiness(&self) -> Result<(), String> {
        let view = self.view();
        let now_ms = self.time.now_ms();
        // At rest the lease lasts for longer than clients are to wait.
        let is_late = now_ms.saturating_sub(view.seen_ms) > LEASE.as_millis() as i64;
        if !view.holds(now_ms) || (is_late && self.is_failing.load(Ordering::Relaxed)) {
            return Err("this broker's lease has ended, because the store cannot be reached, or the broker is about to stop".to_owned());
        }
        if view.is_drained() && view.others_take_clients() {
            return Err(
                "this broker is drained: its clients are to go to others (`yagura node drain --undo`)"
                    .to_owned(),
            );
        }
        Ok(())
    }
}
