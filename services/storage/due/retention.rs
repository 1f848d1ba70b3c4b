//! Retention of partitions, by age and by size.
//!
//! The oldest batch goes first, and none after one that stays, as in Kafka; so when to look next is the time of one batch.
//! A limit on bytes has no time: an append after the look puts the entry.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use kernel::TopicPartition;
use rules::commands::{Applied, Command, Outcome, Retain};
use rules::documents::{DueKey, DueSubject, TopicDocument};

use super::{Kind, Maintained, PAGE, Run, Taken, cleaning, put, rest_after};
use crate::engines::{RetentionLimits, RetentionLook, StoreError};

pub(super) const PARTITIONS: Kind =
    Kind { name: DueSubject::PARTITION, look: |run, taken| Box::pin(look_at_partitions(run, taken)) };

/// Topics whose limits have changed, also those of compaction. One that has got none needs no look: its partitions are looked at in their time.
pub(super) const TOPICS: Kind =
    Kind { name: DueSubject::TOPIC, look: |run, taken| Box::pin(look_at_topics(run, taken)) };

/// A partition that is looked at.
struct Limited {
    partition: TopicPartition,
    limits: RetentionLimits,
    /// Its entry; `None` if its topic has one.
    taken: Option<Taken>,
}

impl Limited {
    fn retain(&self, look: RetentionLook, run: Run<'_>) -> Command {
        Command::Retain(Retain {
            partition: self.partition,
            taken_ms: self.taken.as_ref().map(|taken| taken.at_ms),
            end: look.end,
            log_start: look.log_start,
            next_ms: look.next_ms.map(|next_ms| DueKey::time(next_ms, run.now_ms)),
            after_append: self.limits.retention_bytes.is_some(),
        })
    }
}

fn partition(taken: &Taken) -> Option<TopicPartition> {
    match taken.subject {
        DueSubject::Partition(partition) => Some(partition),
        _ => None,
    }
}

async fn look_at_partitions(run: Run<'_>, taken: Vec<Taken>) -> Result<Maintained, StoreError> {
    let ids: BTreeSet<_> = taken.iter().filter_map(partition).map(|partition| partition.topic).collect();
    let topics = run.broker.store.topics_by_id(ids.into_iter().collect()).await?;
    let (mut limited, mut commands) = (Vec::new(), Vec::new());
    for taken in taken {
        let topic = partition(&taken).and_then(|partition| topics.get(&partition.topic).zip(Some(partition)));
        commands.extend(topic.and_then(|(topic, partition)| cleaning::begin(topic, partition)));
        let found = partition(&taken).and_then(|partition| {
            let limits = RetentionLimits::of(topics.get(&partition.topic)?);
            (!limits.is_unlimited()).then_some((partition, limits))
        });
        match found {
            Some((partition, limits)) => limited.push(Limited { partition, limits, taken: Some(taken) }),
            // Its topic was deleted, or keeps everything until its configs change. What was aborted before its log start may
            // still have to be deleted.
            None => commands.extend(partition(&taken).map(|partition| {
                Command::Retain(Retain {
                    partition,
                    taken_ms: Some(taken.at_ms),
                    end: 0,
                    log_start: None,
                    next_ms: None,
                    after_append: false,
                })
            })),
        }
    }
    retain(run, limited, commands).await
}

async fn look_at_topics(run: Run<'_>, taken: Vec<Taken>) -> Result<Maintained, StoreError> {
    let name = |taken: &Taken| match &taken.subject {
        DueSubject::Topic(name) => Some(Arc::clone(name)),
        _ => None,
    };
    let topics = run.broker.store.topics_by_name(taken.iter().filter_map(name).collect()).await?;
    let (mut done, mut page) = (Maintained::default(), Vec::with_capacity(PAGE));
    for topic in topics.into_values() {
        begin_cleaning(&topic, run).await?;
        let limits = RetentionLimits::of(&topic);
        if limits.is_unlimited() {
            continue;
        }
        for partition in topic.all_partitions() {
            page.push(Limited { partition, limits, taken: None });
            if page.len() == PAGE {
                done.add(retain(run, std::mem::take(&mut page), Vec::new()).await?);
            }
        }
    }
    let commands = taken.into_iter().map(|taken| taken.done(None, run)).collect();
    done.add(retain(run, page, commands).await?);
    Ok(done)
}

/// Has all partitions of a topic looked at for compaction, if it is compacted.
async fn begin_cleaning(topic: &TopicDocument, run: Run<'_>) -> Result<(), StoreError> {
    let mut page = Vec::with_capacity(PAGE);
    for partition in topic.all_partitions() {
        page.extend(cleaning::begin(topic, partition));
        if page.len() == PAGE {
            run.commit(std::mem::take(&mut page)).await?;
        }
    }
    run.commit(page).await.map(drop)
}

/// Looks at partitions, and commits what was found, after other commands. Each partition fails by itself.
async fn retain(
    run: Run<'_>,
    limited: Vec<Limited>,
    mut commands: Vec<Command>,
) -> Result<Maintained, StoreError> {
    let mut done = Maintained::default();
    let asked: Vec<_> = limited.iter().map(|one| (one.partition, one.limits)).collect();
    let outcomes = if asked.is_empty() {
        Vec::new()
    } else {
        run.broker.store.engine().await?.retention(asked, run.now_ms).await?
    };
    for (one, outcome) in limited.into_iter().zip(outcomes) {
        match outcome {
            Ok(Some(look)) => {
                done.partitions_trimmed += usize::from(look.log_start.is_some());
                commands.push(one.retain(look, run));
            }
            Ok(None) => commands.extend(one.taken.map(|taken| taken.done(None, run))),
            // The engine has named it.
            Err(_) => {
                done.partitions_failed += 1;
                if one.taken.is_none() {
                    let (at_ms, subject) = (run.again_ms(), DueSubject::Partition(one.partition));
                    commands.push(put(DueKey { at_ms, subject }));
                }
            }
        }
    }
    let partition = |command: &Command| match command {
        Command::Retain(retain) => Some(retain.partition),
        _ => None,
    };
    let partitions: Vec<Option<TopicPartition>> = commands.iter().map(partition).collect();
    let outcomes = run.commit(commands).await?;
    let left = partitions.into_iter().zip(&outcomes).filter(|(_, outcome)| has_more(outcome));
    forget_aborted(run, left.filter_map(|(partition, _)| partition).collect()).await?;
    Ok(done)
}

fn has_more(outcome: &Outcome) -> bool {
    matches!(outcome, Ok(Applied::Retained { has_more: true }))
}

/// Deletes what is left of aborted transactions whose records were deleted, a commit of each partition at a time.
async fn forget_aborted(run: Run<'_>, mut left: Vec<TopicPartition>) -> Result<(), StoreError> {
    while !left.is_empty() {
        let started = Instant::now();
        let forget = |partition: &TopicPartition| Command::ForgetAborted { partition: *partition };
        let outcomes = run.commit(left.iter().map(forget).collect()).await?;
        let left_before = std::mem::take(&mut left).into_iter().zip(outcomes);
        left = left_before.filter(|(_, outcome)| has_more(outcome)).map(|(at, _)| at).collect();
        rest_after(started).await;
    }
    Ok(())
}
