//! How a layer registers itself: its name in a config, its settings, its plane, and how it is built.
//!
//! A layer implements [`RegisterLayer`] beside its code, and is listed once in its crate. Everything else
//! (the config, its errors, the reference, the assembly of towers) works on that list and refers to no layer
//! by name.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use crate::budget::Budget;
use crate::metrics::Collect;
use crate::settings::{NodeLimits, Setting, SettingFault, Settings, SettingsType};
use crate::stack::{Stack, Tier};
use crate::stream::{Connection, StreamLayer};

/// Which part of a connection a layer works on; a stack has them in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plane {
    /// The byte stream, above framing.
    Bytes,
    /// From bytes to calls; every stack has one.
    Framing,
    /// Calls, below framing.
    Calls,
}

/// A layer's registration.
pub trait RegisterLayer: 'static {
    /// Its name in a config.
    const NAME: &'static str;
    /// Its purpose, for the reference.
    const ABOUT: &'static str;
    /// Where it may stand.
    const PLANE: Plane;
    /// Descriptions of its settings.
    const SETTINGS: &'static [Setting] = &[];
    /// Facts about a call or its session that the layers below can rely on, such as `principal`.
    const PROVIDES: &'static [&'static str] = &[];
    /// Facts that a layer above must provide.
    const REQUIRES: &'static [&'static str] = &[];
    /// Its settings.
    type Settings: SettingsType;

    /// Problems in the combination of settings that are each valid.
    fn check(_: &Self::Settings, _: &NodeLimits) -> Vec<SettingFault> {
        Vec::new()
    }

    /// Builds the layer.
    ///
    /// # Errors
    /// A sentence for the operator: what failed, and what to do.
    fn build(settings: &Self::Settings, parts: &mut LayerParts<'_>) -> Result<Layer, String>;
}

/// A registered layer, type-erased.
pub struct LayerKind {
    /// Its name in a config.
    pub name: &'static str,
    /// Its purpose.
    pub about: &'static str,
    /// Where it may stand.
    pub plane: Plane,
    /// Descriptions of its settings.
    pub settings: &'static [Setting],
    /// Facts that it provides to the layers below.
    pub provides: &'static [&'static str],
    /// Facts that it requires from a layer above.
    pub requires: &'static [&'static str],
    /// Decodes its settings.
    pub decode: fn(Value) -> Result<Settings, String>,
    /// See [`RegisterLayer::check`].
    pub check: fn(&Settings, &NodeLimits) -> Vec<SettingFault>,
    /// See [`RegisterLayer::build`].
    pub build: fn(&Settings, &mut LayerParts<'_>) -> Result<Layer, String>,
}

impl LayerKind {
    /// Erases a layer's type.
    pub const fn of<L: RegisterLayer>() -> Self {
        Self {
            name: L::NAME,
            about: L::ABOUT,
            plane: L::PLANE,
            settings: L::SETTINGS,
            provides: L::PROVIDES,
            requires: L::REQUIRES,
            decode: Settings::decode::<L::Settings>,
            check: check::<L>,
            build: build::<L>,
        }
    }
}

impl fmt::Debug for LayerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for LayerKind {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

fn check<L: RegisterLayer>(settings: &Settings, node: &NodeLimits) -> Vec<SettingFault> {
    settings.get::<L::Settings>().map(|settings| L::check(settings, node)).unwrap_or_default()
}

fn build<L: RegisterLayer>(settings: &Settings, parts: &mut LayerParts<'_>) -> Result<Layer, String> {
    L::build(settings.expect::<L::Settings>()?, parts)
}

/// A built layer, shared by the stacks that name it.
#[derive(Clone)]
pub enum Layer {
    /// Above framing.
    Bytes(Arc<dyn StreamLayer>),
    /// Makes the framing of a stack.
    Framing(Arc<dyn Fn(Arc<Stack>) -> Arc<dyn Framer> + Send + Sync>),
    /// Below framing.
    Calls(Tier),
}

/// Serves connections: bytes to calls, replies to bytes.
pub trait Framer: Send + Sync {
    /// Serves a connection until it ends, and returns the reason.
    fn serve(&self, connection: Connection) -> Pin<Box<dyn Future<Output = String> + Send + '_>>;
}

/// What a layer is built from, besides its settings.
pub struct LayerParts<'a> {
    /// Its name in the config.
    pub name: &'a str,
    /// Memory for the requests of all connections.
    pub requests: &'a Budget,
    /// Memory for the replies of all connections.
    pub replies: &'a Budget,
    shared: &'a Shared,
    collectors: Vec<Arc<dyn Collect>>,
}

impl<'a> LayerParts<'a> {
    /// The parts of the layer of this name.
    pub fn new(name: &'a str, requests: &'a Budget, replies: &'a Budget, shared: &'a Shared) -> Self {
        Self { name, requests, replies, shared, collectors: Vec::new() }
    }

    /// Adds this layer's own metrics to the metrics page.
    pub fn collect(&mut self, numbers: Arc<dyn Collect>) {
        self.collectors.push(numbers);
    }

    /// Metrics shared by all layers of this type in the process, because a metrics page may name a family
    /// only once. They survive a reload.
    pub fn shared<T: Collect + Any>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        self.shared.get(make)
    }

    /// The collectors of this layer's own metrics.
    pub fn into_collectors(self) -> Vec<Arc<dyn Collect>> {
        self.collectors
    }
}

/// Metrics shared by layers of one type, keyed by type; one per process.
#[derive(Default)]
pub struct Shared(Mutex<Vec<SharedNumbers>>);

struct SharedNumbers {
    any: Arc<dyn Any + Send + Sync>,
    collect: Arc<dyn Collect>,
}

impl Shared {
    fn get<T: Collect + Any>(&self, make: impl FnOnce() -> T) -> Arc<T> {
        let mut all = self.0.lock();
        let found = all.iter().find_map(|numbers| Arc::clone(&numbers.any).downcast::<T>().ok());
        found.unwrap_or_else(|| {
            let fresh = Arc::new(make());
            all.push(SharedNumbers { any: fresh.clone(), collect: fresh.clone() });
            fresh
        })
    }

    /// All shared metrics, for the metrics page.
    pub fn collectors(&self) -> Vec<Arc<dyn Collect>> {
        self.0.lock().iter().map(|numbers| Arc::clone(&numbers.collect)).collect()
    }
}
