//! Background tasks: retention, expiry of offsets, and timeouts of groups.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use kernel::{Ticket, TopicId};
use rules::commands::{Command, GroupCommand};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::broker::Broker;
use crate::coordinator::timeouts;
use crate::engines::{Maintained, StoreError};
use crate::store::DryRun;

/// Runs until it is dropped.
pub(crate) async fn run(broker: Arc<Broker>) {
    tokio::join!(timeouts::run(Arc::clone(&broker)), maintain(&broker));
}

/// A broker that has just started serves its clients first. Kafka waits as long.
const FIRST_AFTER: Duration = Duration::from_secs(30);

/// Applies retention periodically.
async fn maintain(broker: &Broker) {
    let every = broker.settings.retention_interval.0;
    let mut ticks = tokio::time::interval_at(Instant::now() + every.min(FIRST_AFTER), every);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(engine) = broker.store.engine_if_open() else { continue };
        match engine.maintain(broker.clock.now_ms()).await {
            Ok(done) if done == Maintained::default() => {}
            Ok(done) => info!(
                partitions_failed = done.partitions_failed,
                partitions_trimmed = done.partitions_trimmed,
                producers_expired = done.producers_expired,
                bytes_freed = done.bytes_freed,
                "retention was applied"
            ),
            Err(error) => warn!(%error, "retention could not be applied; it is tried again in {every:?}"),
        }
        if let Err(error) = expire_offsets(broker).await {
            warn!(%error, "committed offsets were not looked through; it is tried again in {every:?}");
        }
    }
}

/// Deletes offsets that have expired or whose topics were deleted.
async fn expire_offsets(broker: &Broker) -> Result<(), StoreError> {
    for (group, _) in broker.store.groups().await? {
        let offsets = broker.store.offsets(&group).await?;
        let topics: BTreeSet<TopicId> = offsets.iter().map(|(_, offset)| offset.topic_id).collect();
        let command = GroupCommand::ExpireOffsets {
            now_ms: broker.clock.now_ms(),
            retention_ms: broker.settings.offsets_retention.0.as_millis() as i64,
            deleted_topics: deleted(broker, topics).await?,
        };
        // Most groups have nothing that expires, which is found out without the writer.
        if let DryRun::Unchanged(_) = broker.store.dry_run(&group, &command).await? {
            continue;
        }
        broker.store.commit(&Ticket::only(), vec![Command::Group { group, command }]).await?;
    }
    Ok(())
}

/// The topics that no service has. The store's own topics count as existing even where calls for them are
/// routed elsewhere.
async fn deleted(broker: &Broker, mut topics: BTreeSet<TopicId>) -> Result<BTreeSet<TopicId>, StoreError> {
    for id in broker.store.topics_by_id(topics.iter().copied().collect()).await?.into_keys() {
        topics.remove(&id);
    }
    if topics.is_empty() {
        return Ok(topics);
    }
    let found = broker.directory().by_id(topics.iter().copied().collect()).await.map_err(StoreError)?;
    for topic in found {
        topics.remove(&topic.id);
    }
    Ok(topics)
}
