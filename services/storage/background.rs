//! Background tasks: what is due, garbage, and timeouts of groups.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::{info, warn};

use crate::broker::Broker;
use crate::coordinator::timeouts;
use crate::due::{DueRuns, Maintained};

/// Runs until it is dropped.
pub(crate) async fn run(broker: Arc<Broker>) {
    // What is due must not wait for garbage, which is freed as slowly as clients need.
    let trimmed = Notify::new();
    tokio::join!(
        timeouts::run(Arc::clone(&broker)),
        look_at_what_is_due(&broker, &trimmed),
        free_garbage(&broker, &trimmed)
    );
}

/// A broker that has just started serves its clients first. Kafka waits as long.
const FIRST_AFTER: Duration = Duration::from_secs(30);

fn ticks(broker: &Broker) -> Interval {
    let every = broker.settings.retention_interval.0;
    let mut ticks = tokio::time::interval_at(Instant::now() + every.min(FIRST_AFTER), every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Looks at what is due, periodically. Notes when something was trimmed.
async fn look_at_what_is_due(broker: &Broker, trimmed: &Notify) {
    let (mut ticks, mut due) = (ticks(broker), DueRuns::default());
    loop {
        ticks.tick().await;
        if broker.store.engine_if_open().is_none() {
            continue;
        }
        let (done, looked) = due.run(broker).await;
        if done != Maintained::default() {
            info!(
                partitions_failed = done.partitions_failed,
                partitions_trimmed = done.partitions_trimmed,
                producers_expired = done.producers_expired,
                "retention was applied"
            );
        }
        if done.partitions_trimmed > 0 {
            trimmed.notify_one();
        }
        if let Err(error) = looked {
            let every = ticks.period();
            warn!(%error, "retention could not be applied; it is tried again in {every:?}");
        }
    }
}

/// Frees garbage, periodically, and notes what was trimmed: it is garbage from then on.
async fn free_garbage(broker: &Broker, trimmed: &Notify) {
    let mut ticks = ticks(broker);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = trimmed.notified() => {}
        }
        let Some(engine) = broker.store.engine_if_open() else { continue };
        // How long garbage is kept, for replies that are being sent, is a wait.
        match engine.maintain(broker.time.now_ms()).await {
            Ok(0) => {}
            Ok(bytes_freed) => info!(bytes_freed, "what was deleted was freed"),
            Err(error) => {
                let every = ticks.period();
                warn!(%error, "what was deleted could not be freed; it is tried again in {every:?}");
            }
        }
    }
}
