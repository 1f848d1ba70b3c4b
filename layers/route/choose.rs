//! Which service a call belongs to, by the topics and the fetch session that it names.

use kernel::ports::TopicFacts;
use kernel::schema::Mark;
use kernel::schema::walk::{Found, RawValue};
use kernel::session::Owner;
use kernel::{Api, Call, Malformed, TopicId};

use super::rules::{Candidates, RESOURCE_APIS, Rules};
use super::sessions::SessionHolders;

/// The index of a call's service.
#[derive(Debug)]
pub(super) enum Choice {
    /// This service.
    Service(usize),
    /// None: its topics belong to more than one.
    SpansServices,
    /// Depends on the names of these topics.
    NeedsNames(Named),
}

/// What a request names.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// The service of the topics seen so far.
    service: Option<usize>,
    spans_services: bool,
    /// Topics without a name.
    pub(super) ids: Vec<TopicId>,
    /// The service that holds the fetch session of the request.
    session_holder: Option<usize>,
    session_id: i64,
    session_epoch: i64,
    /// The type of the resource whose name comes next.
    resource_type: i64,
}

/// The `ResourceType` of topics.
const TOPIC_RESOURCE: i64 = 2;

/// Finds the service of a call; reads its body only if a rule with topics can apply.
///
/// # Errors
/// The body cannot be read.
pub(super) fn choose(rules: &Rules, call: &mut Call, owner: Owner) -> Result<Choice, Malformed> {
    let candidates = rules.candidates(call);
    if !candidates.have_topics() {
        return Ok(Choice::Service(candidates.otherwise));
    }
    let mut named = Named::default();
    let is_fetch = call.header.api == Api::FETCH;
    let has_resources = RESOURCE_APIS.contains(&call.header.api);
    call.walk(|found| {
        named.see_topic(&candidates, &found);
        if is_fetch {
            named.see_session(&found);
        }
        if has_resources {
            named.see_resource(&candidates, &found);
        }
    })?;
    if let Ok(id) = i32::try_from(named.session_id)
        && id != 0
    {
        named.session_holder = call.session.state::<SessionHolders>(owner).holder(id);
    }
    if named.ids.is_empty() || named.spans_services {
        return Ok(named.decide(&candidates).map_or(Choice::SpansServices, Choice::Service));
    }
    Ok(Choice::NeedsNames(named))
}

impl Named {
    /// The service of the call, once its topics have names; `None` if they belong to more than one.
    ///
    /// An unknown id does not decide the service, because every service gives the same error for it.
    /// So does an id of a topic in another service than the rules give for this call.
    pub(super) fn with_names(
        mut self,
        rules: &Rules,
        call: &Call,
        topics: &[(usize, TopicFacts)],
    ) -> Option<usize> {
        let candidates = rules.candidates(call);
        for (service, topic) in topics {
            if candidates.service_of(&topic.name) == *service {
                self.add(*service);
            }
        }
        self.decide(&candidates)
    }

    fn add(&mut self, service: usize) {
        self.spans_services |= *self.service.get_or_insert(service) != service;
    }

    fn see_topic(&mut self, candidates: &Candidates<'_>, found: &Found<'_>) {
        match (found.field.mark, found.value) {
            (Mark::TopicName, value) => {
                // A request by id has null or empty names.
                if let Some(topic) = value.as_str().filter(|topic| !topic.is_empty()) {
                    self.add(candidates.service_of(topic));
                }
            }
            (Mark::TopicId, RawValue::Uuid(id)) if !id.is_nil() => self.ids.push(TopicId(id)),
            _ => {}
        }
    }

    fn see_session(&mut self, found: &Found<'_>) {
        let Some(value) = found.value.as_int() else { return };
        match found.field.name {
            "SessionId" => self.session_id = value,
            "SessionEpoch" => self.session_epoch = value,
            _ => {}
        }
    }

    fn see_resource(&mut self, candidates: &Candidates<'_>, found: &Found<'_>) {
        match found.field.name {
            "ResourceType" => self.resource_type = found.value.as_int().unwrap_or_default(),
            "ResourceName" if self.resource_type == TOPIC_RESOURCE => {
                if let Some(topic) = found.value.as_str() {
                    self.add(candidates.service_of(topic));
                }
            }
            _ => {}
        }
    }

    fn decide(&self, candidates: &Candidates<'_>) -> Option<usize> {
        // Epoch 0 requests a new session and -1 none; a session id given with them is only to be closed, in
        // whichever service.
        let is_incremental = self.session_epoch > 0;
        match (self.service, self.session_holder) {
            _ if self.spans_services => None,
            (Some(service), Some(holder)) if is_incremental && service != holder => None,
            (service, holder) => Some(service.or(holder).unwrap_or(candidates.otherwise)),
        }
    }
}
