//! AddPartitionsToTxn and AddOffsetsToTxn: what a transaction will write to. The first of them begins it.

use std::collections::BTreeSet;
use std::sync::Arc;

use kernel::{ErrorCode, TopicPartition};

use super::state::{self, VERSION_1};
use crate::commands::{Applied, Outcome, ProducerIdAndEpoch};
use crate::documents::{
    Contents, TransactionGroup, TransactionGroupKey, TransactionPartition, TransactionPartitionKey,
};
use crate::working_set::{Wanted, WorkingSet};

fn partition_key(id: &Arc<str>, partition: TopicPartition) -> TransactionPartitionKey {
    TransactionPartitionKey { transaction: Arc::clone(id), partition }
}

fn group_key(id: &Arc<str>, group: &Arc<str>) -> TransactionGroupKey {
    TransactionGroupKey { transaction: Arc::clone(id), group: Arc::clone(group) }
}

pub(super) fn needs_partitions(wanted: &mut Wanted, id: &Arc<str>, partitions: &[TopicPartition]) {
    for partition in partitions {
        wanted.write::<TransactionPartition>(&partition_key(id, *partition));
    }
}

pub(super) fn needs_group(wanted: &mut Wanted, id: &Arc<str>, group: &Arc<str>) {
    wanted.write::<TransactionGroup>(&group_key(id, group));
}

pub(super) fn partitions(
    set: &mut WorkingSet<'_>,
    id: &Arc<str>,
    producer: ProducerIdAndEpoch,
    partitions: &[TopicPartition],
    now_ms: i64,
) -> Outcome {
    let document = state::current(set, id, producer, ErrorCode::ProducerFenced)?;
    let keys = partitions.iter().map(|partition| partition_key(id, *partition)).collect::<BTreeSet<_>>();
    let is_new = |key: &TransactionPartitionKey| {
        !document.is_ongoing() || set.get::<TransactionPartition>(key).is_none()
    };
    let new: Vec<_> = keys.into_iter().filter(is_new).collect();
    if document.is_ongoing() && new.is_empty() {
        return Ok(Applied::Changed);
    }
    let added = new.iter().fold(Contents::default(), |added, _| added.and(Contents::one(id.len())));
    let begun = state::begun(&document, VERSION_1, now_ms, added, 0)?;
    new.iter().for_each(|key| set.put::<TransactionPartition>(key, TransactionPartition {}));
    state::put(set, id, begun, now_ms);
    Ok(Applied::Changed)
}

pub(super) fn group(
    set: &mut WorkingSet<'_>,
    id: &Arc<str>,
    producer: ProducerIdAndEpoch,
    group: &Arc<str>,
    now_ms: i64,
) -> Outcome {
    let document = state::current(set, id, producer, ErrorCode::ProducerFenced)?;
    let key = group_key(id, group);
    if document.is_ongoing() && set.get::<TransactionGroup>(&key).is_some() {
        return Ok(Applied::Changed);
    }
    let begun = state::begun(&document, VERSION_1, now_ms, Contents::one(id.len() + group.len()), 0)?;
    set.put::<TransactionGroup>(&key, TransactionGroup {});
    state::put(set, id, begun, now_ms);
    Ok(Applied::Changed)
}
