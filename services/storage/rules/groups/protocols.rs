//! Which assignor a classic group uses, and what a consumer in it says of itself.

use std::collections::HashMap;
use std::sync::Arc;

use super::documents::{GroupState, MemberDocument, MemberProtocol};
use super::party::Party;
use kernel::consumer_protocol::{Subscription, read_subscription};

/// Kafka's name for groups of consumers, whose metadata a broker may read.
pub const CONSUMER: &str = "consumer";

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

/// What a consumer says of itself to the first of its assignors; `None` if it is no consumer.
pub(super) fn subscription(protocols: &[MemberProtocol]) -> Option<Subscription> {
    read_subscription(&protocols.first()?.metadata.0)
}

/// What a consumer says of itself to the assignor in use.
pub(super) fn subscription_to(member: &MemberDocument, protocol: Option<&str>) -> Option<Subscription> {
    let in_use = protocol.and_then(|protocol| member.metadata(protocol));
    in_use.map_or_else(|| subscription(&member.protocols), |metadata| read_subscription(&metadata.0))
}
