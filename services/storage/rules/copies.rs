//! Copies of whole stores: while one goes on, nobody else has the store that it reads, nor the one that it fills.

use kernel::ErrorCode;

use crate::commands::{Applied, CopyCommand, Outcome, Refused};
use crate::documents::{CopyMark, DocumentKind, NodeDocument};
use crate::nodes;
use crate::working_set::{Wanted, WorkingSet};

pub(crate) fn needs(wanted: &mut Wanted, command: &CopyCommand) {
    wanted.write::<CopyMark>(&());
    if matches!(command, CopyCommand::Begin { .. }) {
        wanted.scan(NodeDocument::prefix());
    }
}

pub(crate) fn decide(set: &mut WorkingSet<'_>, command: &CopyCommand) -> Outcome {
    let marked = set.get::<CopyMark>(&()).copied();
    match command {
        CopyCommand::Begin { mark, now_ms } => {
            let live = nodes::all(set).into_iter().filter(|(_, node)| node.is_live(*now_ms)).count();
            if live > 0 {
                return Err(refused(format!(
                    "{live} broker(s) have the store (`yagura node list`); stop them, so that nothing changes meanwhile (one that has died is forgotten within a minute)"
                )));
            }
            if let Some(refusal) = marked.and_then(|marked| marked.refusal(*now_ms)) {
                return Err(refused(refusal));
            }
            set.put::<CopyMark>(&(), *mark);
        }
        CopyCommand::Renew { mark, now_ms } => {
            let lasts = |marked: &CopyMark| marked.id == mark.id && marked.refusal(*now_ms).is_some();
            if !marked.as_ref().is_some_and(lasts) {
                return Err(cut_off());
            }
            set.put::<CopyMark>(&(), *mark);
        }
        CopyCommand::End { id } => {
            if marked.is_none_or(|marked| marked.id != *id) {
                return Err(cut_off());
            }
            set.delete::<CopyMark>(&());
        }
    }
    Ok(Applied::Changed)
}

fn cut_off() -> Refused {
    refused("the copy was cut off from a store for so long that somebody else may have had it; begin anew")
}

fn refused(message: impl Into<String>) -> Refused {
    Refused::new(ErrorCode::KafkaStorageError, message)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::commands::Command;
    use crate::testing::MapStore;

    fn mark(id: u128, until_ms: Option<i64>) -> CopyMark {
        CopyMark { id: Uuid::from_u128(id), until_ms }
    }

    fn run(store: &mut MapStore, command: CopyCommand) -> Result<(), String> {
        store.run(&Command::Copy(command)).0.map(drop).map_err(|refused| refused.message)
    }

    #[test]
    fn one_copy_at_a_time_reads_a_store() {
        let mut store = MapStore::default();
        let begin = |id, now_ms| CopyCommand::Begin { mark: mark(id, Some(now_ms + 60_000)), now_ms };
        let renew = |id, now_ms| CopyCommand::Renew { mark: mark(id, Some(now_ms + 60_000)), now_ms };
        run(&mut store, begin(1, 0)).unwrap();
        assert!(run(&mut store, begin(2, 1)).unwrap_err().contains("reads the store"));
        run(&mut store, renew(1, 50_000)).unwrap();
        assert!(run(&mut store, renew(2, 50_001)).is_err());
        assert!(run(&mut store, renew(1, 110_001)).unwrap_err().contains("cut off"), "it has ended");
        run(&mut store, begin(2, 110_002)).unwrap();
        assert!(run(&mut store, CopyCommand::End { id: Uuid::from_u128(1) }).is_err());
        run(&mut store, CopyCommand::End { id: Uuid::from_u128(2) }).unwrap();
        assert!(store.0.is_empty());
    }

    #[test]
    fn a_store_that_is_filled_is_nobodys_until_that_has_ended() {
        let mut store = MapStore::default();
        run(&mut store, CopyCommand::Begin { mark: mark(1, None), now_ms: 0 }).unwrap();
        let later = CopyCommand::Begin { mark: mark(2, None), now_ms: i64::MAX / 2 };
        assert!(run(&mut store, later).unwrap_err().contains("not finished"));
        run(&mut store, CopyCommand::End { id: Uuid::from_u128(1) }).unwrap();
        assert!(store.0.is_empty());
    }
}
