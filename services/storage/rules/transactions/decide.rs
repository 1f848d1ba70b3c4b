//! The documents that a command on a transactional id needs, and its decision.

use std::sync::Arc;

use super::{add, end, expire, init, offsets};
use crate::commands::{Outcome, TransactionCommand};
use crate::documents::TransactionDocument;
use crate::working_set::{Wanted, WorkingSet};

pub(crate) fn needs(wanted: &mut Wanted, id: &Arc<str>, command: &TransactionCommand, set: &WorkingSet<'_>) {
    wanted.write::<TransactionDocument>(id);
    if wanted.lacks_any_in(set) {
        // What it leads to is known once it is loaded.
        return;
    }
    match command {
        TransactionCommand::Init(init) => init::needs(wanted, id, init, set),
        TransactionCommand::AddPartitions { partitions, .. } => add::needs_partitions(wanted, id, partitions),
        TransactionCommand::AddGroup { group, .. } => add::needs_group(wanted, id, group),
        TransactionCommand::CommitOffsets(commit) => offsets::needs(wanted, id, commit, set),
        TransactionCommand::End(end) => end::needs(wanted, id, end, set),
        TransactionCommand::Expire { now_ms, leader_epoch, .. } => {
            expire::needs(wanted, id, *now_ms, *leader_epoch, set);
        }
    }
}

pub(crate) fn decide(set: &mut WorkingSet<'_>, id: &Arc<str>, command: &TransactionCommand) -> Outcome {
    match command {
        TransactionCommand::Init(init) => init::init(set, id, init),
        TransactionCommand::AddPartitions { producer, partitions, now_ms } => {
            add::partitions(set, id, *producer, partitions, *now_ms)
        }
        TransactionCommand::AddGroup { producer, group, now_ms } => {
            add::group(set, id, *producer, group, *now_ms)
        }
        TransactionCommand::CommitOffsets(commit) => offsets::commit(set, id, commit),
        TransactionCommand::End(end) => end::end(set, id, end),
        TransactionCommand::Expire { taken_ms, now_ms, leader_epoch } => {
            expire::expire(set, id, *taken_ms, *now_ms, *leader_epoch)
        }
    }
}
