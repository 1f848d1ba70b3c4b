//! Keeps a broker's lease, and follows who else is there.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kernel::ErrorCode;
use rules::commands::{Applied, Command, NodeCommand, Refused, RenewNode};
use rules::documents::{DocumentKind, LEVEL, NodeDocument, NodeFacts};
use tracing::{info, warn};

use super::rest::{REST, REST_LEASE};
use super::view::View;
use crate::broker::Broker;
use crate::engines::{Engine, Holds, StoreError};

/// How often the lease is renewed. Others see this broker after as long, at most.
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// After this pause it is looked at what others tell: those who come and go together are seen at once.
const SOON: Duration = Duration::from_millis(10);
/// So long a broker that joins others waits before it serves clients: by then, they have seen it. A client that is told of it
/// by one broker and not by the next drops what it has asked it.
const SEEN_AFTER: Duration = Duration::from_millis(100);
/// How long a lease lasts: clients are sent to a broker that has died for so long.
pub(super) const LEASE: Duration = Duration::from_secs(8);
const LEASE_MS: i64 = LEASE.as_millis() as i64;
/// After so long without the store, or without processor time, nothing is known of what members have sent meanwhile, in ms.
const INTERRUPTED_AFTER_MS: i64 = 5_000;
/// A lease of which less than this is left, in ms, is one that was not renewed when it should have been.
const LATE_MS: i64 = 4_500;
/// How often connections of a broker that is drained are ended, in ms.
const SEND_AWAY_EVERY_MS: i64 = 10_000;
/// How long leaving may take.
const LEAVE_DEADLINE: Duration = Duration::from_secs(2);

/// Joins the brokers of a store.
///
/// # Errors
/// The store failed, or another broker has the id of this one's config.
pub(crate) async fn join(broker: &Broker, engine: &dyn Engine) -> Result<(), StoreError> {
    broker.nodes.facts.lock().incarnation = broker.fresh_id();
    // One that was killed has left its id behind, which is free once its connection is seen to have ended.
    let known = engine.scan(NodeDocument::prefix(), None, usize::MAX).await?;
    let sessions = || known.iter().filter_map(|(_, node)| node.get::<NodeDocument>()?.facts.session.clone());
    // Of one that hangs, or that cannot be reached, the lease ends; it may be a long one.
    let ends = known.iter().filter_map(|(_, node)| Some(node.get::<NodeDocument>()?.lease_ms));
    let left_ms = ends.max().map_or(0, |end_ms| end_ms.saturating_sub(broker.time.now_ms()));
    let patience =
        Duration::from_millis(left_ms.clamp(0, NodeDocument::LEASE_MAX_MS).unsigned_abs()) + RENEW_EVERY;
    let (begun, mut is_waiting) = (tokio::time::Instant::now(), false);
    let view = loop {
        let refused = match renew(broker, engine, sessions().collect()).await? {
            Ok(view) => break view,
            Err(refused) => refused,
        };
        let can_end = refused.error != ErrorCode::UnsupportedVersion;
        if !can_end || begun.elapsed() > patience {
            return Err(StoreError(refused.message));
        }
        if !std::mem::replace(&mut is_waiting, true) {
            warn!(why = refused.message, "waits until it has gone, {} s at most", patience.as_secs());
        }
        tokio::time::sleep(RENEW_EVERY / 4).await;
    };
    info!(node = view.own.0, brokers = view.live.len(), "this broker has joined the brokers of the store");
    if view.level < LEVEL {
        info!(
            level = view.level,
            "the store is kept as the release before this one can use it; once all brokers are of this release, run `yagura store finalize`"
        );
    }
    engine.write_at(view.level);
    engine.has_others(!view.is_alone());
    warn_unless_reachable(broker, &view);
    if !view.is_alone() {
        // Those who do not hear of it see it with their next renewals.
        drop(engine.tell_of_brokers().await);
        tokio::time::sleep(SEEN_AFTER).await;
    }
    broker.nodes.view.send_replace(Arc::new(view));
    Ok(())
}

/// Other brokers can send clients only to an address that they know.
fn warn_unless_reachable(broker: &Broker, view: &View) {
    let listeners = broker.nodes.listeners_unknown();
    if !view.is_alone() && !listeners.is_empty() {
        let listeners = listeners.join(", ");
        warn!(
            listeners,
            "other brokers cannot send clients to this one, because it listens on all addresses; say with --advertise, or `advertise`, where clients reach it"
        );
    }
}

/// Leaves them, once: clients are sent elsewhere from now on.
pub(crate) async fn leave(broker: &Broker, engine: &dyn Engine) {
    if engine.sharing().is_none() {
        return;
    }
    let leave = async {
        let mut has_left = broker.nodes.has_left.lock().await;
        if std::mem::replace(&mut *has_left, true) {
            return;
        }
        let incarnation = broker.nodes.facts.lock().incarnation;
        let leave = Command::Node(NodeCommand::Leave { incarnation });
        let said = engine.commit(vec![leave], Holds::new()).await;
        broker.nodes.view.send_modify(|view| *view = Arc::new(view.after_leaving()));
        if said.is_ok() {
            // Those who do not hear of it find out with their next renewals.
            drop(engine.tell_of_brokers().await);
        }
    };
    // If it cannot be said, the lease ends.
    drop(tokio::time::timeout(LEAVE_DEADLINE, leave).await);
}

/// Renews the lease for as long as the broker lives; for ever without a thing to do if the store is not shared. Returns why the
/// broker cannot go on.
pub(crate) async fn run(broker: &Broker) -> String {
    let engine = broker.store.engine().await.ok().filter(|engine| engine.sharing().is_some());
    let Some(engine) = engine else { return std::future::pending().await };
    let mut is_failing = false;
    loop {
        let view = broker.nodes.view();
        let pause = match (broker.nodes.rest.goes_on(), view.is_long(LEASE_MS)) {
            (true, _) => REST,
            // Somebody has called, or come, while it was renewed: others are to find out soon if this broker dies now.
            (false, true) => SOON,
            (false, false) => RENEW_EVERY,
        };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = broker.nodes.changed.notified() => tokio::time::sleep(SOON).await,
        }
        let has_left = broker.nodes.has_left.lock().await;
        if *has_left {
            drop(has_left);
            return std::future::pending().await;
        }
        let renewed = renew(broker, &*engine, broker.nodes.view().sessions_of_others()).await;
        broker.nodes.is_failing.store(renewed.is_err(), Ordering::Relaxed);
        let view = match renewed {
            Ok(Ok(view)) => view,
            // Another broker has its id, which it cannot have as well.
            Ok(Err(refused)) => return refused.message,
            Err(error) => {
                // There is no rest before it is.
                broker.nodes.rest.set(false);
                // Said once: it is tried again and again.
                if !std::mem::replace(&mut is_failing, true) {
                    warn!(%error, "this broker's lease cannot be renewed; it is tried again and again, and other brokers take it for gone meanwhile");
                }
                continue;
            }
        };
        if std::mem::take(&mut is_failing) {
            info!(node = view.own.0, "this broker's lease is renewed again");
        }
        publish(broker, &*engine, view);
        drop(has_left);
    }
}

fn publish(broker: &Broker, engine: &dyn Engine, view: View) {
    let before = broker.nodes.view();
    let gone = view.gone_since(&before);
    // At rest, nobody has sent anything.
    let pause = if broker.nodes.rests() { REST } else { Duration::ZERO };
    let silence_ms =
        view.seen_ms.saturating_sub(before.seen_ms).saturating_sub_unsigned(pause.as_millis() as u64);
    if silence_ms > INTERRUPTED_AFTER_MS {
        broker.coordinator.interrupted();
        // Others may have taken this broker for gone, and told it nothing.
        engine.doubt();
    }
    if !gone.is_empty() || view.has_late(LATE_MS) {
        // Members of a broker that has gone, or hangs, cannot be heard until they have found another.
        broker.coordinator.others_are_gone();
    }
    if view.own != before.own {
        warn!(
            was = before.own.0,
            is = view.own.0,
            "this broker has another id, because its lease had ended and another broker has the former one"
        );
    }
    for (id, _) in &gone {
        info!(node = id.0, "a broker has gone");
    }
    for (id, _) in view.live.iter().filter(|(_, node)| !is_in(&before, node)) {
        info!(node = id.0, "a broker has joined");
    }
    if before.is_alone() {
        warn_unless_reachable(broker, &view);
    }
    if view.level > before.level {
        info!(level = view.level, "the store was finalized: releases before this one cannot use it any more");
    }
    if view.level < before.level {
        warn!(
            level = view.level,
            "the store is not finalized any more, because it was restored or its server has given way to a standby; run `yagura store finalize` again"
        );
    }
    engine.write_at(view.level);
    send_away(broker, &view, &before);
    engine.has_others(!view.is_alone());
    if !gone.is_empty() {
        engine.doubt();
    }
    broker.nodes.rest.set(view.is_long(LEASE_MS) && view.is_alone());
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

/// Ends the connections of clients of a broker that is drained, if they have somewhere to go; then again those of clients that
/// have come back, because they had not heard yet where to go.
fn send_away(broker: &Broker, view: &View, before: &View) {
    let (is, was) = (view.is_drained(), before.is_drained());
    if was && !is {
        info!("this broker is not drained any more");
    }
    if !is || (was && view.seen_ms < broker.nodes.sent_away_ms.load(Ordering::Relaxed) + SEND_AWAY_EVERY_MS) {
        return;
    }
    broker.nodes.sent_away_ms.store(view.seen_ms, Ordering::Relaxed);
    if view.others_take_clients() {
        if !was {
            info!(
                "this broker is drained: connections end once their calls are answered, and clients go to others"
            );
        }
        broker.nodes.drained.notify_one();
    } else if !was {
        warn!("this broker is drained, but no other takes its clients: they stay until one does");
    }
}

fn is_in(view: &View, node: &NodeDocument) -> bool {
    view.live.iter().any(|(_, other)| other.facts.incarnation == node.facts.incarnation)
}

/// Renews the lease, and looks who is there, once.
#[cfg(test)]
pub(crate) async fn renew_once(broker: &Broker) {
    let engine = broker.store.engine().await.expect("the store is open");
    let sessions = broker.nodes.view().sessions_of_others();
    let renewed = renew(broker, &*engine, sessions).await.expect("the store answers");
    let view = renewed.expect("the lease is renewed");
    publish(broker, &*engine, view);
}

/// Renews the lease once; returns who is there, or why this broker cannot have its id. The connections are those that other
/// brokers keep, as far as they are known.
async fn renew(
    broker: &Broker,
    engine: &dyn Engine,
    sessions: Vec<Arc<str>>,
) -> Result<Result<View, Refused>, StoreError> {
    let before = broker.nodes.view();
    let looked = engine.look(sessions).await?;
    broker.store.follow_instance(looked.instance);
    if looked.is_another {
        broker.store.begin_epoch(engine, broker.clock.now_ms()).await?;
        engine.accept().await?;
    }
    let now_ms = broker.time.now_ms();
    let is_quiet = broker.nodes.rest.is_quiet(now_ms);
    let lease = if is_quiet && before.is_alone() { REST_LEASE } else { LEASE };
    let lease_ms = lease.as_millis() as i64;
    let renew = RenewNode {
        node: broker.nodes.fixed,
        had: (!before.live.is_empty()).then_some(before.own),
        facts: NodeFacts { session: looked.session, ..broker.nodes.facts.lock().clone() },
        ended: looked.ended,
        lease_ms,
        now_ms,
    };
    let renew = Command::Node(NodeCommand::Renew(Box::new(renew)));
    let outcome = engine.commit(vec![renew], Holds::new()).await?.into_iter().next();
    match outcome {
        Some(Ok(Applied::Nodes { own, live, level })) => {
            Ok(Ok(View { own, live, until_ms: now_ms + lease_ms, seen_ms: now_ms, level }))
        }
        Some(Err(refused)) => Ok(Err(refused)),
        other => Err(StoreError(format!("the engine answered the renewal of a lease with {other:?}"))),
    }
}
