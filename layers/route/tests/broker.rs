//! A service that answers what it is asked for, and notes how it was asked.

use std::collections::BTreeMap;

use futures_util::FutureExt;
use kernel::{Hangup, ReplyFuture};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::*;

/// What a call of a service was.
pub(super) struct Asked {
    pub(super) api: Api,
    pub(super) request: Value,
    pub(super) origin: Option<Arc<str>>,
    /// Whether it was dropped before it was answered.
    pub(super) is_dropped: Arc<Mutex<bool>>,
}

/// The state of a [`Broker`], which its test sees.
#[derive(Default)]
pub(super) struct State {
    pub(super) asked: Vec<Asked>,
    /// Records that no fetch has taken, by topic id.
    pub(super) records: BTreeMap<String, Vec<u8>>,
    /// The epoch that the next fetch of each session must have.
    pub(super) sessions: BTreeMap<i64, i64>,
    /// Wakes the fetch that waits for records.
    parked: Option<oneshot::Sender<()>>,
    next_session: i64,
}

/// A service with the name, the ids and the topics of a [`FakeService`].
#[derive(Clone)]
pub(super) struct Broker {
    pub(super) name: &'static str,
    pub(super) state: Arc<Mutex<State>>,
}

impl Broker {
    pub(super) fn new(name: &'static str) -> Self {
        let state = State { next_session: if name == "local" { 100 } else { 200 }, ..State::default() };
        Self { name, state: Arc::new(Mutex::new(state)) }
    }

    pub(super) fn named(&self) -> (String, Arc<dyn kernel::Service>) {
        let broker = self.clone();
        let handler = Arc::new(move |call: Call| broker.clone().handle(call));
        FakeService { handler: Some(handler), ..FakeService::new(self.name) }.named()
    }

    /// Appends records to a topic, and wakes the fetch that waits.
    pub(super) fn append(&self, topic: TopicId, records: &[u8]) {
        let mut state = self.state.lock();
        state.records.insert(topic.to_string(), records.to_vec());
        if let Some(parked) = state.parked.take() {
            let _ = parked.send(());
        }
    }

    /// What it has been asked since the last time.
    pub(super) fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.state.lock().asked)
    }

    fn handle(self, call: Call) -> ReplyFuture {
        let (api, version) = (call.header.api, call.header.version);
        let request = api.message(Direction::Request).unwrap();
        let request = value::decode(request, version, call.body.raw()).unwrap();
        let is_dropped = Arc::new(Mutex::new(false));
        self.state.lock().asked.push(Asked {
            api,
            request: request.clone(),
            origin: call.origin.clone(),
            is_dropped: Arc::clone(&is_dropped),
        });
        if api == Api::FETCH {
            let guard = DropGuard(Some(is_dropped));
            return Box::pin(self.fetch(version, request, guard, call));
        }
        Box::pin(ready(self.answer(&call, &request)))
    }

    fn answer(&self, call: &Call, request: &Value) -> Result<Option<Reply>, Hangup> {
        let (api, version) = (call.header.api, call.header.version);
        if request.get("Acks") == Some(&Value::Int(0)) {
            return Ok(None);
        }
        let (asked, told) = match api {
            Api::PRODUCE => ("TopicData", "Responses"),
            _ => ("Topics", "Topics"),
        };
        let echo = |topic: &Value| {
            let mut fields = vec![("ErrorMessage", text(self.name))];
            for field in ["Name", "TopicId"] {
                fields.extend(topic.get(field).map(|value| (field, value.clone())));
            }
            Value::Struct(fields)
        };
        let mut topics: Vec<Value> = request.get(asked).unwrap().elements().iter().map(echo).collect();
        if request.get(asked) == Some(&Value::Null) {
            let names = ["orders", "legacy.orders"];
            topics.extend(names.map(|name| Value::Struct(vec![("Name", text(name))])));
        }
        let response = Value::Struct(vec![(told, Value::Array(topics)), ("ClusterId", text(self.name))]);
        let message = api.message(Direction::Response).unwrap();
        Ok(Some(Reply::new(Bytes::from(value::encode(message, version, &response).unwrap()))))
    }

    /// Answers with the records that there are; if it may wait, once there are some.
    async fn fetch(
        self,
        version: i16,
        request: Value,
        mut guard: DropGuard,
        call: Call,
    ) -> Result<Option<Reply>, Hangup> {
        let int = |name: &str| request.get(name).unwrap().as_int().unwrap();
        let (id, epoch) = (int("SessionId"), int("SessionEpoch"));
        let mut session = id;
        if epoch <= 0 {
            self.state.lock().sessions.remove(&id);
            session = 0;
        } else {
            let mut state = self.state.lock();
            let Some(expected) = state.sessions.get_mut(&id) else {
                guard.0 = None;
                return Ok(Some(fetched(version, 70, 0, &[])));
            };
            if *expected != epoch {
                guard.0 = None;
                return Ok(Some(fetched(version, 71, 0, &[])));
            }
            *expected += 1;
        }
        let topics: Vec<Value> = request.get("Topics").unwrap().elements().to_vec();
        if int("MinBytes") > 0 && int("MaxWaitMs") > 0 && self.state.lock().records.is_empty() {
            let (sender, woken) = oneshot::channel();
            self.state.lock().parked = Some(sender);
            let wait = std::time::Duration::from_millis(int("MaxWaitMs") as u64);
            let _ = tokio::time::timeout(wait, woken).await;
        }
        let mut state = self.state.lock();
        if epoch == 0 {
            session = state.next_session;
            state.next_session += 1;
            state.sessions.insert(session, 1);
        }
        let mut rows: Vec<(Value, Vec<u8>)> = Vec::new();
        let new = std::mem::take(&mut state.records);
        for topic in &topics {
            if epoch <= 0 || new.contains_key(&key(topic)) {
                let records = new.get(&key(topic)).cloned().unwrap_or_default();
                rows.push((topic.get("TopicId").unwrap().clone(), records));
            }
        }
        if epoch > 0 && topics.is_empty() {
            // What it was once asked for, which the test knows better.
            rows.extend(new.iter().map(|(id, records)| (Value::Uuid(uuid_of(id)), records.clone())));
        }
        guard.0 = None;
        drop(call);
        Ok(Some(fetched(version, 0, session, &rows)))
    }
}

/// Notes that a fetch was dropped before it was answered.
struct DropGuard(Option<Arc<Mutex<bool>>>);

impl Drop for DropGuard {
    fn drop(&mut self) {
        if let Some(is_dropped) = &self.0 {
            *is_dropped.lock() = true;
        }
    }
}

fn key(topic: &Value) -> String {
    match topic.get("TopicId") {
        Some(Value::Uuid(id)) => TopicId(*id).to_string(),
        other => panic!("{other:?} is no topic id"),
    }
}

fn uuid_of(key: &str) -> Uuid {
    let all = [ORDERS, LEGACY_ORDERS, LEGACY_LOST, UNKNOWN];
    all.iter().find(|id| id.to_string() == key).unwrap().0
}

fn fetched(version: i16, error: i64, session: i64, rows: &[(Value, Vec<u8>)]) -> Reply {
    let topic = |(id, records): &(Value, Vec<u8>)| {
        let partition = Value::Struct(vec![("Records", Value::Bytes(records.clone()))]);
        Value::Struct(vec![("TopicId", id.clone()), ("Partitions", Value::Array(vec![partition]))])
    };
    let body = Value::Struct(vec![
        ("ErrorCode", Value::Int(error)),
        ("SessionId", Value::Int(session)),
        ("Responses", Value::Array(rows.iter().map(topic).collect())),
    ]);
    let message = Api::FETCH.message(Direction::Response).unwrap();
    Reply::new(Bytes::from(value::encode(message, version, &body).unwrap()))
}

/// The outcome of a call that is ready at once.
pub(super) fn at_once(route: &Route, call: Call) -> Option<Reply> {
    route.clone().call(call).now_or_never().expect("it waits").unwrap()
}
