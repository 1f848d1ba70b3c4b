//! Background tasks: what is due, compaction, garbage, the outbox, timeouts of groups and transactions; and whether the engine can go on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::{info, warn};

use crate::broker::Broker;
use crate::cleaner;
use crate::coordinator::{leases, timeouts};
use crate::due::{DueRuns, Maintained};
use crate::engines::StoreError;
use crate::nodes::{self, Work};
use crate::outbox;
use crate::transaction_timeouts;

/// Runs until it is dropped; returns why the broker cannot go on.
pub(crate) async fn run(broker: Arc<Broker>) -> String {
    // What is due must not wait for garbage, which is freed as slowly as clients need.
    let trimmed = Notify::new();
    tokio::select! {
        failure = failed(&broker) => failure.0,
        failure = nodes::run(&broker) => failure,
        () = follow_others(&broker) => "nobody hears of what other brokers change".to_owned(),
        () = leases::run(&broker) => "nobody renews the leases of members".to_owned(),
        () = timeouts::run(Arc::clone(&broker)) => "nobody looks at the timeouts of groups".to_owned(),
        () = look_at_what_is_due(&broker, &trimmed) => "nobody looks at what is due".to_owned(),
        () = transaction_timeouts::run(&broker) => "nobody looks at the timeouts of transactions".to_owned(),
        () = cleaner::run(&broker) => "nobody compacts topics".to_owned(),
        () = outbox::run(&broker) => "nobody moves the messages of the outbox".to_owned(),
        () = free_garbage(&broker, &trimmed) => "nobody frees what was deleted".to_owned(),
    }
}

/// Looks again at what this broker remembers and others change.
async fn follow_others(broker: &Broker) {
    let sharing = broker.store.engine().await.ok().and_then(|engine| engine.sharing());
    let Some(sharing) = sharing else { return std::future::pending().await };
    loop {
        let changed = sharing.changes.changed().await;
        changed.groups.iter().for_each(|group| broker.coordinator.group_changed(group));
        if changed.has_missed {
            broker.coordinator.missed();
        }
        if changed.brokers || changed.has_missed {
            broker.nodes.look();
        }
        if changed.subscriptions || changed.has_missed {
            look_at_subscriptions(broker).await;
        }
    }
}

async fn look_at_subscriptions(broker: &Broker) {
    if let Err(error) = broker.telemetry.look(&broker.store).await {
        warn!(%error, "subscriptions to clients' metrics could not be read; it is tried again once one changes");
    }
}

/// Returns once the engine cannot go on.
async fn failed(broker: &Broker) -> StoreError {
    match broker.store.engine().await {
        Ok(engine) => {
            let failed = engine.failed();
            drop(engine);
            failed.await
        }
        // It is closed, or was never open, as whoever did that knows.
        Err(_) => std::future::pending().await,
    }
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
        if broker.store.engine_if_open().is_none() || !broker.nodes.does(Work::Maintenance) {
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

/// How often garbage is freed while the store is full. Clients wait for the room.
const WHILE_FULL_EVERY: Duration = Duration::from_secs(1);

/// Completes a while after it is called if the store is full, and never while it is not.
async fn while_full(broker: &Broker) {
    let full = broker.store.engine().await.map(|engine| engine.full());
    let is_full = match full {
        Ok(mut full) => full.wait_for(Option::is_some).await.is_ok(),
        Err(_) => false,
    };
    if !is_full {
        // The store is closed.
        std::future::pending::<()>().await;
    }
    tokio::time::sleep(WHILE_FULL_EVERY).await;
}

/// Frees garbage, periodically, and notes what was trimmed: it is garbage from then on.
async fn free_garbage(broker: &Broker, trimmed: &Notify) {
    let (mut ticks, mut is_failing) = (ticks(broker), false);
    loop {
        let is_full = tokio::select! {
            _ = ticks.tick() => false,
            () = trimmed.notified() => false,
            () = while_full(broker) => true,
        };
        // Each broker finds out by itself whether there is room again.
        if !is_full && !broker.nodes.does(Work::Maintenance) {
            continue;
        }
        let Some(engine) = broker.store.engine_if_open() else { continue };
        // How long garbage is kept, for replies that are being sent, is a wait.
        let freed = engine.maintain(broker.time.now_ms()).await;
        match &freed {
            Ok(0) => {}
            Ok(bytes_freed) => info!(bytes_freed, "what was deleted was freed"),
            // Said once: while the store is full, it is tried each second.
            Err(error) if !is_failing => {
                warn!(%error, "what was deleted could not be freed; it is tried again and again");
            }
            Err(_) => {}
        }
        is_failing = freed.is_err();
    }
}
