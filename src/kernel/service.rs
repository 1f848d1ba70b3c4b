//! The trait that every service implements, and how a kind of service registers itself.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde_json::Value;

use crate::budget::Budget;
use crate::clock::{SharedClock, SharedStoreClock};
use crate::door::Door;
use crate::ids::{IdSource, NodeId};
use crate::metrics::Collect;
use crate::ports::{BoxFuture, TopicDirectory};
use crate::served::Served;
use crate::session::HostPort;
use crate::settings::{NodeLimits, Setting, SettingFault, Settings, SettingsType};

/// A service: a broker's storage, or a proxy to a cluster.
///
/// It is built without touching disk or network, then opened after the listeners are bound, so that an early
/// client waits instead of being refused. Calls that need what is still opening wait in the service.
pub trait Service: Collect + Send + Sync {
    /// The door at the bottom of a stack.
    fn door(&self) -> Door;

    /// The APIs and versions that it can serve at this moment, without ApiVersions, which the stack answers.
    fn served(&self) -> Served;

    /// Whether it can serve calls now; if not, what it waits for, as text for the operator.
    fn readiness(&self) -> Result<(), String>;

    /// Tells what clients connect to, by the listener's name: of each listener whose clients see this service alone. None where
    /// that is not known without a client. Called before the service is opened, and again after a reload.
    fn set_addresses(&self, addresses: BTreeMap<Arc<str>, Option<HostPort>>) {
        drop(addresses);
    }

    /// Opens the service's resources. Called once.
    ///
    /// # Errors
    /// A sentence with the cause and the remedy.
    fn open(&self) -> BoxFuture<'_, Result<(), String>>;

    /// Background work. Runs until it is dropped, before the service is closed; what it returns is why the service
    /// cannot go on.
    fn run(self: Arc<Self>) -> BoxFuture<'static, String>;

    /// The process is about to stop: new clients are to go elsewhere, if there is another broker. Called while it still serves;
    /// takes a few seconds at most.
    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Returns each time that its clients are to go elsewhere: the connections that are there end then, once their calls are
    /// answered. It can be dropped at any time.
    fn drained(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::pending())
    }

    /// Finishes the work in flight, and closes what [`Service::open`] opened.
    ///
    /// # Errors
    /// A sentence saying what was not closed cleanly.
    fn close(&self) -> BoxFuture<'_, Result<(), String>>;

    /// The service's topics.
    fn topics(&self) -> Arc<dyn TopicDirectory>;

    /// Sets the directory for topics of other services: called once all are built, and again after a reload.
    fn set_directory(&self, directory: Arc<dyn TopicDirectory>);

    /// Its line on the start-up screen: a verb and its object, such as `stores in` and a URL.
    fn summary(&self) -> (&'static str, String);

    /// Reads from its store what its metrics show next. Called before metrics are collected, which must not wait.
    fn refresh_metrics(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// The pages that it adds to the admin server, such as `groups`.
    fn pages(&self) -> &'static [&'static str] {
        &[]
    }

    /// One of those pages, as JSON.
    ///
    /// # Errors
    /// Why it cannot be shown.
    fn page(&self, name: &str) -> BoxFuture<'_, Result<Value, String>> {
        let message = format!("there is no page {name:?}");
        Box::pin(std::future::ready(Err(message)))
    }
}

/// What the process supplies to each service.
#[derive(Clone)]
pub struct ServiceParts {
    /// The cluster's id.
    pub cluster_id: Arc<str>,
    /// This broker's id, if the config gives it one.
    pub node_id: Option<NodeId>,
    /// Its rack.
    pub rack: Option<Arc<str>>,
    /// The listeners as a Kafka broker's config shows them.
    pub listeners: String,
    /// Memory for the replies of all connections.
    pub replies: Budget,
    /// The wall clock, which dates what is stored.
    pub clock: SharedClock,
    /// Store time, by which everything waits.
    pub time: SharedStoreClock,
    /// The source of new ids.
    pub ids: Arc<dyn IdSource>,
}

/// The registration of a kind of service.
pub trait RegisterService: 'static {
    /// Its name in a config, as `kind`.
    const NAME: &'static str;
    /// What it is, in the reference.
    const ABOUT: &'static str;
    /// Its settings, a line each.
    const SETTINGS: &'static [Setting];
    /// Its minimal table, as JSON; the reference takes the defaults from it.
    const SAMPLE: &'static str;
    /// Its settings.
    type Settings: SettingsType;

    /// Problems in the combination of settings that are each valid.
    fn check(settings: &Self::Settings, node: &NodeLimits) -> Vec<SettingFault>;

    /// An exclusive resource, such as a file, and the setting that names it.
    fn holds(settings: &Self::Settings) -> Option<(&'static str, String)>;

    /// Builds it.
    ///
    /// # Errors
    /// A sentence for the operator.
    fn build(settings: &Self::Settings, parts: ServiceParts) -> BuiltService;
}

/// A service, or why it cannot be built.
pub type BuiltService = Result<Arc<dyn Service>, String>;

/// A registered kind of service, type-erased.
pub struct ServiceKind {
    /// Its name in a config.
    pub name: &'static str,
    /// What it is.
    pub about: &'static str,
    /// Its settings, a line each.
    pub settings: &'static [Setting],
    /// See [`RegisterService::SAMPLE`].
    pub sample: &'static str,
    /// Decodes its settings.
    pub decode: fn(Value) -> Result<Settings, String>,
    /// See [`RegisterService::check`].
    pub check: fn(&Settings, &NodeLimits) -> Vec<SettingFault>,
    /// See [`RegisterService::holds`].
    pub holds: fn(&Settings) -> Option<(&'static str, String)>,
    /// See [`RegisterService::build`].
    pub build: fn(&Settings, ServiceParts) -> BuiltService,
}

impl ServiceKind {
    /// Erases the type of a kind of service.
    pub const fn of<S: RegisterService>() -> Self {
        Self {
            name: S::NAME,
            about: S::ABOUT,
            settings: S::SETTINGS,
            sample: S::SAMPLE,
            decode: Settings::decode::<S::Settings>,
            check: check::<S>,
            holds: holds::<S>,
            build: build::<S>,
        }
    }
}

fn check<S: RegisterService>(settings: &Settings, node: &NodeLimits) -> Vec<SettingFault> {
    settings.get::<S::Settings>().map(|settings| S::check(settings, node)).unwrap_or_default()
}

fn holds<S: RegisterService>(settings: &Settings) -> Option<(&'static str, String)> {
    S::holds(settings.get::<S::Settings>()?)
}

fn build<S: RegisterService>(settings: &Settings, parts: ServiceParts) -> BuiltService {
    S::build(settings.expect::<S::Settings>()?, parts)
}

impl fmt::Debug for ServiceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for ServiceKind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
