//! What is looked at when a store was opened: whether this release can use it, and whether it is whole.

use std::sync::Arc;

use rules::commands::{Command, NodeCommand};
use rules::documents::{CopyMark, DocumentKind, LEVEL, StoreLevel, WrongLevel};

use super::{Engine, Holds, OpenedEngine, StoreError};

/// Who opens a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opener {
    /// A broker: it makes a store that is not there, and writes what its release likes if no other release shares it.
    Broker,
    /// Whoever looks at a store that is there, and leaves it as it is.
    Operator,
}

/// An engine whose store this release can use, and which writes documents of its level.
pub(super) async fn checked(engine: Arc<dyn Engine>, opener: Opener) -> OpenedEngine {
    let checked = match settle_level(&*engine, opener).await {
        Ok(()) => check_that_whole(&*engine).await,
        Err(error) => Err(error),
    };
    if let Err(error) = checked {
        // What is wrong with the store is the better reason.
        drop(engine.close().await);
        return Err(error);
    }
    Ok(engine)
}

async fn settle_level(engine: &dyn Engine, opener: Opener) -> Result<(), StoreError> {
    if engine.sharing().is_some() {
        engine.write_at(store_level(engine).await?);
        return Ok(());
    }
    // A store that is damaged is used as far as it can be read.
    let Ok(found) = engine.get(vec![StoreLevel::key(&())]).await else { return Ok(()) };
    let level = found.first().and_then(Option::as_ref).and_then(|found| found.get::<StoreLevel>());
    let level = match StoreLevel::of(level) {
        Err(wrong @ WrongLevel::Newer(_)) => return Err(StoreError(wrong.to_string())),
        // Nobody shares it: whatever was written is read, and written anew.
        Err(WrongLevel::Older(level)) | Ok(level) => level,
    };
    if level < LEVEL && opener == Opener::Broker {
        let finalize = Command::Node(NodeCommand::Finalize { level: LEVEL, now_ms: 0 });
        engine.commit(vec![finalize], Holds::new()).await?;
    }
    Ok(())
}

async fn check_that_whole(engine: &dyn Engine) -> Result<(), StoreError> {
    // As above.
    let Ok(found) = engine.get(vec![CopyMark::key(&())]).await else { return Ok(()) };
    let mark = found.first().and_then(Option::as_ref).and_then(|found| found.get::<CopyMark>());
    // One that a copy reads is refused to brokers when they join.
    match mark.filter(|mark| mark.until_ms.is_none()).and_then(|mark| mark.refusal(0)) {
        Some(refusal) => Err(StoreError(refusal.to_owned())),
        None => Ok(()),
    }
}

/// The level of a store that brokers share.
///
/// # Errors
/// It cannot be read, or this release cannot share it, as a sentence.
pub(crate) async fn store_level(engine: &dyn Engine) -> Result<u32, StoreError> {
    let found = engine.get(vec![StoreLevel::key(&())]).await?.into_iter().next().flatten();
    let level = StoreLevel::of(found.as_ref().and_then(|found| found.get::<StoreLevel>()));
    level.map_err(|wrong| StoreError(wrong.to_string()))
}
