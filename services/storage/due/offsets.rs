//! Expiry of committed offsets, and of groups that have neither members nor offsets any more.
//!
//! A group is read once. The rules decide on what was read, and say when the next offset may expire; only if one has
//! expired, they decide again in a commit.

use std::collections::BTreeSet;
use std::sync::Arc;

use kernel::TopicId;
use rules::commands::{Applied, Command, GroupCommand};
use rules::documents::{DueSubject, OffsetDocument};

use super::{Kind, Maintained, Run, Taken};
use crate::broker::Broker;
use crate::engines::StoreError;
use crate::store::{DryRun, GroupSnapshot};

pub(super) const KIND: Kind =
    Kind { name: DueSubject::OFFSETS, look: |run, taken| Box::pin(look(run, taken)) };

/// Offsets that are held in memory at a time, but for those of one group.
const OFFSETS_AT_ONCE: usize = 4_096;

/// A group that was read.
struct ReadGroup {
    taken: Taken,
    group: Arc<str>,
    snapshot: GroupSnapshot,
}

/// How long offsets are kept, in ms.
pub(super) fn retention_ms(broker: &Broker) -> i64 {
    i64::try_from(broker.settings.offsets_retention.0.as_millis()).unwrap_or(i64::MAX)
}

/// Deletes the offsets of a group that have expired, or whose topics were deleted.
pub(super) fn expire(run: Run<'_>, group: &Arc<str>, deleted_topics: BTreeSet<TopicId>) -> Command {
    let retention_ms = retention_ms(run.broker);
    let command = GroupCommand::ExpireOffsets { now_ms: run.now_ms, retention_ms, deleted_topics };
    Command::Group { group: Arc::clone(group), command }
}

async fn look(run: Run<'_>, taken: Vec<Taken>) -> Result<Maintained, StoreError> {
    let (mut groups, mut offsets, mut result) = (Vec::new(), 0, Ok(Maintained::default()));
    for taken in taken {
        match read(run, taken).await {
            Ok(Some(group)) => {
                offsets += group.snapshot.all::<OffsetDocument>().count();
                groups.push(group);
            }
            // It has changed while it was read; its entry stays.
            Ok(None) => {}
            Err(error) => result = Err(error),
        }
        if offsets >= OFFSETS_AT_ONCE {
            decide(run, std::mem::take(&mut groups)).await?;
            offsets = 0;
        }
    }
    decide(run, groups).await?;
    result
}

async fn read(run: Run<'_>, taken: Taken) -> Result<Option<ReadGroup>, StoreError> {
    let DueSubject::Offsets(group) = &taken.subject else { return Ok(None) };
    let group = Arc::clone(group);
    // What is read does not depend on which topics were deleted.
    let command = expire(run, &group, BTreeSet::new());
    let snapshot = run.broker.store.group_snapshot(&group, &command).await?;
    Ok(snapshot.map(|snapshot| ReadGroup { taken, group, snapshot }))
}

async fn decide(run: Run<'_>, groups: Vec<ReadGroup>) -> Result<(), StoreError> {
    let topics = groups.iter().flat_map(|one| one.snapshot.all::<OffsetDocument>());
    let deleted = deleted(run.broker, topics.map(|offset| offset.topic_id).collect()).await?;
    let (mut moves, mut expiring, mut expirations) = (Vec::new(), Vec::new(), Vec::new());
    for ReadGroup { taken, group, snapshot } in groups {
        let own = snapshot.all::<OffsetDocument>().map(|offset| offset.topic_id);
        let command = expire(run, &group, own.filter(|id| deleted.contains(id)).collect());
        match snapshot.decide(&command) {
            DryRun::Unchanged(Applied::NextExpiry(next_ms)) => moves.push(taken.done(next_ms, run)),
            _ => {
                expiring.push(taken);
                expirations.push(command);
            }
        }
    }
    let outcomes = run.commit(expirations).await?;
    for (taken, outcome) in expiring.into_iter().zip(outcomes) {
        if let Ok(Applied::NextExpiry(next_ms)) = outcome {
            moves.push(taken.done(next_ms, run));
        }
    }
    run.commit(moves).await.map(drop)
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
