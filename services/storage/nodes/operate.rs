//! The brokers of a store, for whoever runs them: a look at them, and sending the clients of one elsewhere.

use std::sync::Arc;

use kernel::NodeId;
use rules::commands::{Command, NodeCommand};
use rules::documents::{DocumentKind, LEVEL, NodeDocument};

use crate::engines::{self, Engine, Holds, StoreError};

/// A broker, as its store has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// What it says of itself, and its lease.
    pub document: Arc<NodeDocument>,
    /// The time by the store's clock, in ms.
    pub now_ms: i64,
}

impl Node {
    /// Whether its lease lasts.
    pub fn is_live(&self) -> bool {
        self.document.is_live(self.now_ms)
    }
}

/// The brokers of the store at a URL, in the order of ids: those that are there, and those that have gone within the last hour.
///
/// # Errors
/// The store cannot be read, or brokers cannot share it.
pub async fn list(url: &str) -> Result<Vec<Node>, StoreError> {
    let engine = engines::open_beside_brokers(url).await?;
    let nodes = read(&*engine).await;
    engine.close().await?;
    nodes
}

async fn read(engine: &dyn Engine) -> Result<Vec<Node>, StoreError> {
    let now_ms = now_ms(engine)?;
    let found = engine.scan(NodeDocument::prefix(), None, usize::MAX).await?;
    let node = |(key, document): (_, rules::documents::Document)| {
        Some(Node { id: NodeDocument::parse_key(&key)?, document: document.get_arc()?, now_ms })
    };
    let mut nodes: Vec<Node> = found.into_iter().filter_map(node).collect();
    nodes.sort_by_key(|node| node.id);
    Ok(nodes)
}

fn now_ms(engine: &dyn Engine) -> Result<i64, StoreError> {
    let sharing = engine.sharing();
    let sharing = sharing.ok_or_else(|| StoreError("brokers cannot share this store".to_owned()))?;
    Ok(sharing.clock.now_ms())
}

/// Has the clients of a broker sent elsewhere, or no longer. Returns how many brokers take clients then.
///
/// # Errors
/// There is no such broker, or the store cannot be used.
pub async fn drain(url: &str, node: NodeId, is_drained: bool) -> Result<usize, StoreError> {
    let engine = engines::open_beside_brokers(url).await?;
    let drained = async {
        let now_ms = now_ms(&*engine)?;
        let drain = Command::Node(NodeCommand::Drain { node, is_drained, now_ms });
        commit(&*engine, drain).await?;
        let others = read(&*engine).await?.into_iter();
        Ok(others.filter(|node| node.is_live() && !node.document.is_drained).count())
    };
    let drained = drained.await;
    engine.close().await?;
    drained
}

/// What finalizing a store has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finalized {
    /// It is of this level now: releases before this one cannot use it any more.
    Now(u32),
    /// It was of this level before.
    Already(u32),
}

/// Has a store written as this release likes, and no longer as the one before it can read it.
///
/// # Errors
/// A broker of that release has it, or the store cannot be used.
pub async fn finalize(url: &str) -> Result<Finalized, StoreError> {
    let engine = engines::open_beside_brokers(url).await?;
    let finalized = async {
        if engines::store_level(&*engine).await? == LEVEL {
            return Ok(Finalized::Already(LEVEL));
        }
        let finalize = Command::Node(NodeCommand::Finalize { level: LEVEL, now_ms: now_ms(&*engine)? });
        commit(&*engine, finalize).await?;
        Ok(Finalized::Now(LEVEL))
    };
    let finalized = finalized.await;
    engine.close().await?;
    finalized
}

/// Changes the list of brokers, and tells them. Who does not hear of it finds out with its next renewal.
async fn commit(engine: &dyn Engine, command: Command) -> Result<(), StoreError> {
    let outcome = engine.commit(vec![command], Holds::new()).await?.into_iter().next();
    if let Some(Err(refused)) = outcome {
        return Err(StoreError(refused.message));
    }
    drop(engine.tell_of_brokers().await);
    Ok(())
}
