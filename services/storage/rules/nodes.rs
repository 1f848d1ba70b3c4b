//! The brokers of a store that several share: leases of node ids.
//!
//! A broker has its id for as long as it renews its lease. The store's own clock tells when it ends, so that brokers whose
//! clocks differ agree. Nothing depends on the leases but where clients are sent, and who does what anybody may do.

use std::sync::Arc;

use kernel::{ErrorCode, NodeId};

use crate::commands::{Applied, NodeCommand, Outcome, Refused, RenewNode};
use crate::documents::{CopyMark, DocumentKind, FIRST_LEVEL, NodeDocument, NodeFacts, StoreLevel};
use crate::working_set::{Wanted, WorkingSet};

/// The first id that is given to brokers that want none.
const FIRST: i32 = 1;
/// How long a broker whose lease has ended is remembered, for operators, in ms.
const REMEMBERED_MS: i64 = 3_600_000;

pub(crate) fn needs(wanted: &mut Wanted, command: &NodeCommand) {
    match command {
        // The one that it writes may be any, and it is one of few. A list has no lock by itself: the first one's is that of all.
        NodeCommand::Renew(_) | NodeCommand::Leave { .. } => {
            wanted.write::<NodeDocument>(&NodeId(FIRST)).scan(NodeDocument::prefix());
            wanted.write::<StoreLevel>(&()).write::<CopyMark>(&());
        }
        NodeCommand::Finalize { .. } => {
            wanted.write::<StoreLevel>(&()).scan(NodeDocument::prefix());
        }
        NodeCommand::Drain { node, .. } => {
            wanted.write::<NodeDocument>(node);
        }
    }
}

pub(crate) fn decide(set: &mut WorkingSet<'_>, command: &NodeCommand) -> Outcome {
    match command {
        NodeCommand::Renew(renew) => self::renew(set, renew),
        NodeCommand::Leave { incarnation } => {
            let is_own = |(_, node): &(NodeId, Arc<NodeDocument>)| node.facts.incarnation == *incarnation;
            if let Some((id, _)) = all(set).iter().find(|node| is_own(node)) {
                set.delete::<NodeDocument>(id);
            }
            Ok(Applied::Changed)
        }
        NodeCommand::Drain { node, is_drained, now_ms } => drain(set, *node, *is_drained, *now_ms),
        NodeCommand::Finalize { level, now_ms } => finalize(set, *level, *now_ms),
    }
}

/// All brokers, in the order of ids.
pub(crate) fn all(set: &WorkingSet<'_>) -> Vec<(NodeId, Arc<NodeDocument>)> {
    let keys = set.keys(&NodeDocument::prefix()).unwrap_or_default();
    let ids = keys.iter().filter_map(NodeDocument::parse_key);
    let mut all: Vec<_> = ids.filter_map(|id| Some((id, set.get_arc::<NodeDocument>(&id)?))).collect();
    all.sort_by_key(|(id, _)| *id);
    all
}

fn renew(set: &mut WorkingSet<'_>, renew: &RenewNode) -> Outcome {
    let RenewNode { node, had, facts, ended, lease_ms, now_ms } = renew;
    let level = level(set);
    if facts.level < level {
        return Err(too_old(level, facts));
    }
    if let Some(refusal) = set.get::<CopyMark>(&()).and_then(|mark| mark.refusal(*now_ms)) {
        return Err(Refused::new(ErrorCode::KafkaStorageError, refusal));
    }
    let has_ended = |node: &NodeDocument| {
        let is_own = node.facts.incarnation == facts.incarnation;
        !is_own && node.facts.session.as_ref().is_some_and(|session| ended.contains(session))
    };
    let is_live = |node: &NodeDocument| node.is_live(*now_ms) && !has_ended(node);
    let mut all = all(set);
    let own = all.iter().find(|(_, node)| node.facts.incarnation == facts.incarnation).cloned();
    let holder = |id: NodeId| {
        let others =
            all.iter().filter(|(_, node)| is_live(node) && node.facts.incarnation != facts.incarnation);
        others.clone().find(|(other, _)| *other == id).map(|(_, node)| Arc::clone(node))
    };
    let is_free = |id: NodeId| holder(id).is_none();
    let is_of_another = |node: &NodeDocument| is_live(node) && node.facts.cluster_id != facts.cluster_id;
    if let Some((other, node)) = all.iter().find(|(_, node)| is_of_another(node)) {
        return Err(another_cluster(*other, node, facts));
    }
    if let Some((fixed, holder)) = node.and_then(|fixed| Some((fixed, holder(fixed)?))) {
        return Err(taken(fixed, &holder));
    }
    let id = match (node, &own) {
        (Some(fixed), _) => *fixed,
        (None, Some((id, _))) => *id,
        (None, None) if had.is_some_and(is_free) => had.unwrap_or(NodeId(FIRST)),
        // There are fewer brokers than ids.
        (None, None) => (FIRST..).map(NodeId).find(|id| is_free(*id)).unwrap_or(NodeId(FIRST)),
    };
    let document = Arc::new(NodeDocument {
        facts: facts.clone(),
        since_ms: own.as_ref().map_or(*now_ms, |(_, own)| own.since_ms),
        lease_ms: now_ms + lease_ms,
        is_drained: own.as_ref().is_some_and(|(_, own)| own.is_drained),
    });
    set.put::<NodeDocument>(&id, Arc::clone(&document));
    for (other, node) in all.iter().filter(|(other, _)| *other != id) {
        let is_former_self = node.facts.incarnation == facts.incarnation;
        let is_forgotten = !node.is_live(*now_ms) && (node.lease_ms - now_ms).abs() > REMEMBERED_MS;
        if is_former_self || is_forgotten {
            set.delete::<NodeDocument>(other);
        } else if node.is_live(*now_ms) && has_ended(node) {
            // It may live, with another connection: then it goes on with its next renewal, as it was.
            set.put::<NodeDocument>(other, NodeDocument { lease_ms: *now_ms, ..(**node).clone() });
        }
    }
    all.retain(|(other, node)| *other != id && is_live(node));
    all.retain(|(_, node)| node.facts.incarnation != facts.incarnation);
    all.push((id, document));
    all.sort_by_key(|(id, _)| *id);
    Ok(Applied::Nodes { own: id, live: all, level })
}

/// The level of the store.
fn level(set: &WorkingSet<'_>) -> u32 {
    set.get::<StoreLevel>(&()).map_or(FIRST_LEVEL, |document| document.level)
}

fn too_old(level: u32, facts: &NodeFacts) -> Refused {
    let message = format!(
        "the store was finalized by a newer release of Yagura (level {level}, this one reads up to {}); upgrade Yagura",
        facts.level
    );
    Refused::new(ErrorCode::UnsupportedVersion, message)
}

fn finalize(set: &mut WorkingSet<'_>, level: u32, now_ms: i64) -> Outcome {
    let live = all(set).into_iter().filter(|(_, node)| node.is_live(now_ms));
    let old: Vec<String> = live
        .filter(|(_, node)| node.facts.level < level)
        .map(|(id, node)| format!("{} (release {})", id.0, node.facts.release))
        .collect();
    if !old.is_empty() {
        let message = format!(
            "brokers that have the store cannot read level {level}: {}; upgrade them first (one that has died is forgotten within a minute)",
            old.join(", ")
        );
        return Err(Refused::new(ErrorCode::UnsupportedVersion, message));
    }
    if self::level(set) < level {
        set.put::<StoreLevel>(&(), StoreLevel { level });
    }
    Ok(Applied::Changed)
}

fn another_cluster(id: NodeId, node: &NodeDocument, own: &NodeFacts) -> Refused {
    let name = |facts: &NodeFacts| facts.cluster_id.as_deref().unwrap_or("").to_owned();
    let message = format!(
        "broker {} of the store has the cluster_id {:?}, and this one {:?}; give all brokers of a store the same",
        id.0,
        name(&node.facts),
        name(own)
    );
    Refused::new(ErrorCode::InconsistentClusterId, message)
}

fn taken(id: NodeId, holder: &NodeDocument) -> Refused {
    let at: Vec<String> =
        holder.facts.addresses.values().map(|at| format!(" at {}:{}", at.host, at.port)).collect();
    let message = format!(
        "another broker of the store{} has the id {}; give each broker another node_id, or none: then it gets one that is free",
        at.first().map_or("", String::as_str),
        id.0
    );
    Refused::new(ErrorCode::DuplicateBrokerRegistration, message)
}

fn drain(set: &mut WorkingSet<'_>, id: NodeId, is_drained: bool, now_ms: i64) -> Outcome {
    let node = set.get::<NodeDocument>(&id).filter(|node| node.is_live(now_ms));
    let Some(node) = node.cloned() else {
        let message = format!("there is no broker with the id {}", id.0);
        return Err(Refused::new(ErrorCode::BrokerIdNotRegistered, message));
    };
    set.put::<NodeDocument>(&id, NodeDocument { is_drained, ..node });
    Ok(Applied::Changed)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use uuid::Uuid;

    use super::*;
    use crate::commands::{Command, CopyCommand};
    use crate::documents::Document;
    use crate::testing::MapStore;

    const LEASE_MS: i64 = 10_000;

    fn renewal(node: Option<i32>, incarnation: u128, now_ms: i64) -> Command {
        let facts = NodeFacts {
            incarnation: Uuid::from_u128(incarnation),
            cluster_id: Some(Arc::from("c")),
            addresses: BTreeMap::new(),
            rack: None,
            release: Arc::from("1.0"),
            level: FIRST_LEVEL,
            session: Some(Arc::from(format!("session {incarnation}"))),
        };
        let (node, had, ended) = (node.map(NodeId), None, Vec::new());
        let renew = RenewNode { node, had, facts, ended, lease_ms: LEASE_MS, now_ms };
        Command::Node(NodeCommand::Renew(Box::new(renew)))
    }

    fn renew(store: &mut MapStore, node: Option<i32>, incarnation: u128, now_ms: i64) -> (i32, Vec<i32>) {
        match store.run(&renewal(node, incarnation, now_ms)).0 {
            Ok(Applied::Nodes { own, live, .. }) => (own.0, live.iter().map(|(id, _)| id.0).collect()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_broker_keeps_the_lowest_free_id_while_it_renews() {
        let mut store = MapStore::default();
        assert_eq!(renew(&mut store, None, 10, 0), (1, vec![1]));
        assert_eq!(renew(&mut store, None, 20, 1), (2, vec![1, 2]));
        assert_eq!(renew(&mut store, None, 10, 5_000), (1, vec![1, 2]));
        assert_eq!(renew(&mut store, None, 20, 9_000), (2, vec![1, 2]));
        // The first one has gone: its id is free, and the other keeps its own.
        assert_eq!(renew(&mut store, None, 20, 15_000), (2, vec![2]));
        assert_eq!(renew(&mut store, None, 30, 15_001), (1, vec![1, 2]));
        // One that was away for long gets another id.
        assert_eq!(renew(&mut store, None, 10, 15_002), (3, vec![1, 2, 3]));
    }

    #[test]
    fn one_that_leaves_is_gone_at_once() {
        let mut store = MapStore::default();
        renew(&mut store, None, 10, 0);
        renew(&mut store, None, 20, 0);
        let leave =
            |incarnation| Command::Node(NodeCommand::Leave { incarnation: Uuid::from_u128(incarnation) });
        store.run(&leave(10)).0.unwrap();
        store.run(&leave(99)).0.unwrap();
        assert_eq!(renew(&mut store, None, 20, 1), (2, vec![2]));
    }

    /// A renewal with something changed.
    fn with(command: Command, change: impl FnOnce(&mut RenewNode)) -> Command {
        match command {
            Command::Node(NodeCommand::Renew(mut renew)) => {
                change(&mut renew);
                Command::Node(NodeCommand::Renew(renew))
            }
            other => other,
        }
    }

    fn run(store: &mut MapStore, command: &Command) -> (i32, Vec<i32>) {
        match store.run(command).0 {
            Ok(Applied::Nodes { own, live, .. }) => (own.0, live.iter().map(|(id, _)| id.0).collect()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_whose_connection_has_ended_is_gone() {
        let mut store = MapStore::default();
        renew(&mut store, None, 10, 0);
        renew(&mut store, None, 20, 0);
        let finds = with(renewal(None, 20, 1), |renew| renew.ended = vec![Arc::from("session 10")]);
        assert_eq!(run(&mut store, &finds), (2, vec![2]));
        assert_eq!(renew(&mut store, None, 30, 2), (1, vec![1, 2]), "its id is free");
        // Nobody ends by what is said of its former connection, nor by what it says itself.
        let changed = with(renewal(None, 20, 3), |renew| {
            renew.facts.session = Some(Arc::from("another"));
            renew.ended = vec![Arc::from("another"), Arc::from("session 20")];
        });
        assert_eq!(run(&mut store, &changed), (2, vec![1, 2]));
        let late = with(renewal(None, 30, 4), |renew| renew.ended = vec![Arc::from("session 20")]);
        assert_eq!(run(&mut store, &late), (1, vec![1, 2]));
    }

    #[test]
    fn one_that_was_cut_off_has_its_id_again_if_it_is_free() {
        let mut store = MapStore::default();
        for incarnation in [10, 20, 30] {
            renew(&mut store, None, incarnation, 0);
        }
        let ended = || ["session 20", "session 30"].map(Arc::from).to_vec();
        let finds = with(renewal(None, 10, 1), |renew| renew.ended = ended());
        assert_eq!(run(&mut store, &finds), (1, vec![1]));
        assert_eq!(
            renew(&mut store, None, 40, 2),
            (2, vec![1, 2]),
            "a new one takes the lowest that is free"
        );
        let back = |incarnation| with(renewal(None, incarnation, 3), |renew| renew.had = Some(NodeId(3)));
        assert_eq!(run(&mut store, &back(30)), (3, vec![1, 2, 3]));
        assert_eq!(run(&mut store, &back(20)), (4, vec![1, 2, 3, 4]), "others have them");
    }

    #[test]
    fn one_that_was_cut_off_is_as_drained_and_as_old_as_before() {
        let mut store = MapStore::default();
        renew(&mut store, None, 10, 0);
        renew(&mut store, None, 20, 5);
        let drain = NodeCommand::Drain { node: NodeId(2), is_drained: true, now_ms: 6 };
        store.run(&Command::Node(drain)).0.unwrap();
        let finds = with(renewal(None, 10, 7), |renew| renew.ended = vec![Arc::from("session 20")]);
        assert_eq!(run(&mut store, &finds), (1, vec![1]));
        assert_eq!(renew(&mut store, None, 20, 8), (2, vec![1, 2]));
        let node = store.0.get(&NodeDocument::key(&NodeId(2))).and_then(|node| node.get::<NodeDocument>());
        assert!(node.is_some_and(|node| node.is_drained && node.since_ms == 5));
    }

    #[test]
    fn a_fixed_id_belongs_to_one_broker_at_a_time() {
        let mut store = MapStore::default();
        assert_eq!(renew(&mut store, Some(7), 10, 0), (7, vec![7]));
        let refused = store.run(&renewal(Some(7), 20, 1)).0.unwrap_err();
        assert_eq!(refused.error, ErrorCode::DuplicateBrokerRegistration);
        assert_eq!(renew(&mut store, Some(7), 20, LEASE_MS), (7, vec![7]), "after the lease");
        // One that is given another id by its config gives its former one back.
        assert_eq!(renew(&mut store, Some(8), 20, LEASE_MS + 1), (8, vec![8]));
    }

    #[test]
    fn brokers_of_two_clusters_do_not_share_a_store() {
        let mut store = MapStore::default();
        renew(&mut store, None, 10, 0);
        let other = with(renewal(None, 20, 1), |renew| renew.facts.cluster_id = Some(Arc::from("d")));
        let refused = store.run(&other).0.unwrap_err();
        assert_eq!(refused.error, ErrorCode::InconsistentClusterId);
        assert!(
            refused.message.contains("\"c\"") && refused.message.contains("\"d\""),
            "{}",
            refused.message
        );
        let later = with(renewal(None, 20, LEASE_MS), |renew| renew.facts.cluster_id = Some(Arc::from("d")));
        assert_eq!(run(&mut store, &later), (1, vec![1]), "once the first has gone");
    }

    #[test]
    fn the_drained_are_so_until_they_are_started_again() {
        let mut store = MapStore::default();
        let drain =
            |node, now_ms| Command::Node(NodeCommand::Drain { node: NodeId(node), is_drained: true, now_ms });
        let is_drained = |store: &MapStore| {
            let key = NodeDocument::key(&NodeId(1));
            store.0.get(&key).and_then(|node| node.get::<NodeDocument>()).unwrap().is_drained
        };
        renew(&mut store, None, 10, 0);
        assert_eq!(store.run(&drain(2, 0)).0.unwrap_err().error, ErrorCode::BrokerIdNotRegistered);
        store.run(&drain(1, 0)).0.unwrap();
        renew(&mut store, None, 10, 1);
        assert!(is_drained(&store));
        assert!(store.run(&drain(1, LEASE_MS + 1)).0.is_err(), "its lease has ended");
        renew(&mut store, None, 20, LEASE_MS + 1);
        assert!(!is_drained(&store));
    }

    /// Any broker's renewal reads all.
    #[test]
    fn a_document_that_is_damaged_holds_up_nobody_and_is_removed() {
        let mut store = MapStore::default();
        let key = NodeDocument::key(&NodeId(1));
        store.0.insert(key.clone(), Document::read::<NodeDocument>("{").unwrap());
        assert_eq!(renew(&mut store, Some(2), 10, 2 * REMEMBERED_MS), (2, vec![2]));
        assert!(!store.0.contains_key(&key));
        assert!(Document::read::<NodeDocument>("v9 {}").is_err(), "one of a later release is left alone");
    }

    #[test]
    fn nobody_joins_while_a_copy_goes_on() {
        let mut store = MapStore::default();
        renew(&mut store, None, 10, 0);
        let mark = |until_ms| CopyMark { id: Uuid::from_u128(1), until_ms };
        let begin = |until_ms, now_ms| Command::Copy(CopyCommand::Begin { mark: mark(until_ms), now_ms });
        let refused = store.run(&begin(Some(60_000), 1)).0.unwrap_err();
        assert!(refused.message.contains("1 broker(s) have the store"), "{}", refused.message);
        store.run(&begin(Some(LEASE_MS + 60_000), LEASE_MS)).0.unwrap();
        let refused = store.run(&renewal(None, 10, LEASE_MS + 1)).0.unwrap_err();
        assert!(refused.message.contains("store copy"), "{}", refused.message);
        renew(&mut store, None, 10, LEASE_MS + 60_001);
        let mut filled = MapStore::default();
        filled.run(&begin(None, 0)).0.unwrap();
        assert!(filled.run(&renewal(None, 10, 2 * REMEMBERED_MS)).0.is_err());
    }

    #[test]
    fn a_store_is_finalized_once_all_its_brokers_are_upgraded() {
        let mut store = MapStore::default();
        let finalize = |now_ms| Command::Node(NodeCommand::Finalize { level: 2, now_ms });
        let of_level_2 =
            |incarnation, now_ms| with(renewal(None, incarnation, now_ms), |renew| renew.facts.level = 2);
        renew(&mut store, None, 10, 0);
        assert_eq!(run(&mut store, &of_level_2(20, 1)), (2, vec![1, 2]), "both releases have it");
        let refused = store.run(&finalize(2)).0.unwrap_err();
        assert_eq!(refused.error, ErrorCode::UnsupportedVersion);
        assert!(refused.message.contains("1 (release 1.0)"), "{}", refused.message);
        store.run(&finalize(LEASE_MS)).0.unwrap();
        let level = |store: &MapStore| {
            let document = store.0.get(&StoreLevel::key(&()));
            document.and_then(|document| document.get::<StoreLevel>()).map(|document| document.level)
        };
        assert_eq!(level(&store), Some(2));
        let refused = store.run(&renewal(None, 10, LEASE_MS + 1)).0.unwrap_err();
        assert_eq!(refused.error, ErrorCode::UnsupportedVersion, "one that was away meanwhile");
        assert!(matches!(store.run(&of_level_2(20, LEASE_MS + 2)).0, Ok(Applied::Nodes { level: 2, .. })));
        let again = NodeCommand::Finalize { level: 1, now_ms: LEASE_MS + 3 };
        store.run(&Command::Node(again)).0.unwrap();
        assert_eq!(level(&store), Some(2), "there is no way back");
    }

    #[test]
    fn the_dead_are_forgotten_and_leases_of_another_time_do_not_last() {
        let mut store = MapStore::default();
        renew(&mut store, Some(5), 10, 0);
        renew(&mut store, Some(6), 20, 2 * REMEMBERED_MS);
        assert_eq!(store.0.len(), 1);
        // The server's clock is set back.
        assert_eq!(renew(&mut store, None, 30, 0), (1, vec![1]));
        assert_eq!(store.0.len(), 1, "nobody knows when that was");
    }
}
