//! Framing: turns a connection's stream of bytes into calls, and their replies back into bytes.
//!
//! **Where it stands.** First below the byte-stream layers (`limits`, later `tls`) and above every layer
//! that sees calls, because framing makes the calls. A connection runs in one task; a call costs no spawn.
//!
//! **What it reads and sets.** It reads the length and the header of each request, and of ApiVersions 3+ the
//! names of the client's software, which it sets in the session (KIP-511). Every call gets its ticket here,
//! in order of arrival. It takes the served versions from the stack when a connection begins, and again with
//! each ApiVersions request: a client is served the versions of its last response.
//!
//! **Order and bounds.** Up to `max_in_flight` calls of a connection are running or waiting to be sent;
//! replies are sent in the order of the requests, whatever their correlation ids. Every request and every reply draws on
//! the memory of its kind. Frames of up to 16 KiB are read through a buffer that an idle connection does not have, and
//! drawn for when they are whole. For a larger one, 16 KiB must have arrived before anything is drawn; then 64 KiB, and
//! after that as much again as has arrived, up to 1 MiB at a time, directly into place. A reply is drawn for when it is the first of its
//! connection; records that are read while it is sent, piece by piece. [`kernel::budget`] says who gets memory when not all
//! can have it. A client that holds some and moves less than 64 KiB per `stall_timeout` while others wait is closed; the
//! clock is stopped while Yagura itself does not read (no request memory yet, too many calls in flight, a muted client).
//! Meanwhile the buffer is filled, so that a client that goes is noticed, and what it waited for is given up; one that has
//! sent more than that before it went is noticed once these requests are read.
//! The largest frame is `frame_bytes_max`; if that is left out and the request memory is small, half of it.
//!
//! **How it refuses.** By closing, as Kafka does: a length below 8 or above the largest frame, a header cut
//! short, an API or version that the stack does not serve. Replies to earlier requests are sent first. The
//! exceptions are ApiVersions in a version too new, which is answered with error 35 in version 0 (KIP-511),
//! and ApiVersions with an impossible software name, which is refused with INVALID_REQUEST. A panic in a call
//! closes that connection and no other.
//!
//! **Raw tokens.** After SaslHandshake 0 the client's frames are bare SASL tokens without Kafka's header.
//! Such a mode of a session would be handled where `conversation.rs` parses a frame (`try_begin`): the reader
//! above it only knows lengths, and the replies below it only need a prefix without correlation id.
//!
//! ```toml
//! [layers.framing]
//! max_in_flight = 16
//! frame_bytes_max = "100MiB"
//! stall_timeout = "5s"
//! ```

mod calls;
mod close_reason;
mod context;
mod conversation;
mod later;
mod outbox;
mod reader;
mod stall;
#[cfg(test)]
mod tests;
mod traffic;
mod versions;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use kernel::budget::Budget;
use kernel::layer::{Framer, Layer, LayerParts, Plane, RegisterLayer};
use kernel::settings::{NodeLimits, SOME_TIME, Setting, SettingFault, ValueKind};
use kernel::stream::Connection;
use kernel::units::{ByteSize, Span};
use kernel::{Session, Stack};
use serde::{Deserialize, Serialize};

use crate::log_throttle::LogThrottle;
use context::Context;
use conversation::Conversation;

pub use close_reason::{CloseReason, ForeignProtocol};
pub use traffic::Traffic;

/// The settings of framing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Most calls of one connection that are running, or answered and not sent yet.
    pub max_in_flight: usize,
    /// The largest request, without its length prefix.
    pub frame_bytes_max: ByteSize,
    /// In what time a client has to move 64 KiB of a request or a reply, or all of it, while others wait for memory.
    pub stall_timeout: Span,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            max_in_flight: 16,
            frame_bytes_max: ByteSize(100 << 20),
            stall_timeout: Span(Duration::from_secs(5)),
        }
    }
}

impl RegisterLayer for Framing {
    const NAME: &'static str = "framing";
    const ABOUT: &'static str = "Turns bytes into calls and replies into bytes. Every stack has it once.";
    const PLANE: Plane = Plane::Framing;
    const SETTINGS: &'static [Setting] = &[
        Setting::new(
            "max_in_flight",
            ValueKind::Number { min: 1, max: 10_000 },
            "Calls of one connection that run at once; replies still leave in order.",
        ),
        Setting::new(
            "frame_bytes_max",
            // Kafka's length prefix is a signed 32-bit number.
            ValueKind::Bytes { min: 1 << 10, below: 1 << 31 },
            "The largest request; a larger one closes its connection. At most seven eighths of `node.request_memory`.",
        ),
        Setting::new(
            "stall_timeout",
            SOME_TIME,
            "A client that moves less than 64 KiB of a request or reply in this time, while others wait for memory, is closed.",
        ),
    ];
    type Settings = Settings;

    /// A frame larger than the request memory, of which an eighth is for small ones, could never be read. If the config omits
    /// `frame_bytes_max`, framing takes half of a request memory that is too small for the default.
    fn check(settings: &Settings, node: &NodeLimits) -> Vec<SettingFault> {
        let possible = Budget::for_requests(node.request_memory.as_usize()).frame_bytes_max();
        if settings.frame_bytes_max.as_usize() <= possible {
            return Vec::new();
        }
        let message = format!(
            "{} is more than seven eighths of node.request_memory ({}), so a frame of that size could never be read; lower \
             the one or raise the other",
            settings.frame_bytes_max, node.request_memory
        );
        vec![SettingFault { setting: "frame_bytes_max", message, concerns_default: false }]
    }

    fn build(settings: &Settings, parts: &mut LayerParts<'_>) -> Result<Layer, String> {
        let settings = settings.clone();
        let (requests, replies) = (parts.requests.clone(), parts.replies.clone());
        let traffic = parts.shared(|| Traffic::new(requests.clone(), replies.clone()));
        Ok(Layer::Framing(Arc::new(move |stack: Arc<Stack>| -> Arc<dyn Framer> {
            let memory = (requests.clone(), replies.clone());
            Arc::new(Framing::new(&settings, stack, memory, Arc::clone(&traffic)))
        })))
    }
}

/// The framing of a listener's connections, over one stack.
pub struct Framing {
    context: Context,
    foreign_protocols: LogThrottle,
}

impl Framing {
    /// Framing over `stack`, with the memory for requests and for replies.
    pub fn new(
        settings: &Settings,
        stack: Arc<Stack>,
        (requests, replies): (Budget, Budget),
        traffic: Arc<Traffic>,
    ) -> Self {
        // The config refuses a size that was asked for and is not possible.
        let asked = settings.frame_bytes_max.as_usize();
        let is_possible = asked <= requests.frame_bytes_max();
        let frame_bytes_max = if is_possible { asked } else { requests.frame_bytes_max_by_default() };
        requests.set_aside(frame_bytes_max);
        let context = Context {
            // The config refuses 0; if it gets here, 1 is the minimum that makes progress.
            max_in_flight: settings.max_in_flight.max(1),
            frame_bytes_max,
            stall_timeout: settings.stall_timeout.0,
            stack,
            requests,
            replies,
            traffic,
        };
        Self { context, foreign_protocols: LogThrottle::default() }
    }

    /// Serves a connection until it ends, and returns the reason, which the caller logs.
    ///
    /// Once the session's drain has started, calls in flight are finished and their replies sent; the caller
    /// limits the time by dropping this future.
    async fn serve_connection(&self, connection: Connection) -> CloseReason {
        let Connection { stream, session, guards } = connection;
        let session = Arc::new(session);
        let _open = self.context.traffic.open();
        let reason = Conversation::new(&self.context, stream, Arc::clone(&session)).run().await;
        self.context.traffic.ended(&reason);
        if let CloseReason::ForeignProtocol(protocol) = reason {
            self.warn_of(protocol, &session);
        }
        drop(guards);
        reason
    }

    /// The client does not speak Kafka's protocol, so only the operator is informed.
    fn warn_of(&self, protocol: ForeignProtocol, session: &Session) {
        if let Some(held_back) = self.foreign_protocols.allow() {
            let (listener, peer) = (&*session.listener, session.peer);
            tracing::warn!(listener, %peer, held_back, "{}", protocol.advice());
        }
    }
}

impl Framer for Framing {
    fn serve(&self, connection: Connection) -> Pin<Box<dyn Future<Output = String> + Send + '_>> {
        Box::pin(async move { self.serve_connection(connection).await.to_string() })
    }
}
