//! Framing's metrics, for all listeners together.

use kernel::budget::Budget;
use kernel::metrics::{Collect, Counter, MetricKind, Page};

use super::CloseReason;

/// The counters of framing, shared by all listeners, because a metrics page may name a family only once.
#[derive(Debug)]
pub struct Traffic {
    requests: Budget,
    replies: Budget,
    pub(super) bytes_in: Counter,
    pub(super) bytes_out: Counter,
    opened: Counter,
    closed: Counter,
    frames_refused: Counter,
    panics: Counter,
    ended: [Counter; CloseReason::REASONS.len()],
}

/// Counts a connection as open until dropped, even if its task is dropped.
pub(super) struct Open<'a>(&'a Traffic);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.closed.add(1);
    }
}

impl Traffic {
    /// Zeroed counters, and the pools whose use is shown with them.
    pub fn new(requests: Budget, replies: Budget) -> Self {
        Self {
            requests,
            replies,
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            opened: Counter::default(),
            closed: Counter::default(),
            frames_refused: Counter::default(),
            panics: Counter::default(),
            ended: Default::default(),
        }
    }

    /// Connections that are open now.
    pub fn connections_open(&self) -> u64 {
        // In this order, because what is closed was opened before.
        let closed = self.closed.get();
        self.opened.get().saturating_sub(closed)
    }

    /// Frames for which the connection was closed.
    pub fn frames_refused(&self) -> u64 {
        self.frames_refused.get()
    }

    /// Calls that panicked.
    pub fn panics(&self) -> u64 {
        self.panics.get()
    }

    pub(super) fn open(&self) -> Open<'_> {
        self.opened.add(1);
        Open(self)
    }

    pub(super) fn ended(&self, end: &CloseReason) {
        match end {
            CloseReason::Refused(_) | CloseReason::ForeignProtocol(_) | CloseReason::Stalled => {
                self.frames_refused.add(1)
            }
            CloseReason::Panicked(_) => self.panics.add(1),
            _ => {}
        }
        if let Some(index) = CloseReason::REASONS.iter().position(|reason| *reason == end.reason()) {
            self.ended[index].add(1);
        }
    }
}

impl Collect for Traffic {
    fn collect(&self, page: &mut Page) {
        page.family("yagura_connections_open", MetricKind::Gauge, "Client connections that are open.");
        page.sample(&[], self.connections_open() as f64);
        page.family(
            "yagura_connections_total",
            MetricKind::Counter,
            "Client connections that reached framing.",
        );
        page.sample(&[], self.opened.get() as f64);
        page.family(
            "yagura_connections_ended_total",
            MetricKind::Counter,
            "Client connections that ended, by reason.",
        );
        for (reason, count) in CloseReason::REASONS.iter().zip(&self.ended) {
            page.sample(&[("reason", *reason)], count.get() as f64);
        }
        page.family(
            "yagura_frames_refused_total",
            MetricKind::Counter,
            "Frames that were answered by closing.",
        );
        page.sample(&[], self.frames_refused.get() as f64);
        page.family("yagura_panics_total", MetricKind::Counter, "Calls that panicked; each is a bug.");
        page.sample(&[], self.panics.get() as f64);
        page.family("yagura_received_bytes_total", MetricKind::Counter, "Bytes read from clients.");
        page.sample(&[], self.bytes_in.get() as f64);
        page.family("yagura_sent_bytes_total", MetricKind::Counter, "Bytes written to clients.");
        page.sample(&[], self.bytes_out.get() as f64);
        for (name, pool) in [("request", &self.requests), ("reply", &self.replies)] {
            let family = format!("yagura_{name}_memory_used_bytes");
            page.family(&family, MetricKind::Gauge, &format!("Memory that is held for {name} bytes."));
            page.sample(&[], pool.bytes_in_use() as f64);
            let family = format!("yagura_{name}_memory_max_bytes");
            page.family(&family, MetricKind::Gauge, &format!("The whole {name} memory."));
            page.sample(&[], pool.bytes_max() as f64);
        }
    }
}
