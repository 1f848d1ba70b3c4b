//! The storage service as the server sees it: how it is registered, opened, run and closed.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernel::metrics::{Collect, Page};
use kernel::ports::{BoxFuture, TopicDirectory};
use kernel::service::{RegisterService, Service, ServiceParts};
use kernel::session::HostPort;
use kernel::settings::{NodeLimits, Setting, SettingFault};
use kernel::{Door, Served};
use parking_lot::Mutex;
use serde_json::Value;
use tracing::warn;

use crate::broker::{Broker, BrokerParts, NodeFacts};
use crate::engines::Gauges;
use crate::settings::{REFERENCE, Settings};
use crate::store::StoreOpener;
use crate::{background, dispatch, engines, group_page, nodes};

/// The storage service: Yagura as a broker.
pub struct Storage {
    broker: Arc<Broker>,
    opener: Arc<Mutex<StoreOpener>>,
    /// What the next page of metrics shows of the store.
    gauges: Mutex<Option<Gauges>>,
}

impl RegisterService for Storage {
    const NAME: &'static str = "storage";
    const ABOUT: &'static str = "With `kind = \"storage\"`: the broker.";
    const SETTINGS: &'static [Setting] = REFERENCE;
    const SAMPLE: &'static str = "{\"url\":\"memory://\"}";
    type Settings = Settings;

    fn check(settings: &Settings, _: &NodeLimits) -> Vec<SettingFault> {
        settings.faults()
    }

    fn holds(settings: &Settings) -> Option<(&'static str, String)> {
        let (kind, place) = engines::find(&settings.url).ok()?;
        (kind.holds)(place).map(|held| ("url", held))
    }

    fn build(settings: &Settings, parts: ServiceParts) -> Result<Arc<dyn Service>, String> {
        let node = NodeFacts {
            cluster_id: parts.cluster_id,
            node_id: parts.node_id,
            rack: parts.rack,
            listeners: parts.listeners,
        };
        let settings = settings.clone();
        let (clock, time, ids, replies) = (parts.clock, parts.time, parts.ids, parts.replies);
        let (opener, broker) = Broker::new(BrokerParts { settings, node, clock, time, ids, replies });
        let (broker, opener) = (Arc::new(broker), Arc::new(Mutex::new(opener)));
        Ok(Arc::new(Storage { broker, opener, gauges: Mutex::default() }))
    }
}

impl Service for Storage {
    fn door(&self) -> Door {
        dispatch::door(&self.broker)
    }

    fn served(&self) -> Served {
        let mut served = dispatch::served();
        self.broker.telemetry.restrict(&mut served);
        served
    }

    fn readiness(&self) -> Result<(), String> {
        let engine = self.broker.store.engine_if_open().ok_or("the store is being opened")?;
        let full = engine.full();
        let why = full.borrow().clone();
        why.map_or(Ok(()), |why| Err(why.to_string()))?;
        self.broker.nodes.readiness()
    }

    fn open(&self) -> BoxFuture<'_, Result<(), String>> {
        let settings = self.broker.settings.clone();
        Box::pin(async move {
            let opened = engines::open(&settings).await.map_err(|error| error.0)?;
            if let Some(sharing) = opened.sharing() {
                self.broker.follow_clock(&sharing.clock);
                nodes::join(&self.broker, &*opened).await.map_err(|error| error.0)?;
            }
            self.opener.lock().opened(opened);
            if let Err(error) = self.broker.telemetry.look(&self.broker.store).await {
                warn!(%error, "clients are not offered to push their metrics: no subscription could be read");
            }
            Ok(())
        })
    }

    fn run(self: Arc<Self>) -> BoxFuture<'static, String> {
        Box::pin(background::run(Arc::clone(&self.broker)))
    }

    fn drained(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.broker.nodes.drained())
    }

    fn leave(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Some(engine) = self.broker.store.engine_if_open() {
                nodes::leave(&self.broker, &*engine).await;
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, Result<(), String>> {
        let engine = self.opener.lock().close();
        Box::pin(async move {
            match engine {
                Some(engine) => {
                    // One that a reload replaces has not left yet.
                    nodes::leave(&self.broker, &*engine).await;
                    engine.close().await.map_err(|error| error.0)
                }
                None => Ok(()),
            }
        })
    }

    fn set_addresses(&self, addresses: BTreeMap<Arc<str>, Option<HostPort>>) {
        self.broker.nodes.set_addresses(addresses);
    }

    fn topics(&self) -> Arc<dyn TopicDirectory> {
        Arc::new(self.broker.store.clone())
    }

    fn set_directory(&self, directory: Arc<dyn TopicDirectory>) {
        self.broker.set_directory(directory);
    }

    fn summary(&self) -> (&'static str, String) {
        ("stores in", self.broker.settings.url_masked())
    }

    fn refresh_metrics(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Some(engine) = self.broker.store.engine_if_open() else { return };
            let gauges = engine.gauges().await;
            if let Err(error) = &gauges {
                warn!(%error, "the metrics lack what the store holds");
            }
            *self.gauges.lock() = gauges.ok();
            self.broker.transaction_metrics.refresh(&self.broker).await;
        })
    }

    fn pages(&self) -> &'static [&'static str] {
        &[group_page::NAME]
    }

    fn page(&self, name: &str) -> BoxFuture<'_, Result<Value, String>> {
        if name != group_page::NAME {
            let message = format!("there is no page {name:?}");
            return Box::pin(std::future::ready(Err(message)));
        }
        Box::pin(async move { group_page::groups(&self.broker).await.map_err(|error| error.0) })
    }
}

impl Collect for Storage {
    fn collect(&self, page: &mut Page) {
        if let Some(engine) = self.broker.store.engine_if_open() {
            engine.collect(page);
        }
        if let Some(gauges) = &*self.gauges.lock() {
            gauges.write(page);
        }
        self.broker.transaction_metrics.collect(page);
        self.broker.cleaner.collect(page);
        self.broker.nodes.collect(page);
        self.broker.telemetry.collect(page, self.broker.time.now_ms());
    }
}
