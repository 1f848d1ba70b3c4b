//! Which services a call belongs to, by the topics and resources that it names.

use kernel::schema::Mark;
use kernel::schema::walk::{Found, RawValue};
use kernel::split::{self, Splitter};
use kernel::{Api, Call, Malformed, TopicId};

use super::rules::{CLIENT_METRICS_RESOURCE, CONFIG_APIS, Candidates, Rules};

/// Where a call goes.
#[derive(Debug)]
pub(super) enum Choice {
    /// To this service, as it is.
    Service(usize),
    /// To several services, or to those of topics that it names by id.
    Several(Named),
    /// A Fetch of several services, in a session, or by topic id.
    Fetch,
}

/// What a request names.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// The services of what it names, but for the ids.
    pub(super) services: Vec<usize>,
    /// Topics without a name.
    pub(super) ids: Vec<TopicId>,
    /// Whether it is for all topics.
    pub(super) is_for_all: bool,
    /// Whether a Fetch has a session or asks for one.
    has_session: bool,
    /// The type of the resource whose name comes next.
    resource_type: i64,
}

/// The `ResourceType` of topics.
const TOPIC_RESOURCE: i64 = 2;

/// The session epoch of a Fetch without a session.
const NO_SESSION_EPOCH: i64 = -1;

/// Finds the service of a call; reads its body only if what it names could lead to more than one.
///
/// # Errors
/// The body cannot be read.
pub(super) fn choose(rules: &Rules, call: &mut Call) -> Result<Choice, Malformed> {
    let (api, version) = (call.header.api, call.header.version);
    let candidates = rules.candidates(&call.session.listener, api);
    if !candidates.have_names() {
        return Ok(Choice::Service(candidates.otherwise));
    }
    let mut named = Named::default();
    let splitter = split::find(api);
    let has_resources = CONFIG_APIS.contains(&api);
    call.walk(|found| {
        named.see_topic(&candidates, &found);
        if api == Api::FETCH {
            named.see_session(&found);
        }
        if has_resources {
            named.see_resource(&candidates, &found);
        }
        named.is_for_all |= is_for_all(splitter, version, &found);
    })?;
    if api == Api::LIST_CONFIG_RESOURCES && version == 0 {
        // It names no types, because it is for this one.
        named.add(candidates.service_of_resource(CLIENT_METRICS_RESOURCE));
    }
    let spans = named.services.len() > 1 || named.is_for_all || !named.ids.is_empty();
    Ok(match candidates.services().as_slice() {
        [only] => Choice::Service(*only),
        _ if api == Api::FETCH && (spans || named.has_session) => Choice::Fetch,
        _ if spans => Choice::Several(named),
        _ => Choice::Service(named.services.first().copied().unwrap_or(candidates.otherwise)),
    })
}

fn is_for_all(splitter: Option<&Splitter>, version: i16, found: &Found<'_>) -> bool {
    splitter.is_some_and(|splitter| (splitter.is_for_all)(version, found))
}

impl Named {
    /// Adds a service of something that the call names.
    pub(super) fn add(&mut self, service: usize) {
        if !self.services.contains(&service) {
            self.services.push(service);
        }
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
            "SessionId" => self.has_session |= value != 0,
            "SessionEpoch" => self.has_session |= value != NO_SESSION_EPOCH,
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
            "ResourceName" => self.add(candidates.service_of_resource(self.resource_type)),
            "ResourceTypes" => {
                if let Some(resource_type) = found.value.as_int() {
                    self.add(candidates.service_of_resource(resource_type));
                }
            }
            _ => {}
        }
    }
}
