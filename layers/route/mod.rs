//! Route: sends each call to the services that rules name for its topics.
//!
//! **Where it stands.** At the bottom of a stack, above the services. Clients see one cluster with the topics of all of
//! them.
//!
//! **What it reads and sets.** Listener, API, and the topics and config resources in the request, which it reads only where they could
//! lead to different services. The rules are tried in order; the first whose lists all match applies (an empty list matches
//! everything), or else the default. In topics `*` matches any sequence of characters and `?` one. What names no topic is
//! routed by the rules without topics. A call of one service goes there as it is.
//!
//! - *Several services.* A call with topics of several services is split (see `kernel::split`), and the replies are merged:
//!   Produce, Fetch, ListOffsets, OffsetForLeaderEpoch, Metadata, CreateTopics, DeleteTopics, CreatePartitions,
//!   DeleteRecords, DescribeConfigs, AlterConfigs, IncrementalAlterConfigs, DescribeTopicPartitions, DescribeProducers,
//!   DescribeLogDirs, ListPartitionReassignments. Each part takes effect, or not, by itself: a CreateTopics may create the topics of one service and
//!   not those of another, as on brokers of a Kafka cluster. If a service closes the connection over its part, route does.
//! - *All topics.* Metadata, DescribeTopicPartitions, DescribeLogDirs and ListConfigResources for all topics go to all
//!   services. A topic whose name is routed to another service than the one that has it is left out.
//! - *Topic ids* (Produce 13, Fetch 13 and later): the names are looked up in the directories of all
//!   services, and the rules decide by them. An unknown id decides nothing: it goes with the call's other
//!   topics, or as if the call named none. If a service that could have the id does not answer, the call is refused
//!   with LEADER_NOT_AVAILABLE, and the client retries.
//! - *Configs*: resources of the type topic count as topics. Those of a group are of the service of its members (where
//!   ConsumerGroupHeartbeat goes on the listener), client metrics of that of GetTelemetrySubscriptions; all others are of
//!   the service of what names no topic.
//! - *Groups and transactions*: rules with topics do not apply to their APIs, whatever topics they name,
//!   because one service coordinates a group. Rules with only listeners and APIs do. A transaction has topics of the service
//!   of its transactional id only: that service refuses to add others, and the others refuse to append for it, both with
//!   INVALID_TXN_STATE. Offsets that it commits may be of any topics.
//! - *Producer ids* are of the service that answers InitProducerId on the listener. A Produce to another service says
//!   which that is (`Call::origin`), so that it does not take them for its own.
//! - *Fetch* waits for its parts together, and route has the sessions: see `fetch/mod.rs`.
//!
//! **How it refuses.** What cannot be split is every other API that names topics: ElectLeaders,
//! AlterPartitionReassignments and WriteTxnMarkers. With topics of several services they are refused with INVALID_REQUEST and a message
//! that says so. A body that cannot be read closes the connection, as Kafka does.
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
mod fetch;
mod glob;
mod owners;
mod parts;
mod rules;
mod settings;
mod table;

use std::fmt;
use std::future::ready;
use std::sync::Arc;
use std::task::{Context, Poll};

use kernel::metrics::{Collect, Histogram, LATENCY_US_BOUNDS, MetricKind, Page};
use kernel::ports::TopicDirectory;
use kernel::session::Owner;
use kernel::{Call, Hangup, Reply, Served};
use tower::Service;

use crate::log_throttle::LogThrottle;
use crate::observed_call::{CallOutcome, ObservedCall};
use crate::per_api::PerApi;
use choose::{Choice, choose};
use directory::RoutedDirectory;
use rules::Rules;
use table::{Destination, Table};

pub use settings::{Rule, Settings};
pub use table::Timer;

/// The router; cloning shares it.
#[derive(Clone)]
pub struct Route {
    table: Arc<Table>,
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
            name: Arc::from(name),
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

impl Service<Call> for Route {
    type Response = Option<Reply>;
    type Error = Hangup;
    type Future = ObservedCall<Option<Timer>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Hangup>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let table = &self.table;
        match choose(&table.rules, &mut call) {
            Ok(Choice::Service(service)) => table.enter(service, call),
            Ok(Choice::Several(named)) => unmeasured(parts::enter(Arc::clone(table), named, call)),
            Ok(Choice::Fetch) => unmeasured(fetch::fetch(Arc::clone(table), call)),
            Err(malformed) => unmeasured(ready(Err(Hangup::because(malformed.to_string())))),
        }
    }
}

/// A call that is measured in the services of its parts, if at all.
fn unmeasured(outcome: impl Future<Output = CallOutcome> + Send + 'static) -> ObservedCall<Option<Timer>> {
    ObservedCall::new(Box::pin(outcome), None)
}

impl Collect for Route {
    fn collect(&self, page: &mut Page) {
        let help = "Time that calls took in a service; its count is that of the calls the service has ended.";
        page.family("yagura_service_seconds", MetricKind::Histogram, help);
        for service in &self.table.services {
            for (api, histogram) in service.latency_us.iter().filter(|(_, histogram)| histogram.count() > 0) {
                page.histogram(&[("service", &*service.name), ("api", api)], histogram, 1_000_000);
            }
        }
    }
}

#[cfg(test)]
mod tests;
