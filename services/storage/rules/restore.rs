//! Puts what another store holds into a new one.

use kernel::ErrorCode;

use crate::commands::{Applied, Effect, Outcome, Refused, Restore, RestoredBatch, RestoredLog};
use crate::documents::{self, CopyMark, Document, Key, ReadError};
use crate::working_set::{Wanted, WorkingSet};

pub(crate) fn needs(wanted: &mut Wanted, restore: &Restore) {
    restore.documents.iter().for_each(|(key, _)| wanted.write_any(key.clone()));
    wanted.write::<CopyMark>(&());
}

pub(crate) fn decide(set: &mut WorkingSet<'_>, restore: &Restore) -> Outcome {
    if set.get::<CopyMark>(&()).is_none_or(|mark| mark.id != restore.copy) {
        let message = "another copy fills the store, or a broker has had it; begin anew, into a new store";
        return Err(Refused::new(ErrorCode::KafkaStorageError, message));
    }
    let read = |(key, text): &(Key, String)| Ok((key.clone(), documents::read(key, text)?));
    let read: Result<Vec<(Key, Document)>, ReadError> = restore.documents.iter().map(read).collect();
    let read = read.map_err(|error| Refused::new(ErrorCode::KafkaStorageError, error.to_string()))?;
    read.into_iter().for_each(|(key, document)| set.put_any(key, document));
    restore.log.iter().flat_map(effects).for_each(|effect| set.effect(effect));
    Ok(Applied::Changed)
}

fn effects(log: &RestoredLog) -> impl Iterator<Item = Effect> + '_ {
    let partition = log.partition;
    let created = log.first.map(|_| Effect::CreateLog { partition });
    let trimmed = log.first.filter(|log_start| *log_start > 0);
    let trimmed = trimmed.map(|log_start| Effect::Trim { partition, was: 0, log_start });
    let appended = log.batches.iter().map(move |restored| {
        let RestoredBatch { base_offset, leader_epoch, batch, appended_ms, payload } = restored.clone();
        Effect::Append { partition, base_offset, leader_epoch, batch, appended_ms, payload }
    });
    created.into_iter().chain(trimmed).chain(appended)
}
