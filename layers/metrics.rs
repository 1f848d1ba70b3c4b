//! Metrics: per API, counts calls and errors and measures latency and sizes.
//!
//! **Where it stands.** Best directly below framing: it measures what is below it. The calls of each service
//! are counted separately, by `route`.
//!
//! **What it reads and sets.** The header of each call, and the size of its body and of its reply. Replies of
//! up to [`PEEK_BYTES_MAX`] are also walked by the schema for their first error code other than 0, at any
//! depth; in a larger one (records, long listings) an error is not seen. It changes nothing.
//!
//! **How it refuses.** It never does. A call that is dropped because its client disconnected only counts as a
//! call.
//!
//! Everything is allocated when the layer is built, except for the first error of each API and code. The
//! number of series is bounded by Kafka's APIs and error codes: an unknown key or code counts as `Unknown`.
//!
//! ```toml
//! [layers.metrics]                         # has no settings
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use kernel::layer::{Layer, LayerParts, Plane, RegisterLayer};
use kernel::metrics::{Collect, Counter, Histogram, LATENCY_US_BOUNDS, MetricKind, Page};
use kernel::schema::walk::{self, RawValue};
use kernel::schema::{Direction, Mark};
use kernel::stack::Tier;
use kernel::{Api, Call, Door, ErrorCode, Hangup, Interest, Malformed, Reply};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tower::Service;

use crate::observed_call::{CallOutcome, Finish, ObservedCall};
use crate::per_api::PerApi;

/// Replies above this size are not searched for errors.
pub const PEEK_BYTES_MAX: usize = 4 << 10;

/// The settings of metrics: none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {}

impl RegisterLayer for Metrics {
    const NAME: &'static str = "metrics";
    const ABOUT: &'static str = "Counts calls, errors, bytes and times by API. Stands below `framing`.";
    const PLANE: Plane = Plane::Calls;
    type Settings = Settings;

    /// All metrics layers share one: an API's calls are one family, whichever stack they took.
    fn build(_: &Settings, parts: &mut LayerParts<'_>) -> Result<Layer, String> {
        let metrics = parts.shared(Metrics::default);
        Ok(Layer::Calls(Tier::new(parts.name, interest, MetricsLayer::new(metrics))))
    }
}

/// The layer's metrics; shared by all stacks.
#[derive(Debug)]
pub struct Metrics {
    apis: PerApi<Numbers>,
    errors: Mutex<BTreeMap<(&'static str, String), u64>>,
}

#[derive(Debug)]
struct Numbers {
    calls: Counter,
    latency_us: Histogram,
    request_bytes: Counter,
    reply_bytes: Counter,
    unanswered: Counter,
    hangups: Counter,
    unreadable: Counter,
}

impl Numbers {
    fn new() -> Self {
        Self {
            calls: Counter::default(),
            latency_us: Histogram::new(LATENCY_US_BOUNDS),
            request_bytes: Counter::default(),
            reply_bytes: Counter::default(),
            unanswered: Counter::default(),
            hangups: Counter::default(),
            unreadable: Counter::default(),
        }
    }
}

/// A family's name, help, and counter.
type Family = (&'static str, &'static str, fn(&Numbers) -> u64);

const FAMILIES: &[Family] = &[
    ("yagura_calls_total", "Calls that began.", |numbers| numbers.calls.get()),
    ("yagura_request_bytes_total", "Bytes of request bodies.", |numbers| numbers.request_bytes.get()),
    ("yagura_reply_bytes_total", "Bytes of reply bodies.", |numbers| numbers.reply_bytes.get()),
    ("yagura_unanswered_calls_total", "Calls that ask for no reply (acks=0).", |numbers| {
        numbers.unanswered.get()
    }),
    ("yagura_hangups_total", "Calls that were answered by closing.", |numbers| numbers.hangups.get()),
    ("yagura_unreadable_replies_total", "Replies that are not what their version says.", |numbers| {
        numbers.unreadable.get()
    }),
];

impl Default for Metrics {
    fn default() -> Self {
        Self { apis: PerApi::new(Numbers::new), errors: Mutex::default() }
    }
}

impl Metrics {
    fn count_error(&self, api: Api, error: ErrorCode) {
        let api = if api.is_known() { api.name() } else { "Unknown" };
        let error = match error {
            ErrorCode::Unknown(_) => "Unknown".to_owned(),
            known => known.to_string(),
        };
        let mut errors = self.errors.lock();
        *errors.entry((api, error)).or_default() += 1;
    }
}

impl Collect for Metrics {
    fn collect(&self, page: &mut Page) {
        let seen = || self.apis.iter().filter(|(_, numbers)| numbers.calls.get() > 0);
        for (family, help, number) in FAMILIES {
            page.family(family, MetricKind::Counter, help);
            for (api, numbers) in seen() {
                page.sample(&[("api", api)], number(numbers) as f64);
            }
        }
        page.family("yagura_call_seconds", MetricKind::Histogram, "Time from a call's arrival to its reply.");
        for (api, numbers) in seen() {
            page.histogram(&[("api", api)], &numbers.latency_us, 1_000_000);
        }
        page.family(
            "yagura_errors_total",
            MetricKind::Counter,
            "Replies with an error, by the first one in them.",
        );
        for ((api, error), count) in &*self.errors.lock() {
            page.sample(&[("api", *api), ("error", error.as_str())], *count as f64);
        }
    }
}

/// The layer.
#[derive(Debug, Clone)]
pub struct MetricsLayer(Arc<Metrics>);

impl MetricsLayer {
    /// The layer that counts in `metrics`.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self(metrics)
    }
}

/// The layer looks at the headers of all APIs.
pub fn interest(_: Api) -> Interest {
    Interest::HEADER
}

impl tower::Layer<Door> for MetricsLayer {
    type Service = Metered;

    fn layer(&self, inner: Door) -> Metered {
        Metered { inner, metrics: Arc::clone(&self.0) }
    }
}

/// A service that counts its calls.
#[derive(Debug, Clone)]
pub struct Metered {
    inner: Door,
    metrics: Arc<Metrics>,
}

/// Counts the outcome of a call.
#[derive(Debug)]
pub struct Meter {
    metrics: Arc<Metrics>,
    api: Api,
    version: i16,
    began: Instant,
}

impl Service<Call> for Metered {
    type Response = Option<Reply>;
    type Error = Hangup;
    type Future = ObservedCall<Meter>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Hangup>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let (api, version) = (call.header.api, call.header.version);
        let meter = Meter { metrics: Arc::clone(&self.metrics), api, version, began: Instant::now() };
        let numbers = self.metrics.apis.of(api);
        numbers.calls.add(1);
        numbers.request_bytes.add(call.body.raw().len() as u64);
        ObservedCall::new(self.inner.enter(call), meter)
    }
}

impl Finish for Meter {
    fn finish(self, outcome: &CallOutcome) {
        let numbers = self.metrics.apis.of(self.api);
        numbers.latency_us.record(self.began.elapsed().as_micros() as u64);
        match outcome {
            Err(_) => numbers.hangups.add(1),
            Ok(None) => numbers.unanswered.add(1),
            Ok(Some(reply)) => {
                numbers.reply_bytes.add(reply.bytes());
                match first_error(self.api, self.version, reply) {
                    Ok(None) => {}
                    Ok(Some(error)) => self.metrics.count_error(self.api, error),
                    Err(_) => numbers.unreadable.add(1),
                }
            }
        }
    }
}

/// The first error code other than 0 in a reply that is small enough to be walked.
fn first_error(api: Api, version: i16, reply: &Reply) -> Result<Option<ErrorCode>, Malformed> {
    let Some(message) = api.message(Direction::Response) else { return Ok(None) };
    if reply.body.len() > PEEK_BYTES_MAX {
        return Ok(None);
    }
    let mut first: Option<ErrorCode> = None;
    walk::walk(message, version, &reply.body, |found| {
        if let (None, Mark::ErrorCode, RawValue::Int(code)) = (first, found.field.mark, found.value) {
            first = ErrorCode::try_from_code(code as i16);
        }
    })?;
    Ok(first)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn metered(metrics: &Arc<Metrics>, outcome: fn(&Call) -> CallOutcome) -> Metered {
        let door = Door::from_fn(move |call| Box::pin(async move { outcome(&call) }));
        tower::Layer::layer(&MetricsLayer::new(Arc::clone(metrics)), door)
    }

    /// Metadata 1 of the topic "t".
    fn metadata() -> Call {
        Call::for_tests_raw(Api::METADATA, 1, Bytes::from_static(b"\0\0\0\x01\0\x01t"))
    }

    fn page(metrics: &Metrics) -> String {
        let mut page = Page::default();
        metrics.collect(&mut page);
        page.into_text()
    }

    #[tokio::test]
    async fn calls_sizes_and_errors_are_counted_by_api() {
        let metrics = Arc::new(Metrics::default());
        let mut refusing = metered(&metrics, |call| call.refuse(ErrorCode::InvalidTopicException, ""));
        let reply = refusing.call(metadata()).await.unwrap().unwrap();
        refusing.call(metadata()).await.unwrap();
        metered(&metrics, |_| Ok(None)).call(metadata()).await.unwrap();
        let hung_up = metered(&metrics, |_| Err(Hangup::because("no"))).call(metadata()).await;
        assert!(hung_up.is_err());
        let page = page(&metrics);
        for line in [
            "yagura_calls_total{api=\"Metadata\"} 4\n",
            "yagura_request_bytes_total{api=\"Metadata\"} 28\n",
            &format!("yagura_reply_bytes_total{{api=\"Metadata\"}} {}\n", 2 * reply.bytes()),
            "yagura_unanswered_calls_total{api=\"Metadata\"} 1\n",
            "yagura_hangups_total{api=\"Metadata\"} 1\n",
            "yagura_call_seconds_count{api=\"Metadata\"} 4\n",
            "yagura_errors_total{api=\"Metadata\",error=\"InvalidTopicException\"} 2\n",
        ] {
            assert!(page.contains(line), "{line} is not in\n{page}");
        }
        assert!(!page.contains("Produce"), "an API that nobody called has no series");
    }

    #[tokio::test]
    async fn a_reply_that_is_not_what_it_should_be_is_counted_and_a_large_one_not_looked_at() {
        let metrics = Arc::new(Metrics::default());
        let garbage = |bytes: usize| Ok(Some(Reply::new(vec![0xffu8; bytes])));
        let small = garbage(PEEK_BYTES_MAX);
        let large = garbage(PEEK_BYTES_MAX + 1);
        for (outcome, unreadable) in [(small, 1), (large, 1)] {
            let meter = Meter {
                metrics: Arc::clone(&metrics),
                api: Api::METADATA,
                version: 1,
                began: Instant::now(),
            };
            meter.finish(&outcome);
            assert_eq!(metrics.apis.of(Api::METADATA).unreadable.get(), unreadable);
        }
    }

    #[test]
    fn the_documented_settings_are_none() {
        let documented: Settings = crate::doc_toml::layer(include_str!("metrics.rs"), "metrics");
        assert_eq!(documented, Settings::default());
        assert!(toml::from_str::<Settings>("level = 1").is_err());
    }
}
