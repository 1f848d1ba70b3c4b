//! Which assignor a group uses, and what a member's subscription says.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::Buf;
use kafka_protocol::messages::ConsumerProtocolSubscription;
use kafka_protocol::protocol::Decodable;

use super::documents::{Blob, GroupState, MemberProtocol};
use super::party::Party;

/// Kafka's name for groups of consumers, whose metadata a broker may read.
pub(super) const CONSUMER: &str = "consumer";

/// Assignors that every member knows, in the order of the first member's preference.
fn known_by_all(party: &Party) -> Vec<Arc<str>> {
    let Some((_, first)) = party.members().next() else { return Vec::new() };
    let by_all =
        |own: &&MemberProtocol| party.members().all(|(_, member)| member.metadata(&own.name).is_some());
    first.protocols.iter().filter(by_all).map(|own| Arc::clone(&own.name)).collect()
}

/// Whether somebody with these assignors fits into the group.
pub(super) fn supports(party: &Party, protocol_type: &str, protocols: &[MemberProtocol]) -> bool {
    if party.group.state == GroupState::Empty {
        return !protocol_type.is_empty() && !protocols.is_empty();
    }
    let known = known_by_all(party);
    party.group.protocol_type.as_deref() == Some(protocol_type)
        && protocols.iter().any(|own| party.count() == 0 || known.contains(&own.name))
}

/// The assignor with the most votes; each member votes for the first of its own that all know.
pub(super) fn select(party: &Party) -> Option<Arc<str>> {
    let candidates = known_by_all(party);
    let mut votes: HashMap<&str, usize> = HashMap::new();
    for (_, member) in party.members() {
        let choice = member.protocols.iter().find(|own| candidates.contains(&own.name));
        if let Some(choice) = choice {
            *votes.entry(&choice.name).or_default() += 1;
        }
    }
    let most = candidates.iter().map(|name| votes.get(&**name).copied().unwrap_or(0)).max()?;
    candidates.iter().find(|name| votes.get(&***name).copied().unwrap_or(0) == most).cloned()
}

/// The topics in a consumer's subscription; `None` if it is not one.
pub fn subscribed_topics(metadata: &Blob) -> Option<BTreeSet<String>> {
    let mut bytes = metadata.0.clone();
    if bytes.remaining() < 2 {
        return None;
    }
    let version = bytes.get_i16();
    // A later version begins like those that are known (KIP-429).
    let version = version.clamp(0, 3);
    let subscription = ConsumerProtocolSubscription::decode(&mut bytes, version).ok()?;
    Some(subscription.topics.iter().map(|topic| topic.to_string()).collect())
}
