//! Trace: one log line for each call, at level debug, with the target `yagura::call`.
//!
//! **Where it stands.** Anywhere below framing; the lower, the later its timing starts. Below a layer that
//! sets a principal it shows that principal.
//!
//! **What it reads and sets.** API, version, client id, principal, peer, the first three topic names in the
//! request (and how many more there are), the sizes of request and reply without their headers, the time in
//! microseconds, and the outcome: `ok`, `none` (no reply requested), `hangup` with its reason, or `dropped`
//! (the client disconnected, or the call panicked). It changes nothing.
//!
//! **How it refuses.** It never does. If the target is not enabled at debug, it does nothing at all: the body
//! is not walked and nothing is allocated.
//!
//! ```toml
//! [layers.trace]                           # has no settings; the log level switches it
//! ```

use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use kernel::layer::{Layer, LayerParts, Plane, RegisterLayer};
use kernel::schema::Mark;
use kernel::stack::{Depth, Interest, Tier};
use kernel::{Api, Call, Door, Hangup, Reply};
use serde::{Deserialize, Serialize};
use tower::Service;
use tracing::Level;

use crate::observed_call::{CallOutcome, Finish, ObservedCall};

/// The target of the lines.
pub const TARGET: &str = "yagura::call";

/// Most topic names in a line.
const TOPICS_SHOWN: usize = 3;

/// Kafka's longest legal topic name; longer ones are truncated, because a client may send anything.
const NAME_CHARS_MAX: usize = 249;

/// The settings of trace: none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {}

impl RegisterLayer for Trace {
    const NAME: &'static str = "trace";
    const ABOUT: &'static str = "Writes a line per call at the log level `debug`. Stands below `framing`.";
    const PLANE: Plane = Plane::Calls;
    type Settings = Settings;

    fn build(_: &Settings, parts: &mut LayerParts<'_>) -> Result<Layer, String> {
        Ok(Layer::Calls(Tier::new(parts.name, interest, Trace)))
    }
}

/// The layer.
#[derive(Debug, Clone, Copy, Default)]
pub struct Trace;

/// The layer looks at the names in the requests of all APIs, and at the headers of the replies.
pub fn interest(_: Api) -> Interest {
    Interest { request: Depth::Names, reply: Depth::Header }
}

impl tower::Layer<Door> for Trace {
    type Service = Traced;

    fn layer(&self, inner: Door) -> Traced {
        Traced { inner }
    }
}

/// A service that logs its calls.
#[derive(Debug, Clone)]
pub struct Traced {
    inner: Door,
}

impl Service<Call> for Traced {
    type Response = Option<Reply>;
    type Error = Hangup;
    type Future = ObservedCall<Option<CallLine>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Hangup>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut call: Call) -> Self::Future {
        let is_heard = tracing::enabled!(target: TARGET, Level::DEBUG);
        let line = is_heard.then(|| CallLine::begin(&mut call));
        ObservedCall::new(self.inner.enter(call), line)
    }
}

/// The line of one call, written when it is dropped.
#[derive(Debug)]
pub struct CallLine {
    connection: u64,
    peer: SocketAddr,
    principal: Arc<str>,
    client_id: Option<Arc<str>>,
    api: Api,
    version: i16,
    topics: String,
    request_bytes: usize,
    reply_bytes: usize,
    outcome: &'static str,
    reason: Option<String>,
    began: Instant,
}

impl CallLine {
    fn begin(call: &mut Call) -> Self {
        Self {
            began: Instant::now(),
            topics: topics(call),
            connection: call.session.id,
            peer: call.session.peer,
            principal: call.session.principal(),
            client_id: call.header.client_id.clone(),
            api: call.header.api,
            version: call.header.version,
            request_bytes: call.body.raw().len(),
            reply_bytes: 0,
            outcome: "dropped",
            reason: None,
        }
    }
}

/// The first names, and the number of the others.
fn topics(call: &mut Call) -> String {
    let mut text = String::new();
    let mut count = 0usize;
    let walked = call.walk(|found| {
        if found.field.mark != Mark::TopicName {
            return;
        }
        // By-id requests have null or empty names.
        let Some(name) = found.value.as_str().filter(|name| !name.is_empty()) else { return };
        count += 1;
        if count <= TOPICS_SHOWN {
            let comma = if count > 1 { "," } else { "" };
            text.push_str(comma);
            text.extend(name.chars().take(NAME_CHARS_MAX));
        }
    });
    if count > TOPICS_SHOWN {
        text.push_str(&format!(",+{}", count - TOPICS_SHOWN));
    }
    match walked {
        Ok(()) => text,
        Err(malformed) => format!("{text} ({malformed})"),
    }
}

impl Finish for CallLine {
    fn finish(mut self, outcome: &CallOutcome) {
        match outcome {
            Ok(Some(reply)) => {
                self.outcome = "ok";
                self.reply_bytes = reply.bytes() as usize;
            }
            Ok(None) => self.outcome = "none",
            Err(hangup) => {
                self.outcome = "hangup";
                self.reason = Some(hangup.to_string());
            }
        }
    }
}

impl Drop for CallLine {
    fn drop(&mut self) {
        // Client input is logged as a string value, which the log quotes, so a line break in it cannot start
        // a new line.
        tracing::debug!(
            target: TARGET,
            api = %self.api,
            version = self.version,
            connection = self.connection,
            peer = %self.peer,
            principal = &*self.principal,
            client_id = self.client_id.as_deref(),
            topics = self.topics.as_str(),
            request_bytes = self.request_bytes,
            reply_bytes = self.reply_bytes,
            micros = self.began.elapsed().as_micros() as u64,
            outcome = self.outcome,
            reason = self.reason.as_deref(),
            "call"
        );
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::fmt::Debug;
    use std::sync::Once;

    use bytes::Bytes;
    use tracing::field::{Field, Visit};
    use tracing::span::{Attributes, Id, Record};
    use tracing::subscriber::Interest;
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    type Fields = BTreeMap<String, String>;

    thread_local! {
        /// The level that a thread records, and its lines.
        static LOG: RefCell<Option<(Level, Vec<Fields>)>> = const { RefCell::new(None) };
    }

    /// Records the lines of each thread that wants them. There is one for all threads, because whether a line is of
    /// interest to anybody is remembered for the process: by subscribers of threads it would be what the thread says that
    /// comes to the line first, and that may be another test's.
    struct Logs;

    struct Reading(Fields);

    impl Visit for Reading {
        fn record_str(&mut self, field: &Field, value: &str) {
            self.0.insert(field.name().to_owned(), value.to_owned());
        }

        fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
            self.0.insert(field.name().to_owned(), format!("{value:?}"));
        }
    }

    impl Subscriber for Logs {
        fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
            Interest::sometimes()
        }

        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            let is_wanted = |level: Level| metadata.target() == TARGET && *metadata.level() <= level;
            LOG.with_borrow(|log| log.as_ref().is_some_and(|(level, _)| is_wanted(*level)))
        }

        fn event(&self, event: &Event<'_>) {
            let mut reading = Reading(Fields::new());
            event.record(&mut reading);
            LOG.with_borrow_mut(|log| log.as_mut().expect("an enabled log").1.push(reading.0));
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}
        fn record_follows_from(&self, _: &Id, _: &Id) {}
        fn enter(&self, _: &Id) {}
        fn exit(&self, _: &Id) {}
    }

    /// The log at `level` of Metadata calls with these bodies, which are answered, unanswered, hung up and
    /// dropped in turn.
    async fn logged(level: Level, bodies: [&'static [u8]; 4]) -> Vec<Fields> {
        static SUBSCRIBED: Once = Once::new();
        SUBSCRIBED.call_once(|| tracing::subscriber::set_global_default(Logs).expect("no other subscriber"));
        LOG.set(Some((level, Vec::new())));
        let outcomes: [fn() -> CallOutcome; 3] =
            [|| Ok(Some(Reply::new(&b"four"[..]))), || Ok(None), || Err(Hangup::because("no\nmore"))];
        for (outcome, body) in outcomes.into_iter().zip(bodies) {
            let door = Door::from_fn(move |_| Box::pin(async move { outcome() }));
            let call = Call::for_tests_raw(Api::METADATA, 1, Bytes::from_static(body));
            let _ = tower::Layer::layer(&Trace, door).call(call).await;
        }
        let never = Door::from_fn(|_| Box::pin(std::future::pending::<CallOutcome>()));
        let call = Call::for_tests_raw(Api::METADATA, 1, Bytes::from_static(bodies[3]));
        drop(tower::Layer::layer(&Trace, never).call(call));
        LOG.take().expect("the log of this thread").1
    }

    const NONE: &[u8] = b"\xff\xff\xff\xff";
    const FOUR: &[u8] = b"\0\0\0\x04\0\x01a\0\x01b\0\x01c\0\x01d";
    const BROKEN: &[u8] = b"\0\0\0\x02\0\x01a";

    #[tokio::test]
    async fn one_line_a_call() {
        let lines = logged(Level::DEBUG, [FOUR, NONE, NONE, BROKEN]).await;
        let column = |name: &str| -> Vec<_> { lines.iter().map(|line| line.get(name).cloned()).collect() };
        let texts = |texts: [&str; 4]| texts.map(|text| Some(text.to_owned())).to_vec();
        assert_eq!(column("outcome"), texts(["ok", "none", "hangup", "dropped"]));
        assert_eq!(column("api"), texts(["Metadata"; 4]));
        assert_eq!(column("version"), texts(["1"; 4]));
        assert_eq!(column("principal"), texts([kernel::session::ANONYMOUS; 4]));
        assert_eq!(column("peer"), texts(["127.0.0.1:9092"; 4]));
        assert_eq!(column("request_bytes"), texts(["16", "4", "4", "7"]));
        assert_eq!(column("reply_bytes"), texts(["4", "0", "0", "0"]));
        assert_eq!(column("reason"), [None, None, Some("no\nmore".to_owned()), None]);
        assert_eq!(lines[0]["topics"], "a,b,c,+1");
        assert_eq!(lines[1]["topics"], "");
        assert!(lines[3]["topics"].starts_with("a (malformed body"), "{:?}", lines[3]);
        assert!(lines.iter().all(|line| line.contains_key("micros")));
    }

    #[tokio::test]
    async fn nothing_at_a_higher_level() {
        assert!(logged(Level::INFO, [FOUR, NONE, NONE, BROKEN]).await.is_empty());
    }

    #[test]
    fn the_documented_settings_are_none() {
        let documented: Settings = crate::doc_toml::layer(include_str!("trace.rs"), "trace");
        assert_eq!(documented, Settings::default());
        assert!(toml::from_str::<Settings>("level = 1").is_err());
    }
}
