//! Which service owns what a call names.

use std::collections::HashMap;

use kernel::TopicId;
use kernel::ports::TopicFacts;
use kernel::split::ItemKey;

use super::rules::Candidates;

/// The services of the topics that a call names by id.
#[derive(Debug, Default)]
pub(super) struct IdOwners {
    services: HashMap<TopicId, usize>,
    /// The service of the other ids; the default one if there is none.
    unknown: Option<usize>,
}

impl IdOwners {
    /// The services of these topics, each found in a service. An id of a topic in another service than the rules give
    /// for this call is as good as unknown.
    pub(super) fn new(candidates: &Candidates<'_>, topics: &[(usize, TopicFacts)]) -> Self {
        let reachable =
            topics.iter().filter(|(service, topic)| candidates.service_of(&topic.name) == *service);
        let services = reachable.map(|(service, topic)| (topic.id, *service)).collect();
        Self { services, unknown: None }
    }

    /// All services of known ids.
    pub(super) fn services(&self) -> impl Iterator<Item = usize> {
        self.services.values().copied()
    }

    /// Makes an id that nobody knows go where the rest of the call goes, if that is one service: every service gives
    /// the same error for it.
    pub(super) fn unknown_to(&mut self, service: Option<usize>) {
        self.unknown = service;
    }

    /// The service of a topic id.
    pub(super) fn of_id(&self, candidates: &Candidates<'_>, id: TopicId) -> usize {
        self.services.get(&id).copied().or(self.unknown).unwrap_or(candidates.otherwise)
    }

    /// The service of an item.
    pub(super) fn of(&self, candidates: &Candidates<'_>, key: &ItemKey) -> usize {
        match key {
            ItemKey::Topic(name) => candidates.service_of(name),
            ItemKey::TopicId(id) => self.of_id(candidates, *id),
            ItemKey::Resource(resource_type, _) => candidates.service_of_resource(i64::from(*resource_type)),
            ItemKey::Nothing => candidates.otherwise,
        }
    }
}
