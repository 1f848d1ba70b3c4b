//! Compaction of partitions: whether one is to be cleaned, or when to look again. Cleaning itself takes long, and is done by
//! [`crate::cleaner`].

use std::collections::BTreeSet;

use kernel::TopicPartition;
use rules::commands::{AwaitCleaning, Command};
use rules::documents::{DueKey, DueSubject, TopicDocument};

use super::{Kind, Maintained, Run, Taken, put};
use crate::cleaner::limits;
use crate::compaction::{Plan, plan};
use crate::engines::StoreError;

pub(super) const KIND: Kind =
    Kind { name: DueSubject::CLEANING, look: |run, taken| Box::pin(look_at_partitions(run, taken)) };

/// An entry for a partition, if its topic is compacted: it has become so, or the partition has got its first records.
pub(super) fn begin(topic: &TopicDocument, partition: TopicPartition) -> Option<Command> {
    let is_compacted = topic.effective().cleanup_policy.compacts();
    is_compacted.then(|| put(DueKey::at_once(DueSubject::Cleaning(partition))))
}

fn partition(taken: &Taken) -> Option<TopicPartition> {
    match taken.subject {
        DueSubject::Cleaning(partition) => Some(partition),
        _ => None,
    }
}

async fn look_at_partitions(run: Run<'_>, taken: Vec<Taken>) -> Result<Maintained, StoreError> {
    let ids: BTreeSet<_> = taken.iter().filter_map(partition).map(|partition| partition.topic).collect();
    let topics = run.broker.store.topics_by_id(ids.into_iter().collect()).await?;
    let engine = run.broker.store.engine().await?;
    let (mut done, mut commands) = (Maintained::default(), Vec::new());
    for taken in taken {
        let Some(partition) = partition(&taken) else { continue };
        let topic = topics.get(&partition.topic);
        let Some(topic) = topic.filter(|topic| topic.effective().cleanup_policy.compacts()) else {
            // Its topic was deleted, or is not compacted until its configs change.
            commands.push(taken.done(None, run));
            continue;
        };
        let limits = limits(&topic.effective().compaction);
        let look = match engine.dirty(partition, limits.young_after_ms(run.now_ms)).await {
            Ok(Some(look)) => look,
            Ok(None) => {
                commands.push(taken.done(None, run));
                continue;
            }
            // Its entry stays, and it is looked at again.
            Err(_) => {
                done.partitions_failed += 1;
                continue;
            }
        };
        run.broker.cleaner.found_dirty(&look.sizes);
        match plan(&look.log, &look.sizes, &limits, run.now_ms) {
            Plan::Clean(_) => run.broker.cleaner.add(partition, taken.at_ms),
            Plan::Wait(next_ms) => commands.push(Command::AwaitCleaning(AwaitCleaning {
                partition,
                taken_ms: Some(taken.at_ms),
                end: look.log.log_end,
                next_ms: next_ms.map(|next_ms| DueKey::time(next_ms, run.now_ms)),
            })),
        }
    }
    run.commit(commands).await?;
    Ok(done)
}
