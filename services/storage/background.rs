//! Background tasks: what is due, garbage, and timeouts of groups.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use crate::broker::Broker;
use crate::coordinator::timeouts;
use crate::due::{DueRuns, Maintained};
use crate::engines::StoreError;

/// Runs until it is dropped.
pub(crate) async fn run(broker: Arc<Broker>) {
    tokio::join!(timeouts::run(Arc::clone(&broker)), maintain(&broker));
}

/// A broker that has just started serves its clients first. Kafka waits as long.
const FIRST_AFTER: Duration = Duration::from_secs(30);

/// Looks at what is due, and frees garbage, periodically.
async fn maintain(broker: &Broker) {
    let every = broker.settings.retention_interval.0;
    let mut ticks = tokio::time::interval_at(Instant::now() + every.min(FIRST_AFTER), every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut due = DueRuns::default();
    loop {
        ticks.tick().await;
        let Some(engine) = broker.store.engine_if_open() else { continue };
        // What can be freed is freed first: on a full disk nothing else may work. Each part fails by itself.
        let freed = engine.maintain(broker.clock.now_ms()).await;
        let (done, looked) = due.run(broker).await;
        let again = if done.partitions_trimmed > 0 {
            // What was trimmed is garbage from now on.
            engine.maintain(broker.clock.now_ms()).await
        } else {
            Ok(0)
        };
        let bytes_freed = bytes(&freed) + bytes(&again);
        if done != Maintained::default() || bytes_freed > 0 {
            info!(
                partitions_failed = done.partitions_failed,
                partitions_trimmed = done.partitions_trimmed,
                producers_expired = done.producers_expired,
                bytes_freed,
                "retention was applied"
            );
        }
        if let Err(error) = freed.and(again).map(drop).and(looked) {
            warn!(%error, "retention could not be applied; it is tried again in {every:?}");
        }
    }
}

fn bytes(freed: &Result<u64, StoreError>) -> u64 {
    *freed.as_ref().unwrap_or(&0)
}
