//! The resolved rules, and which of them can apply to a call or a topic.

use kernel::schema::{Direction, Field, Kind, Mark};
use kernel::{Api, split};

use super::glob;
use super::settings::{Rule, Settings};

/// APIs of groups and transactions. Rules with topics do not apply to them, whatever topics they name: one
/// service coordinates a group or a transaction, even if its members read topics of several services.
const COORDINATOR_APIS: &[Api] = &[
    Api::OFFSET_COMMIT,
    Api::OFFSET_FETCH,
    Api::FIND_COORDINATOR,
    Api::JOIN_GROUP,
    Api::HEARTBEAT,
    Api::LEAVE_GROUP,
    Api::SYNC_GROUP,
    Api::DESCRIBE_GROUPS,
    Api::LIST_GROUPS,
    Api::INIT_PRODUCER_ID,
    Api::ADD_PARTITIONS_TO_TXN,
    Api::ADD_OFFSETS_TO_TXN,
    Api::END_TXN,
    Api::TXN_OFFSET_COMMIT,
    Api::DELETE_GROUPS,
    Api::OFFSET_DELETE,
    Api::DESCRIBE_TRANSACTIONS,
    Api::LIST_TRANSACTIONS,
    Api::CONSUMER_GROUP_HEARTBEAT,
    Api::CONSUMER_GROUP_DESCRIBE,
    Api::SHARE_GROUP_HEARTBEAT,
    Api::SHARE_GROUP_DESCRIBE,
    Api(88), // StreamsGroupHeartbeat
    Api(89), // StreamsGroupDescribe
    Api::DESCRIBE_SHARE_GROUP_OFFSETS,
    Api::ALTER_SHARE_GROUP_OFFSETS,
    Api::DELETE_SHARE_GROUP_OFFSETS,
];

/// APIs that name topics, groups and what else has configs as resources, by type and name (`ResourceType`,
/// `ResourceName`), or list them by type (`ResourceTypes`).
pub(super) const CONFIG_APIS: &[Api] =
    &[Api::DESCRIBE_CONFIGS, Api::ALTER_CONFIGS, Api::INCREMENTAL_ALTER_CONFIGS, Api::LIST_CONFIG_RESOURCES];

/// The `ResourceType` of client metrics.
pub(super) const CLIENT_METRICS_RESOURCE: i64 = 16;

/// The types of resources that are where another API goes, whose calls their configs are for: a group's where its
/// members are, client metrics where clients ask what to send.
const RESOURCES_OF_APIS: [(i64, Api); 2] =
    [(32, Api::CONSUMER_GROUP_HEARTBEAT), (CLIENT_METRICS_RESOURCE, Api::GET_TELEMETRY_SUBSCRIPTIONS)];

/// All rules, with services by index.
#[derive(Debug)]
pub(super) struct Rules {
    rules: Vec<ResolvedRule>,
    default: usize,
}

/// A rule with resolved names.
#[derive(Debug)]
struct ResolvedRule {
    listeners: Vec<String>,
    apis: Vec<Api>,
    topics: Vec<String>,
    to: usize,
}

/// The rules that can apply to a call, by its listener and API.
#[derive(Debug)]
pub(super) struct Candidates<'a> {
    /// The rules with topics, in their order.
    with_topics: Vec<&'a ResolvedRule>,
    /// The service of a topic that none of them matches, and of a call that names no topic.
    pub(super) otherwise: usize,
    /// The services of the types in [`RESOURCES_OF_APIS`], in a call of [`CONFIG_APIS`].
    of_resources: [(i64, usize); RESOURCES_OF_APIS.len()],
}

impl ResolvedRule {
    fn new(rule: &Rule, services: &[&str]) -> Result<Self, String> {
        if rule.listeners.is_empty() && rule.apis.is_empty() && rule.topics.is_empty() {
            let remedy = "give it listeners, apis or topics, or make its service the default";
            return Err(format!("a rule to {:?} would match every call: {remedy}", rule.to));
        }
        let api = |name: &String| {
            Api::by_name(name).ok_or_else(|| {
                format!(
                    "a rule to {:?} names {name:?}, which is no API of Kafka 4.1 (such as Produce)",
                    rule.to
                )
            })
        };
        Ok(Self {
            listeners: rule.listeners.clone(),
            apis: rule.apis.iter().map(api).collect::<Result<_, _>>()?,
            topics: rule.topics.clone(),
            to: find(services, &rule.to)?,
        })
    }

    fn has_topics(&self) -> bool {
        !self.topics.is_empty()
    }

    fn matches_listener(&self, listener: &str) -> bool {
        self.listeners.is_empty() || self.listeners.iter().any(|name| name == listener)
    }

    /// Whether the rule can apply to calls of this API.
    fn matches_api(&self, api: Api) -> bool {
        let is_named = self.apis.is_empty() || self.apis.contains(&api);
        is_named && (!self.has_topics() || !COORDINATOR_APIS.contains(&api))
    }

    /// Whether the rule can apply to calls of this API on this listener.
    fn matches(&self, listener: &str, api: Api) -> bool {
        self.matches_listener(listener) && self.matches_api(api)
    }

    fn matches_topic(&self, topic: &str) -> bool {
        self.topics.iter().any(|pattern| glob::matches(pattern, topic))
    }
}

impl Rules {
    /// The rules of these settings, over named services. The error has one sentence for each fault in the
    /// settings.
    pub(super) fn new(settings: &Settings, services: &[&str]) -> Result<Self, String> {
        let mut faults = Vec::new();
        let default = find(services, &settings.default).unwrap_or_else(|fault| {
            faults.push(fault);
            0
        });
        let mut rules = Vec::new();
        for rule in &settings.rules {
            match ResolvedRule::new(rule, services) {
                Ok(rule) => rules.push(rule),
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() { Ok(Self { rules, default }) } else { Err(faults.join("\n")) }
    }

    /// The service of calls and topics that no rule matches.
    pub(super) fn default_service(&self) -> usize {
        self.default
    }

    /// The rules that can apply to calls of an API on a listener.
    pub(super) fn candidates(&self, listener: &str, api: Api) -> Candidates<'_> {
        let mut with_topics = Vec::new();
        let mut otherwise = self.default;
        for rule in self.rules.iter().filter(|rule| rule.matches(listener, api)) {
            if !rule.has_topics() {
                // It matches all that is left, so later rules are unreachable.
                otherwise = rule.to;
                break;
            }
            with_topics.push(rule);
        }
        let has_configs = CONFIG_APIS.contains(&api);
        let of_resources = RESOURCES_OF_APIS.map(|(kind, owner)| {
            (kind, if has_configs { self.without_topics(listener, owner) } else { otherwise })
        });
        Candidates { with_topics, otherwise, of_resources }
    }

    /// The service of calls of an API on a listener that name no topic.
    fn without_topics(&self, listener: &str, api: Api) -> usize {
        let rule = self.rules.iter().find(|rule| !rule.has_topics() && rule.matches(listener, api));
        rule.map_or(self.default, |rule| rule.to)
    }

    /// The services that a topic of this name can be in: where the rules lead for some listener and API, the first
    /// match first.
    pub(super) fn services_of_topic(&self, topic: &str) -> Vec<usize> {
        let mut services = Vec::new();
        let mut add = |service| {
            if !services.contains(&service) {
                services.push(service);
            }
        };
        for rule in self.rules.iter().filter(|rule| !rule.has_topics() || rule.matches_topic(topic)) {
            add(rule.to);
            if rule.listeners.is_empty() && rule.apis.is_empty() {
                // It takes all calls, so later rules and the default are unreachable.
                return services;
            }
        }
        add(self.default);
        services
    }

    /// Whether a rule can send a call of this API to this service.
    pub(super) fn can_lead(&self, api: Api, service: usize) -> bool {
        let leads = |rule: &ResolvedRule| {
            let leads_calls = rule.matches_api(api) && (!rule.has_topics() || names_topics(api));
            let has_resources = |(_, owner): &(i64, Api)| !rule.has_topics() && rule.matches_api(*owner);
            let leads_resources = CONFIG_APIS.contains(&api) && RESOURCES_OF_APIS.iter().any(has_resources);
            rule.to == service && (leads_calls || leads_resources)
        };
        self.rules.iter().any(leads)
    }
}

impl Candidates<'_> {
    /// The services that the call can come to, by its topics and resources.
    pub(super) fn services(&self) -> Vec<usize> {
        let mut services = vec![self.otherwise];
        let of_topics = self.with_topics.iter().map(|rule| rule.to);
        for service in of_topics.chain(self.of_resources.iter().map(|(_, service)| *service)) {
            if !services.contains(&service) {
                services.push(service);
            }
        }
        services
    }

    /// Whether it matters what the call names.
    pub(super) fn have_names(&self) -> bool {
        !self.with_topics.is_empty()
            || self.of_resources.iter().any(|(_, service)| *service != self.otherwise)
    }

    /// The service of a resource of this type that is not a topic.
    pub(super) fn service_of_resource(&self, resource_type: i64) -> usize {
        let found = self.of_resources.iter().find(|(kind, _)| *kind == resource_type);
        found.map_or(self.otherwise, |(_, service)| *service)
    }

    /// The service of a topic in this call.
    pub(super) fn service_of(&self, topic: &str) -> usize {
        let rule = self.with_topics.iter().find(|rule| rule.matches_topic(topic));
        rule.map_or(self.otherwise, |rule| rule.to)
    }
}

fn find(services: &[&str], name: &str) -> Result<usize, String> {
    let known = || format!("there is no service {name:?}; there are: {}", services.join(", "));
    services.iter().position(|service| *service == name).ok_or_else(known)
}

/// Whether requests of this API are for topics.
fn names_topics(api: Api) -> bool {
    fn any(fields: &[Field]) -> bool {
        let is_topic = |field: &Field| matches!(field.mark, Mark::TopicName | Mark::TopicId);
        fields.iter().any(|field| is_topic(field) || any(fields_within(field.kind)))
    }
    // ListConfigResources names no topics, but lists those of all services.
    CONFIG_APIS.contains(&api)
        || split::find(api).is_some()
        || api.message(Direction::Request).is_some_and(|message| any(message.fields))
}

fn fields_within(kind: Kind) -> &'static [Field] {
    match kind {
        Kind::Struct(fields) => fields,
        Kind::Array(element) => fields_within(*element),
        _ => &[],
    }
}
