//! Services that identify themselves in replies, and directories that count their lookups.

use std::future::{pending, ready};
use std::sync::Arc;

use bytes::Bytes;
use kernel::metrics::{Collect, Page};
use kernel::ports::{BoxFuture, TopicDirectory, TopicFacts};
use kernel::schema::Direction;
use kernel::schema::value::{self, Value};
use kernel::{Api, Call, Door, Records, Reply, ReplyFuture, Served, TopicId, TopicPartition};
use parking_lot::Mutex;

use super::{LEGACY_LOST, LEGACY_ORDERS, ORDERS};

/// A service that responds with its name, for a Fetch after a response with its session.
pub(super) struct FakeService {
    pub(super) name: &'static str,
    pub(super) session: i64,
    pub(super) served: Served,
    pub(super) topics: Arc<FakeTopics>,
    /// Answers in its stead.
    pub(super) handler: Option<Handler>,
}

/// Answers calls.
pub(super) type Handler = Arc<dyn Fn(Call) -> ReplyFuture + Send + Sync>;

/// The topics of a service.
#[derive(Default)]
pub(super) struct FakeTopics {
    pub(super) topics: Vec<TopicFacts>,
    pub(super) is_down: bool,
    pub(super) asked: Mutex<usize>,
}

/// Services by their names.
pub(super) fn services(names: &[&'static str]) -> Vec<(String, Arc<dyn kernel::Service>)> {
    names.iter().map(|name| FakeService::new(name).named()).collect()
}

impl FakeService {
    pub(super) fn new(name: &'static str) -> Self {
        let topic = |name: &str, id| TopicFacts { name: Arc::from(name), id, partitions: 1 };
        let (session, topics) = match name {
            "local" => (100, vec![topic("orders", ORDERS), topic("legacy.lost", LEGACY_LOST)]),
            "legacy" => (200, vec![topic("legacy.orders", LEGACY_ORDERS)]),
            _ => (300, Vec::new()),
        };
        let topics = Arc::new(FakeTopics { topics, ..FakeTopics::default() });
        Self { name, session, served: Served::default(), topics, handler: None }
    }

    pub(super) fn named(self) -> (String, Arc<dyn kernel::Service>) {
        let name = self.name.to_owned();
        let service: Arc<dyn kernel::Service> = Arc::new(self);
        (name, service)
    }
}

fn fetch_response(version: i16, session: i64) -> Bytes {
    let message = Api::FETCH.message(Direction::Response).unwrap();
    let body = Value::Struct(vec![("SessionId", Value::Int(session))]);
    Bytes::from(value::encode(message, version, &body).unwrap())
}

impl Collect for FakeService {
    fn collect(&self, _: &mut Page) {}
}

impl kernel::Service for FakeService {
    fn door(&self) -> Door {
        if let Some(handler) = self.handler.clone() {
            return Door::from_fn(move |call| handler(call));
        }
        let (name, session) = (self.name, self.session);
        Door::from_fn(move |call| {
            let name = Bytes::from_static(name.as_bytes());
            let reply = match call.header.api {
                Api::FETCH => Reply {
                    body: fetch_response(call.header.version, session),
                    records: vec![Records::from(name)],
                    ..Reply::default()
                },
                _ => Reply::new(name),
            };
            Box::pin(ready(Ok(Some(reply))))
        })
    }

    fn served(&self) -> Served {
        self.served.clone()
    }

    fn readiness(&self) -> Result<(), String> {
        Ok(())
    }

    fn open(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(ready(Ok(())))
    }

    fn run(self: Arc<Self>) -> BoxFuture<'static, String> {
        Box::pin(pending())
    }

    fn close(&self) -> BoxFuture<'_, Result<(), String>> {
        Box::pin(ready(Ok(())))
    }

    fn topics(&self) -> Arc<dyn TopicDirectory> {
        self.topics.clone()
    }

    fn set_directory(&self, _: Arc<dyn TopicDirectory>) {}

    fn summary(&self) -> (&'static str, String) {
        ("answers as", self.name.to_owned())
    }
}

impl FakeTopics {
    fn find(
        &self,
        is_wanted: impl Fn(&TopicFacts) -> bool,
    ) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>> {
        *self.asked.lock() += 1;
        let found: Vec<TopicFacts> = self.topics.iter().filter(|topic| is_wanted(topic)).cloned().collect();
        let answer = if self.is_down { Err("it is down".to_owned()) } else { Ok(found) };
        Box::pin(ready(answer))
    }
}

impl TopicDirectory for FakeTopics {
    fn by_name(&self, names: Vec<Arc<str>>) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>> {
        self.find(|topic| names.contains(&topic.name))
    }

    fn by_id(&self, ids: Vec<TopicId>) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>> {
        self.find(|topic| ids.contains(&topic.id))
    }

    fn all(&self) -> BoxFuture<'_, Result<Vec<TopicFacts>, String>> {
        self.find(|_| true)
    }

    fn ends(&self, partitions: Vec<TopicPartition>) -> BoxFuture<'_, Result<Vec<Option<i64>>, String>> {
        let has = |at: &TopicPartition| self.topics.iter().any(|topic| topic.id == at.topic);
        let end = |at: &TopicPartition| has(at).then(|| i64::from(at.partition) + 10);
        Box::pin(ready(Ok(partitions.iter().map(end).collect())))
    }

    fn version(&self) -> u64 {
        0
    }
}
