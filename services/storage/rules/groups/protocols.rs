//! The assignor that a classic group uses, and the subscriptions in its members' metadata.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kernel::consumer_protocol::{ConsumerSubscription, read_subscription};

use crate::documents::{MemberDocument, MemberProtocol};

/// Kafka's protocol type of consumers, whose metadata a broker may parse.
pub const CONSUMER: &str = "consumer";

/// Assignors that every member supports, in the order of the first member's preference.
fn known_by_all(members: &[&MemberDocument]) -> Vec<Arc<str>> {
    let Some(first) = members.first() else { return Vec::new() };
    let by_all = |own: &&MemberProtocol| members.iter().all(|member| member.metadata(&own.name).is_some());
    first.protocols.iter().filter(by_all).map(|own| Arc::clone(&own.name)).collect()
}

/// The assignor with the most votes; each member votes for its first one that all members support.
pub(super) fn select(members: &[&MemberDocument]) -> Option<Arc<str>> {
    let candidates = known_by_all(members);
    let mut votes: HashMap<&str, usize> = HashMap::new();
    for member in members {
        let choice = member.protocols.iter().find(|own| candidates.contains(&own.name));
        if let Some(choice) = choice {
            *votes.entry(&choice.name).or_default() += 1;
        }
    }
    let most = candidates.iter().map(|name| votes.get(&**name).copied().unwrap_or(0)).max()?;
    candidates.iter().find(|name| votes.get(&***name).copied().unwrap_or(0) == most).cloned()
}

/// The subscription in the metadata of the first assignor; `None` if the member is not a consumer.
pub(super) fn subscription(protocols: &[MemberProtocol]) -> Option<ConsumerSubscription> {
    read_subscription(&protocols.first()?.metadata.0)
}

/// The subscription in the metadata of the assignor in use.
pub(super) fn subscription_to(
    member: &MemberDocument,
    protocol: Option<&str>,
) -> Option<ConsumerSubscription> {
    let in_use = protocol.and_then(|protocol| member.metadata(protocol));
    in_use.map_or_else(|| subscription(&member.protocols), |metadata| read_subscription(&metadata.0))
}

/// The topics that a member subscribes to by name.
pub fn subscribed_names(member: &MemberDocument) -> BTreeSet<Arc<str>> {
    if member.is_classic() {
        return subscription(&member.protocols).map(|own| own.topics).unwrap_or_default();
    }
    member.consumer.as_ref().map(|own| own.topics.clone()).unwrap_or_default()
}
