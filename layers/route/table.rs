//! The rules and their services, and how a call enters one of them.

use std::sync::Arc;
use std::time::Instant;

use kernel::metrics::Histogram;
use kernel::session::Owner;
use kernel::{Api, Call, Door, ErrorCode};

use super::directory::RoutedDirectory;
use super::rules::Rules;
use crate::log_throttle::LogThrottle;
use crate::observed_call::{CallOutcome, Finish, ObservedCall};
use crate::per_api::PerApi;

/// The error message when topics cannot be looked up.
const NO_NAMES: &str = "the topics of this request could not be looked up by their ids: try again";

/// The rules and their services.
pub(super) struct Table {
    pub(super) rules: Arc<Rules>,
    pub(super) services: Vec<Destination>,
    pub(super) directory: Arc<RoutedDirectory>,
    /// Owns the fetch sessions in each connection's state.
    pub(super) owner: Owner,
    pub(super) failed_lookups: LogThrottle,
}

pub(super) struct Destination {
    pub(super) name: Arc<str>,
    pub(super) service: Arc<dyn kernel::Service>,
    pub(super) door: Door,
    pub(super) latency_us: PerApi<Histogram>,
}

/// Measures a call of a service.
pub struct Timer {
    table: Arc<Table>,
    service: usize,
    api: Api,
    began: Instant,
}

impl Table {
    /// Sends a call, or a part of one, to a service.
    ///
    /// A Produce to another service than the one that gives producer ids on its listener says where its ids come
    /// from: each service counts its own.
    pub(super) fn enter(self: &Arc<Self>, service: usize, mut call: Call) -> ObservedCall<Option<Timer>> {
        let api = call.header.api;
        if api == Api::PRODUCE {
            let giver = self.rules.candidates(&call.session.listener, Api::INIT_PRODUCER_ID).otherwise;
            call.origin = (giver != service).then(|| Arc::clone(&self.services[giver].name));
        }
        let timer = Timer { table: Arc::clone(self), service, api, began: Instant::now() };
        ObservedCall::new(self.services[service].door.enter(call), Some(timer))
    }

    /// Refuses a call whose topic ids could not be looked up.
    pub(super) fn refuse_without_names(&self, call: &Call, cause: &str) -> CallOutcome {
        if let Some(held_back) = self.failed_lookups.allow() {
            let api = call.header.api;
            tracing::warn!(%api, held_back, "a call was refused because topic ids could not be looked up: {cause}");
        }
        call.refuse(ErrorCode::LeaderNotAvailable, NO_NAMES)
    }
}

impl Finish for Timer {
    fn finish(self, _: &CallOutcome) {
        let micros = self.began.elapsed().as_micros() as u64;
        self.table.services[self.service].latency_us.of(self.api).record(micros);
    }
}
