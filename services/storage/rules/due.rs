//! The due index: entries are put, moved and deleted.

use crate::commands::{Applied, DueCommand, Outcome};
use crate::documents::{Due, DueComplete, DueKey, DueSubject};
use crate::working_set::{Wanted, WorkingSet};

pub(crate) fn needs(wanted: &mut Wanted, command: &DueCommand) {
    match command {
        DueCommand::Move { subject, from_ms, to_ms } => {
            for at_ms in from_ms.iter().chain(to_ms) {
                wanted.write::<Due>(&DueKey { at_ms: *at_ms, subject: subject.clone() });
            }
        }
        DueCommand::Complete(_) => {
            wanted.write::<DueComplete>(&());
        }
    }
}

pub(crate) fn decide(set: &mut WorkingSet<'_>, command: &DueCommand) -> Outcome {
    match command {
        DueCommand::Move { subject, from_ms, to_ms } => {
            from_ms.iter().for_each(|at_ms| delete(set, subject, Some(*at_ms)));
            put(set, subject, *to_ms);
        }
        DueCommand::Complete(complete) => set.put::<DueComplete>(&(), *complete),
    }
    Ok(Applied::Changed)
}

/// Puts an entry for the next look at the index.
///
/// Entries need not be loaded to be put or deleted. Their locks are those of the documents that a command needs anyway.
pub(crate) fn look_at_once(set: &mut WorkingSet<'_>, subject: &DueSubject) {
    put(set, subject, Some(DueKey::AT_ONCE_MS));
}

/// Puts an entry for a time of the index, if there is one.
pub(crate) fn put(set: &mut WorkingSet<'_>, subject: &DueSubject, at_ms: Option<i64>) {
    if let Some(at_ms) = at_ms {
        set.put::<Due>(&DueKey { at_ms, subject: subject.clone() }, Due {});
    }
}

/// Deletes an entry, if there is one.
pub(crate) fn delete(set: &mut WorkingSet<'_>, subject: &DueSubject, at_ms: Option<i64>) {
    if let Some(at_ms) = at_ms {
        set.delete::<Due>(&DueKey { at_ms, subject: subject.clone() });
    }
}
