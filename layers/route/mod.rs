//! Route: gives each call to the service that a rule names.
//!
//! **Where it stands.** At the bottom of a stack; the services are behind it.
//!
//! **What it reads and sets.** Listener, API, and the topic names in the request, which it looks for only
//! where a rule with topics could apply. The rules are tried in order; the first whose lists all match wins
//! (an empty list matches everything), and else the default. In topics `*` stands for any run of characters
//! and `?` for one. It changes nothing. A call that names no topic, such as one for all topics, goes by the
//! rules without topics. So does one that names its topics by id only (Produce 13, Fetch 13 and later): a
//! rule with topics does not see those yet.
//!
//! **How it refuses.** Calls are not split yet: one whose topics belong to different services is refused with
//! INVALID_REQUEST and a message that says so. A body that cannot be read closes the connection, as Kafka
//! does.
//!
//! ```toml
//! [route]
//! default = "local"
//!
//! [[route.rules]]
//! topics = ["legacy.*"]
//! to = "legacy"
//!
//! [[route.rules]]
//! listeners = ["ops"]
//! apis = ["CreateTopics", "DeleteTopics"]
//! to = "local"
//! ```

mod glob;

use std::collections::HashMap;
use std::future::ready;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use kernel::metrics::{Collect, Histogram, Kind, LATENCY_US_BOUNDS, Page};
use kernel::schema::Mark;
use kernel::{Api, Call, Door, ErrorCode, Hangup, Malformed, Reply};
use serde::{Deserialize, Serialize};
use tower::Service;

use crate::per_api::PerApi;
use crate::watched::{Finish, Outcome, Watched};

/// What a client is told whose topics belong to different services.
const SPLIT: &str = "the topics of this request belong to different services, and Yagura does not split \
                     requests yet: ask for the topics of each service apart";

/// The settings of route.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The service of calls that no rule matches.
    pub default: String,
    /// Tried in order.
    #[serde(default)]
    pub rules: Vec<Rule>,
}

/// A rule; an empty list matches everything, but one at least must say something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Names of listeners.
    #[serde(default)]
    pub listeners: Vec<String>,
    /// Names of APIs, as Kafka spells them, in any case.
    #[serde(default)]
    pub apis: Vec<String>,
    /// Names of topics, with `*` and `?`.
    #[serde(default)]
    pub topics: Vec<String>,
    /// The service.
    pub to: String,
}

/// The router; cloning shares it.
#[derive(Debug, Clone)]
pub struct Route {
    table: Arc<Table>,
}

#[derive(Debug)]
struct Table {
    rules: Vec<Sorted>,
    default: usize,
    services: Vec<Destination>,
}

/// A rule whose names have been looked up.
#[derive(Debug)]
struct Sorted {
    listeners: Vec<String>,
    apis: Vec<Api>,
    topics: Vec<String>,
    to: usize,
}

#[derive(Debug)]
struct Destination {
    name: String,
    door: Door,
    latency_us: PerApi<Histogram>,
}

/// Why no service can be chosen.
enum Stuck {
    Split,
    Malformed(Malformed),
}

/// Times a call of a service.
#[derive(Debug)]
pub struct Timer {
    table: Arc<Table>,
    service: usize,
    api: Api,
    began: Instant,
}

impl Sorted {
    fn new(rule: &Rule, find: impl Fn(&str) -> Result<usize, String>) -> Result<Self, String> {
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
            to: find(&rule.to)?,
        })
    }

    /// Whether it applies, as far as listener and API tell.
    fn fits(&self, call: &Call) -> bool {
        let listener = &*call.session.listener;
        (self.listeners.is_empty() || self.listeners.iter().any(|name| name == listener))
            && (self.apis.is_empty() || self.apis.contains(&call.header.api))
    }

    fn takes(&self, topic: &str) -> bool {
        self.topics.is_empty() || self.topics.iter().any(|pattern| glob::matches(pattern, topic))
    }
}

impl Table {
    fn choose(&self, call: &mut Call) -> Result<usize, Stuck> {
        let fitting = self.rules.iter().filter(|rule| rule.fits(call));
        let mut without_topics = self.default;
        let mut candidates = Vec::new();
        for rule in fitting {
            candidates.push(rule);
            // All that follows is out of reach.
            if rule.topics.is_empty() {
                without_topics = rule.to;
                break;
            }
        }
        if candidates.iter().all(|rule| rule.topics.is_empty()) {
            return Ok(without_topics);
        }
        let mut chosen = None;
        let mut is_split = false;
        let walked = call.walk(|found| {
            if found.field.mark == Mark::TopicName
                && let Some(topic) = found.value.as_str().filter(|topic| !topic.is_empty())
            {
                let rule = candidates.iter().find(|rule| rule.takes(topic));
                let to = rule.map_or(self.default, |rule| rule.to);
                is_split |= *chosen.get_or_insert(to) != to;
            }
        });
        walked.map_err(Stuck::Malformed)?;
        if is_split { Err(Stuck::Split) } else { Ok(chosen.unwrap_or(without_topics)) }
    }
}

impl Route {
    /// A router over services by their names. The error says in one sentence each what is wrong with the
    /// settings.
    pub fn new(settings: &Settings, services: HashMap<String, Door>) -> Result<Self, String> {
        let mut services: Vec<(String, Door)> = services.into_iter().collect();
        services.sort_by(|(a, _), (b, _)| a.cmp(b));
        let find = |name: &str| {
            services.iter().position(|(known, _)| known == name).ok_or_else(|| {
                let known: Vec<&str> = services.iter().map(|(name, _)| name.as_str()).collect();
                format!("there is no service {name:?}; there are: {}", known.join(", "))
            })
        };
        let mut faults = Vec::new();
        let default = find(&settings.default).unwrap_or_else(|fault| {
            faults.push(fault);
            0
        });
        let mut rules = Vec::new();
        for rule in &settings.rules {
            match Sorted::new(rule, find) {
                Ok(rule) => rules.push(rule),
                Err(fault) => faults.push(fault),
            }
        }
        if !faults.is_empty() {
            return Err(faults.join("\n"));
        }
        let histogram = || Histogram::new(LATENCY_US_BOUNDS);
        let destination =
            |(name, door): (String, Door)| Destination { name, door, latency_us: PerApi::new(histogram) };
        let services = services.into_iter().map(destination).collect();
        Ok(Self { table: Arc::new(Table { rules, default, services }) })
    }
}

impl Service<Call> for Route {
    type Response = Option<Reply>;
    type Error = Hangup;
    type Future = Watched<Option<Timer>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Hangup>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        match self.table.choose(&mut call) {
            Ok(service) => {
                let table = Arc::clone(&self.table);
                let timer = Timer { table, service, api: call.header.api, began: Instant::now() };
                Watched::new(self.table.services[service].door.enter(call), Some(timer))
            }
            Err(Stuck::Split) => {
                let refusal: Outcome = call.refuse(ErrorCode::InvalidRequest, SPLIT);
                Watched::new(Box::pin(ready(refusal)), None)
            }
            Err(Stuck::Malformed(malformed)) => {
                let hangup: Outcome = Err(Hangup::because(malformed.to_string()));
                Watched::new(Box::pin(ready(hangup)), None)
            }
        }
    }
}

impl Finish for Timer {
    fn finish(self, _: &Outcome) {
        let micros = self.began.elapsed().as_micros() as u64;
        self.table.services[self.service].latency_us.of(self.api).record(micros);
    }
}

impl Collect for Route {
    fn collect(&self, page: &mut Page) {
        let help = "Time that calls took in a service; its count is that of the calls the service has ended.";
        page.family("yagura_service_seconds", Kind::Histogram, help);
        for service in &self.table.services {
            for (api, histogram) in service.latency_us.iter().filter(|(_, histogram)| histogram.count() > 0) {
                page.histogram(&[("service", service.name.as_str()), ("api", api)], histogram, 1e-6);
            }
        }
    }
}

#[cfg(test)]
mod tests;
