//! Client metrics (KIP-714): subscriptions, and pushed values for `/metrics`.
//!
//! Subscriptions are in the store. Clients are offered the APIs only while there is one: many say so on standard
//! error when they are asked for nothing, and go on asking. Pushed values are only in the memory of this broker: the last value of
//! each metric, while the client keeps pushing. All of it is bounded: clients are removed, the one longest
//! silent first, and values past a bound are dropped and counted.

mod otlp;
mod subscription;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use kernel::metrics::{MetricKind, Page};
use kernel::{Api, ErrorCode, Served};
use parking_lot::{Mutex, MutexGuard};
use prost::Message;
use uuid::Uuid;

use otlp::{Attribute, MetricsData, Point};
pub(crate) use subscription::asked_of;

use crate::engines::StoreError;
use crate::store::Store;

/// The APIs of clients that push.
const APIS: [Api; 2] = [Api::GET_TELEMETRY_SUBSCRIPTIONS, Api::PUSH_TELEMETRY];

/// Clients whose values are kept.
const CLIENTS_MAX: usize = 1_000;
/// Values that are kept, per client and in total.
const SAMPLES_OF_CLIENT_MAX: usize = 500;
const SAMPLES_MAX: usize = 20_000;
/// Labels of a value; bytes of a metric name; bytes of a label name, a label value or a text from the client.
const LABELS_MAX: usize = 8;
const NAME_BYTES_MAX: usize = 200;
const LABEL_BYTES_MAX: usize = 100;
/// Intervals without a push after which a client is no longer shown.
const SILENT_INTERVALS_MAX: i64 = 3;
/// How early a push may arrive, as a share of the interval: clients add jitter.
const EARLY_SHARE: (i64, i64) = (1, 2);

/// Labels that the broker adds.
const OWN_LABELS: [&str; 3] = ["client_id", "client_instance_id", "client_software_name"];

/// A client, as it is matched and labelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Client {
    /// Client instance id: assigned by a broker, and kept across connections.
    pub(crate) instance: Uuid,
    /// Client id.
    pub(crate) id: Arc<str>,
    /// Client software name and version, if sent.
    pub(crate) software: (String, String),
    /// Its address and port.
    pub(crate) source: (String, u16),
}

impl Client {
    /// Shortens the texts from the client, which are repeated in every line.
    fn shortened(mut self) -> Self {
        let cut = |text: &str| text.chars().take(LABEL_BYTES_MAX).collect::<String>();
        self.id = Arc::from(cut(&self.id));
        self.software = (cut(&self.software.0), cut(&self.software.1));
        self
    }
}

/// What clients have pushed to this broker.
#[derive(Default)]
pub(crate) struct Telemetry {
    /// Whether there is a subscription.
    is_wanted: AtomicBool,
    /// Whoever looks for subscriptions notes what it found before the next one looks.
    looking: tokio::sync::Mutex<()>,
    clients: Mutex<HashMap<Uuid, Pushed>>,
    dropped: AtomicU64,
}

struct Pushed {
    client: Client,
    pushed_ms: i64,
    interval_ms: i64,
    is_over: bool,
    samples: Vec<Sample>,
}

struct Sample {
    /// As Prometheus writes it.
    name: Arc<str>,
    labels: Vec<(String, String)>,
    value: f64,
}

/// Removes the clients that have been silent longest, until there is room for another and its values.
fn make_room(clients: &mut HashMap<Uuid, Pushed>, samples: usize) {
    let mut kept: usize = clients.values().map(|pushed| pushed.samples.len()).sum();
    while clients.len() >= CLIENTS_MAX || kept + samples > SAMPLES_MAX {
        let silent = clients.iter().min_by_key(|(_, pushed)| pushed.pushed_ms).map(|(id, _)| *id);
        let Some(pushed) = silent.and_then(|id| clients.remove(&id)) else { return };
        kept -= pushed.samples.len();
    }
}

impl Telemetry {
    /// Looks whether there is a subscription: when the store is open, and after each change.
    pub(crate) async fn look(&self, store: &Store) -> Result<(), StoreError> {
        let _turn = self.looking.lock().await;
        let subscriptions = store.client_metrics().await?;
        let is_wanted = subscriptions.iter().any(|(_, subscription)| subscription.asks());
        self.is_wanted.store(is_wanted, Ordering::Relaxed);
        Ok(())
    }

    /// Hides the APIs from clients while there is no subscription.
    pub(crate) fn restrict(&self, served: &mut Served) {
        if !self.is_wanted.load(Ordering::Relaxed) {
            APIS.into_iter().for_each(|api| served.hide(api));
        }
    }

    /// Stores the metrics that a client has pushed.
    ///
    /// # Errors
    /// THROTTLING_QUOTA_EXCEEDED if it pushes far too often, INVALID_REQUEST after its terminating push,
    /// INVALID_RECORD if the metrics cannot be read.
    pub(crate) fn push(
        &self,
        client: Client,
        metrics: Bytes,
        is_last: bool,
        interval_ms: i64,
        now_ms: i64,
    ) -> Result<(), ErrorCode> {
        // One push is decoded at a time, because a short message can be long in memory.
        let mut clients = self.lock();
        if let Some(before) = clients.get(&client.instance) {
            if before.is_over {
                return Err(ErrorCode::InvalidRequest);
            }
            let is_early = now_ms - before.pushed_ms < interval_ms * EARLY_SHARE.0 / EARLY_SHARE.1;
            if is_early && !is_last {
                return Err(ErrorCode::ThrottlingQuotaExceeded);
            }
        }
        let data = MetricsData::decode(metrics).map_err(|_| ErrorCode::InvalidRecord)?;
        let samples = self.samples(data);
        clients.remove(&client.instance);
        make_room(&mut clients, samples.len());
        let instance = client.instance;
        let client = client.shortened();
        clients
            .insert(instance, Pushed { client, pushed_ms: now_ms, interval_ms, is_over: is_last, samples });
        Ok(())
    }

    fn samples(&self, data: MetricsData) -> Vec<Sample> {
        let scopes = data.resource_metrics.into_iter().flat_map(|resource| resource.scope_metrics);
        let mut samples = Vec::new();
        for metric in scopes.flat_map(|scope| scope.metrics) {
            // The name is checked before all its values share it.
            let is_short = metric.name.len() <= NAME_BYTES_MAX;
            let name: Arc<str> = Arc::from(if is_short { named(&metric.name) } else { String::new() });
            let points = metric.gauge.into_iter().chain(metric.sum).flat_map(|points| points.data_points);
            for point in points {
                let has_room = is_short && samples.len() < SAMPLES_OF_CLIENT_MAX;
                match has_room.then(|| read(&name, point)).flatten() {
                    Some(sample) => samples.push(sample),
                    None => drop(self.dropped.fetch_add(1, Ordering::Relaxed)),
                }
            }
        }
        samples
    }

    /// Writes the metrics of clients that still push.
    pub(crate) fn collect(&self, page: &mut Page, now_ms: i64) {
        let mut clients = self.lock();
        clients.retain(|_, pushed| now_ms - pushed.pushed_ms <= SILENT_INTERVALS_MAX * pushed.interval_ms);
        let mut by_name: BTreeMap<&str, Vec<(&Client, &Sample)>> = BTreeMap::new();
        for pushed in clients.values() {
            for sample in &pushed.samples {
                by_name.entry(&sample.name).or_default().push((&pushed.client, sample));
            }
        }
        page.family(
            "yagura_client_metrics_clients",
            MetricKind::Gauge,
            "Clients that push their metrics (KIP-714).",
        );
        page.sample(&[], clients.len() as f64);
        let help = "Values that clients pushed and that were too many to be shown.";
        page.family("yagura_client_metrics_dropped_total", MetricKind::Counter, help);
        page.sample(&[], self.dropped.load(Ordering::Relaxed) as f64);
        for (name, samples) in by_name {
            page.family(name, MetricKind::Gauge, "Pushed by clients (KIP-714).");
            for (client, sample) in samples {
                let instance = client.instance.to_string();
                let own = [&*client.id, instance.as_str(), client.software.0.as_str()];
                let mut labels: Vec<(&str, &str)> = OWN_LABELS.into_iter().zip(own).collect();
                labels.extend(sample.labels.iter().map(|(name, value)| (name.as_str(), value.as_str())));
                page.sample(&labels, sample.value);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Pushed>> {
        self.clients.lock()
    }
}

fn named(metric: &str) -> String {
    format!("yagura_client_{}", plain(metric))
}

/// A value with its labels; `None` if it has no number, or more labels than are kept.
fn read(name: &Arc<str>, point: Point) -> Option<Sample> {
    let value = point.as_double.or(point.as_int.map(|value| value as f64))?;
    if point.attributes.len() > LABELS_MAX {
        return None;
    }
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for attribute in point.attributes {
        let (name, value) = label(attribute)?;
        // A client cannot replace the labels that the broker adds.
        if !OWN_LABELS.contains(&name.as_str()) {
            labels.insert(name, value);
        }
    }
    Some(Sample { name: Arc::clone(name), labels: labels.into_iter().collect(), value })
}

fn label(attribute: Attribute) -> Option<(String, String)> {
    let value = attribute.value?;
    let value = value.string.or(value.int.map(|value| value.to_string()))?;
    let is_short = attribute.key.len() <= LABEL_BYTES_MAX && value.len() <= LABEL_BYTES_MAX;
    is_short.then(|| (plain(&attribute.key), value))
}

/// A valid Prometheus name, which does not begin with a digit.
fn plain(name: &str) -> String {
    let digit = name.starts_with(|c: char| c.is_ascii_digit()).then_some('_');
    let plain = name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' });
    digit.into_iter().chain(plain).collect()
}

#[cfg(test)]
mod tests;
