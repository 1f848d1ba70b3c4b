//! Route: sends each call to the service that a rule names.
//!
//! **Where it stands.** At the bottom of a stack, above the services.
//!
//! **What it reads and sets.** Listener, API, and the topics in the request, which it reads only where a rule
//! with topics could apply. The rules are tried in order; the first whose lists all match applies (an empty
//! list matches everything), or else the default. In topics `*` matches any sequence of characters and `?`
//! one. A call that names no topic, such as one for all topics, is routed by the rules without topics. It
//! changes nothing in the call.
//!
//! - *Topic ids* (Produce 13, Fetch 13 and later): the names are looked up in the directories of all
//!   services, and the rules decide by them. An unknown id decides nothing: the call is routed by its other
//!   topics, or as if it named none. If a service that could have the id does not answer, the call is refused
//!   with LEADER_NOT_AVAILABLE, and the client retries.
//! - *Topic configs* (DescribeConfigs, AlterConfigs, IncrementalAlterConfigs): resources of the type topic count
//!   as topics; those of other types name none.
//! - *Groups and transactions*: rules with topics do not apply to their APIs, whatever topics they name,
//!   because one service coordinates a group. Rules with only listeners and APIs do.
//! - *Fetch sessions* (KIP-227): an incremental Fetch that names no topic goes to the service that made its
//!   session, which route learns from the replies and remembers for the connection.
//!
//! **How it refuses.** Calls are not split yet: one whose topics belong to different services is refused with
//! INVALID_REQUEST and a message that says so. So is an incremental Fetch with topics of another service than
//! the one that holds its session; the client then closes the session and opens a new one. A body that cannot
//! be read closes the connection, as Kafka does.
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

mod choose;
mod directory;
mod glob;
mod rules;
mod sessions;
mod settings;

use std::fmt;
use std::future::ready;
use std::mem;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use kernel::metrics::{Collect, Histogram, LATENCY_US_BOUNDS, MetricKind, Page};
use kernel::ports::TopicDirectory;
use kernel::session::Owner;
use kernel::{Api, Call, Door, ErrorCode, Hangup, Reply, Served, Session};
use tower::Service;

use crate::log_throttle::LogThrottle;
use crate::observed_call::{CallOutcome, Finish, ObservedCall};
use crate::per_api::PerApi;
use choose::{Choice, Named, choose};
use directory::RoutedDirectory;
use rules::Rules;
use sessions::SessionHolders;

pub use settings::{Rule, Settings};

/// The error message when topics belong to different services.
const SPLIT: &str = "the topics of this request belong to different services, and Yagura does not split \
                     requests yet: ask for the topics of each service apart";

/// The error message when topics cannot be looked up.
const NO_NAMES: &str = "the topics of this request could not be looked up by their ids: try again";

/// The router; cloning shares it.
#[derive(Clone)]
pub struct Route {
    table: Arc<Table>,
}

/// The rules and their services.
struct Table {
    rules: Arc<Rules>,
    services: Vec<Destination>,
    directory: Arc<RoutedDirectory>,
    /// Owns the fetch sessions in each connection's state.
    owner: Owner,
    failed_lookups: LogThrottle,
}

struct Destination {
    name: String,
    service: Arc<dyn kernel::Service>,
    door: Door,
    latency_us: PerApi<Histogram>,
}

/// Measures a call of a service, and learns from its reply which fetch session the service holds.
pub struct Timer {
    table: Arc<Table>,
    service: usize,
    api: Api,
    began: Instant,
    /// For a Fetch whose reply may name a session.
    fetching: Option<Arc<Session>>,
}

impl Route {
    /// A router over named services.
    ///
    /// # Errors
    /// What is wrong with the settings, in one sentence each.
    pub fn new(
        settings: &Settings,
        mut services: Vec<(String, Arc<dyn kernel::Service>)>,
    ) -> Result<Self, String> {
        services.sort_by(|(a, _), (b, _)| a.cmp(b));
        let names: Vec<&str> = services.iter().map(|(name, _)| name.as_str()).collect();
        let rules = Arc::new(Rules::new(settings, &names)?);
        let directory = Arc::new(RoutedDirectory::new(Arc::clone(&rules), &services));
        let destination = |(name, service): (String, Arc<dyn kernel::Service>)| Destination {
            name,
            door: service.door(),
            service,
            latency_us: PerApi::new(|| Histogram::new(LATENCY_US_BOUNDS)),
        };
        let services = services.into_iter().map(destination).collect();
        let (owner, failed_lookups) = (Owner::new(), LogThrottle::default());
        Ok(Self { table: Arc::new(Table { rules, services, directory, owner, failed_lookups }) })
    }

    /// What can be served now: the APIs of the default service, and those that rules send to the others. An
    /// API that may go to several services is served at the versions that all of them have.
    pub fn served(&self) -> Served {
        let Table { rules, services, .. } = &*self.table;
        let default = rules.default_service();
        let mut served = services[default].service.served();
        for (index, other) in services.iter().enumerate().filter(|(index, _)| *index != default) {
            served.merge(&other.service.served(), |api| rules.can_lead(api, index));
        }
        served
    }

    /// The topics of all services, each in the service that the rules give for its name.
    pub fn directory(&self) -> Arc<dyn TopicDirectory> {
        self.table.directory.clone()
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route").field("rules", &self.table.rules).finish_non_exhaustive()
    }
}

impl Table {
    fn enter(self: &Arc<Self>, service: usize, call: Call) -> ObservedCall<Option<Timer>> {
        let (api, version) = (call.header.api, call.header.version);
        let may_name_session =
            api == Api::FETCH && version >= sessions::SESSIONS_FROM && self.rules.have_topics();
        let fetching = may_name_session.then(|| Arc::clone(&call.session));
        let timer = Timer { table: Arc::clone(self), service, api, began: Instant::now(), fetching };
        ObservedCall::new(self.services[service].door.enter(call), Some(timer))
    }

    /// Looks up the names of the call's topic ids, and sends the call to their service.
    async fn enter_by_id(self: Arc<Self>, mut named: Named, call: Call) -> CallOutcome {
        let topics = match self.directory.find_ids(mem::take(&mut named.ids)).await {
            Ok(topics) => topics,
            Err(cause) => return self.refuse_without_names(&call, &cause),
        };
        match named.with_names(&self.rules, &call, &topics) {
            Some(service) => self.enter(service, call).await,
            None => call.refuse(ErrorCode::InvalidRequest, SPLIT),
        }
    }

    fn refuse_without_names(&self, call: &Call, cause: &str) -> CallOutcome {
        if let Some(held_back) = self.failed_lookups.allow() {
            let api = call.header.api;
            tracing::warn!(%api, held_back, "a call was refused because topic ids could not be looked up: {cause}");
        }
        call.refuse(ErrorCode::LeaderNotAvailable, NO_NAMES)
    }
}

impl Service<Call> for Route {
    type Response = Option<Reply>;
    type Error = Hangup;
    type Future = ObservedCall<Option<Timer>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Hangup>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let table = &self.table;
        match choose(&table.rules, &mut call, table.owner) {
            Ok(Choice::Service(service)) => table.enter(service, call),
            Ok(Choice::NeedsNames(named)) => {
                ObservedCall::new(Box::pin(Arc::clone(table).enter_by_id(named, call)), None)
            }
            Ok(Choice::SpansServices) => answered(call.refuse(ErrorCode::InvalidRequest, SPLIT)),
            Err(malformed) => answered(Err(Hangup::because(malformed.to_string()))),
        }
    }
}

/// A call without a service.
fn answered(outcome: CallOutcome) -> ObservedCall<Option<Timer>> {
    ObservedCall::new(Box::pin(ready(outcome)), None)
}

impl Finish for Timer {
    fn finish(self, outcome: &CallOutcome) {
        let micros = self.began.elapsed().as_micros() as u64;
        self.table.services[self.service].latency_us.of(self.api).record(micros);
        if let (Some(session), Ok(Some(reply))) = (&self.fetching, outcome)
            && let Some(id) = sessions::session_in(reply)
        {
            session.state::<SessionHolders>(self.table.owner).remember(id, self.service);
        }
    }
}

impl Collect for Route {
    fn collect(&self, page: &mut Page) {
        let help = "Time that calls took in a service; its count is that of the calls the service has ended.";
        page.family("yagura_service_seconds", MetricKind::Histogram, help);
        for service in &self.table.services {
            for (api, histogram) in service.latency_us.iter().filter(|(_, histogram)| histogram.count() > 0) {
                page.histogram(&[("service", service.name.as_str()), ("api", api)], histogram, 1e-6);
            }
        }
    }
}

#[cfg(test)]
mod tests;
