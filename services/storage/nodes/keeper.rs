//! Keeps a broker's lease, and follows who else is there.

use std::sync::Arc;
use std::time::Duration;

use rules::commands::{Applied, Command, NodeCommand, RenewNode};
use rules::documents::NodeDocument;
use tracing::{info, warn};

use super::view::View;
use crate::broker::Broker;
use crate::engines::{Engine, Holds, StoreError};

/// How often the lease is renewed. Others see this broker after as long, at most.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// How long a lease lasts: clients are sent to a broker that has died for so long.
const LEASE: Duration = Duration::from_secs(8);
/// After so long without the store, or without processor time, nothing is known of what members have sent meanwhile, in ms.
const INTERRUPTED_AFTER_MS: i64 = 5_000;
/// How long leaving may take.
const LEAVE_DEADLINE: Duration = Duration::from_secs(2);

/// Joins the brokers of a store.
///
/// # Errors
/// The store failed, or another broker has the id of this one's config.
pub(crate) async fn join(broker: &Broker, engine: &dyn Engine) -> Result<(), StoreError> {
    let view = renew(broker, engine).await?;
    engine.has_others(!view.is_alone());
    broker.nodes.view.send_replace(Arc::new(view));
    Ok(())
}

/// Leaves them, so that clients are sent elsewhere at once.
pub(crate) async fn leave(broker: &Broker, engine: &dyn Engine) {
    if engine.sharing().is_none() {
        return;
    }
    let incarnation = broker.nodes.facts.lock().incarnation;
    let leave = Command::Node(NodeCommand::Leave { incarnation });
    // If it cannot be said, the lease ends.
    drop(tokio::time::timeout(LEAVE_DEADLINE, engine.commit(vec![leave], Holds::new())).await);
}

/// Renews the lease for as long as the broker lives; for ever without a thing to do if the store is not shared. Returns why the
/// broker cannot go on.
pub(crate) async fn run(broker: &Broker) -> String {
    let engine = broker.store.engine().await.ok().filter(|engine| engine.sharing().is_some());
    let Some(engine) = engine else { return std::future::pending().await };
    let mut is_failing = false;
    loop {
        tokio::time::sleep(RENEW_EVERY).await;
        let view = match renew(broker, &*engine).await {
            Ok(view) => view,
            Err(error) => {
                // Said once: it is tried again and again.
                if !std::mem::replace(&mut is_failing, true) {
                    warn!(%error, "this broker's lease cannot be renewed; clients are sent to others until it is");
                }
                continue;
            }
        };
        if std::mem::take(&mut is_failing) {
            info!(node = view.own.0, "this broker's lease is renewed again");
        }
        publish(broker, &*engine, view);
    }
}

fn publish(broker: &Broker, engine: &dyn Engine, view: View) {
    let before = broker.nodes.view();
    let gone = view.gone_since(&before);
    if view.until_ms.saturating_sub(before.until_ms) > INTERRUPTED_AFTER_MS {
        broker.coordinator.interrupted();
    }
    if view.own != before.own {
        warn!(
            was = before.own.0,
            is = view.own.0,
            "this broker has another id, because its lease had ended and another broker has the former one"
        );
    }
    for (id, _) in view.live.iter().filter(|(_, node)| !is_in(&before, node)) {
        info!(node = id.0, "a broker has joined");
    }
    for (id, _) in &gone {
        info!(node = id.0, "a broker has gone");
    }
    engine.has_others(!view.is_alone());
    if !gone.is_empty() {
        engine.doubt();
    }
    if view.is_like(&before) {
        // Nobody need look at it.
        broker.nodes.view.send_if_modified(|current| {
            *current = Arc::new(view);
            false
        });
    } else {
        broker.nodes.view.send_replace(Arc::new(view));
    }
}

fn is_in(view: &View, node: &NodeDocument) -> bool {
    view.live.iter().any(|(_, other)| other.facts.incarnation == node.facts.incarnation)
}

/// Renews the lease, and looks who is there, once.
#[cfg(test)]
pub(crate) async fn renew_once(broker: &Broker) {
    let engine = broker.store.engine().await.expect("the store is open");
    let view = renew(broker, &*engine).await.expect("the lease is renewed");
    publish(broker, &*engine, view);
}

/// Renews the lease once; returns who is there.
async fn renew(broker: &Broker, engine: &dyn Engine) -> Result<View, StoreError> {
    if engine.look().await? {
        broker.store.begin_epoch(engine, broker.clock.now_ms()).await?;
        engine.accept().await?;
    }
    let (lease_ms, now_ms) = (i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX), broker.time.now_ms());
    let renew =
        RenewNode { node: broker.nodes.fixed, facts: broker.nodes.facts.lock().clone(), lease_ms, now_ms };
    let renew = Command::Node(NodeCommand::Renew(Box::new(renew)));
    let outcome = engine.commit(vec![renew], Holds::new()).await?.into_iter().next();
    match outcome {
        Some(Ok(Applied::Nodes { own, live })) => Ok(View { own, live, until_ms: now_ms + lease_ms }),
        Some(Err(refused)) => Err(StoreError(refused.message)),
        other => Err(StoreError(format!("the engine answered the renewal of a lease with {other:?}"))),
    }
}
