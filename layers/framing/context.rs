//! Shared state of a listener's connections.

use std::sync::Arc;
use std::time::Duration;

use kernel::Stack;
use kernel::budget::Budget;

use super::traffic::Traffic;

/// Shared state of a listener's connections.
pub(super) struct Context {
    pub(super) max_in_flight: usize,
    pub(super) frame_bytes_max: usize,
    pub(super) stall_timeout: Duration,
    pub(super) stack: Arc<Stack>,
    pub(super) requests: Budget,
    pub(super) replies: Budget,
    pub(super) traffic: Arc<Traffic>,
}
