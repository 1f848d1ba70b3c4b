//! What a client sends on a connection, to a broker over a store in memory: requests of every API at every version,
//! several of which may wait for each other.
//!
//! Each input has a broker of its own, so that it fails alone as it did among others. Keys and versions that are not
//! served stand for some that are; [`frame`](super::frame) is for those.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kernel::budget::{Budget, Lease};
use kernel::clock::{Clock, StoreClock};
use kernel::drain::{Drain, DrainSignal, drain};
use kernel::ids::CountingIds;
use kernel::parts::{self, Part};
use kernel::records::Codec;
use kernel::schema::value::{self, Value};
use kernel::schema::{Direction, Mark, walk};
use kernel::service::{RegisterService, Service, ServiceParts};
use kernel::split::{self, ItemKey, Whole};
use kernel::ticket::Lane;
use kernel::{Api, Body, Call, ErrorCode, Hangup, Header, NodeId, Reply, ServedApi, Session, Stack, Ticket};
use kernel::{consumer_protocol, frame as envelope};
use storage::{Settings, Storage};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use super::frame::{paused_runtime, request, session};
use super::{Bounds, Target, seeds, words};
use crate::dice::Fill;
use crate::random::Random;
use crate::repair;

/// The time at which every broker's clock begins.
const NOW_MS: i64 = 1_700_000_000_000;
/// Requests of one input; what follows is left alone.
const REQUESTS_MAX: usize = 24;
/// For so long a request is waited for before the next one is sent, as it may wait for that. A new group waits for three
/// seconds for more members; none of them passes while there is work.
const ALONE: Duration = Duration::from_secs(4);
/// And for so long all are waited for in the end. Afterwards they are dropped, as those of a closed connection.
const TOGETHER: Duration = Duration::from_secs(60);

/// The target.
pub(super) struct Request {
    runtime: Runtime,
    served: Vec<ServedApi>,
    drain: Drain,
    // One that is dropped would start the drain.
    _signal: DrainSignal,
}

/// A clock that goes with the runtime's time, which stands still while there is work.
struct RuntimeClock {
    began: Instant,
    pauses: watch::Sender<u64>,
}

impl RuntimeClock {
    fn new() -> Self {
        Self { began: Instant::now(), pauses: watch::Sender::new(0) }
    }
}

impl StoreClock for RuntimeClock {
    fn pauses(&self) -> watch::Receiver<u64> {
        self.pauses.subscribe()
    }
}

impl Clock for RuntimeClock {
    fn now_ms(&self) -> i64 {
        NOW_MS + self.began.elapsed().as_millis() as i64
    }
}

impl Request {
    pub(super) fn new() -> Self {
        let (signal, drain) = drain();
        Self { runtime: paused_runtime(), served: seeds::served(), drain, _signal: signal }
    }

    /// A served API and version in place of what a header has.
    fn fit(&self, header: Header) -> Header {
        let by_key = |served: &&ServedApi| served.api == header.api;
        let any = || &self.served[usize::from(header.api.0 as u16) % self.served.len()];
        let served = self.served.iter().find(by_key).unwrap_or_else(any);
        let versions = (served.max - served.served_min) as u16 + 1;
        let version = if served.serves(header.version) {
            header.version
        } else {
            served.served_min + (header.version as u16 % versions) as i16
        };
        Header { api: served.api, version, ..header }
    }

    /// The requests of an input.
    fn requests(&self, input: &[u8]) -> Vec<(Header, Bytes)> {
        let whole = Bytes::copy_from_slice(input);
        let frames = repair::frames(input).into_iter().map(|frame| whole.slice(frame));
        let requests = frames.filter_map(|frame| envelope::parse_request(frame).ok());
        requests.take(REQUESTS_MAX).map(|(header, body)| (self.fit(header), body)).collect()
    }

    async fn serve(&self, requests: Vec<(Header, Bytes)>) -> Result<(), String> {
        let broker = Broker::start(self.drain.clone()).await?;
        let served = broker.serve_all(requests).await;
        broker.stop().await?;
        served
    }
}

/// A broker and one connection to it.
struct Broker {
    service: Arc<dyn Service>,
    background: JoinHandle<String>,
    stack: Stack,
    session: Arc<Session>,
    lane: Arc<Lane>,
}

impl Broker {
    /// A broker that has one topic, with records.
    async fn start(drain: Drain) -> Result<Self, String> {
        let clock = Arc::new(RuntimeClock::new());
        let parts = ServiceParts {
            cluster_id: Arc::from("fuzz"),
            node_id: Some(NodeId(1)),
            rack: None,
            listeners: "MAIN://127.0.0.1:9092".to_owned(),
            replies: Budget::for_replies(16 << 20),
            clock: clock.clone(),
            time: clock,
            ids: Arc::new(CountingIds::default()),
        };
        let service = Storage::build(&Settings::at("memory://"), parts)?;
        service.open().await?;
        let background = tokio::spawn(Arc::clone(&service).run());
        let (door, offered) = (service.door(), Arc::clone(&service));
        let stack = Stack::build(Vec::new(), door, move || offered.served());
        let session = Arc::new(session(drain));
        let broker = Self { service, background, stack, session, lane: Lane::new() };
        for (api, body) in set_up() {
            let header = Header { api, version: SET_UP_VERSION, correlation_id: 0, client_id: None };
            let call = broker.call(&header, body.into(), broker.lane.issue());
            broker.stack.enter(call).await.map_err(|hangup| format!("{api} of the set-up: {hangup}"))?;
        }
        Ok(broker)
    }

    fn call(&self, header: &Header, body: Bytes, ticket: Ticket) -> Call {
        let body = Body::new(body, Lease::default());
        Call { header: header.clone(), body, session: Arc::clone(&self.session), ticket, origin: None }
    }

    async fn serve_all(&self, requests: Vec<(Header, Bytes)>) -> Result<(), String> {
        let mut waiting = Vec::new();
        for (header, body) in requests {
            read_alone(&header, &body, |body| self.call(&header, body, Ticket::only()))?;
            let reply = self.stack.enter(self.call(&header, body, self.lane.issue()));
            let mut running = tokio::spawn(reply);
            match timeout(ALONE, &mut running).await {
                Ok(outcome) => answered(&header, outcome)?,
                Err(_) => waiting.push((header, running)),
            }
        }
        // The client will send no more: what can be answered is.
        self.session.end();
        let until = Instant::now() + TOGETHER;
        for (header, mut running) in waiting {
            match tokio::time::timeout_at(until, &mut running).await {
                Ok(outcome) => answered(&header, outcome)?,
                Err(_) => {
                    running.abort();
                    let _ = running.await;
                }
            }
        }
        Ok(())
    }

    async fn stop(self) -> Result<(), String> {
        self.background.abort();
        if let Ok(why) = self.background.await {
            return Err(format!("the broker's background work has ended: {why}"));
        }
        self.service.close().await
    }
}

/// The version of the requests of the set-up.
const SET_UP_VERSION: i16 = 7;

/// Creates the topic that the seeds name, with a batch in it.
fn set_up() -> [(Api, Vec<u8>); 2] {
    let text = |text: &str| Value::String(text.to_owned());
    let one = |fields: Vec<(&'static str, Value)>| Value::Array(vec![Value::Struct(fields)]);
    let create = set_up_request(Api::CREATE_TOPICS, |request| {
        let (partitions, replicas) = (Value::Int(2), Value::Int(1));
        let topic = vec![
            ("Name", text(seeds::TOPIC)),
            ("NumPartitions", partitions),
            ("ReplicationFactor", replicas),
        ];
        request.set("Topics", one(topic));
    });
    let produce = set_up_request(Api::PRODUCE, |request| {
        let records = Value::Bytes(seeds::batch(Codec::None));
        let partitions = one(vec![("Index", Value::Int(0)), ("Records", records)]);
        request.set("Acks", Value::Int(-1));
        request.set("TopicData", one(vec![("Name", text(seeds::TOPIC)), ("PartitionData", partitions)]));
    });
    [create, produce]
}

fn set_up_request(api: Api, change: impl FnOnce(&mut Value)) -> (Api, Vec<u8>) {
    let body = api.message(Direction::Request).and_then(|message| {
        let mut request = value::default_struct(message.fields, SET_UP_VERSION);
        change(&mut request);
        value::encode(message, SET_UP_VERSION, &request).ok()
    });
    (api, body.unwrap_or_default())
}

/// What layers do to a request: walk over it, read it as a tree, divide it. Nothing here may go wrong once its bounds are
/// checked.
fn read_alone(header: &Header, body: &Bytes, call: impl Fn(Bytes) -> Call) -> Result<(), String> {
    let Some(message) = header.api.message(Direction::Request) else { return Ok(()) };
    let (api, version) = (header.api, header.version);
    let _ = consumer_protocol::read_subscription(body);
    let _ = consumer_protocol::read_assignment(body);
    let splitter = split::find(api);
    let mut is_for_all = false;
    let visit = |found: walk::Found<'_>| {
        is_for_all |= splitter.is_some_and(|splitter| (splitter.is_for_all)(version, &found));
    };
    if walk::walk(message, version, body, visit).is_err() {
        return Ok(());
    }
    let failed = |what: &str, why: &dyn std::fmt::Display| format!("{api} {version} cannot be {what}: {why}");
    let tree = value::decode(message, version, body).map_err(|why| failed("read as a tree", &why))?;
    value::encode(message, version, &tree).map_err(|why| failed("written again", &why))?;
    walk::rewrite(message, version, body, |_| None).map_err(|why| failed("walked over again", &why))?;
    if api == Api::FETCH {
        // The typed decoder may refuse what the schema allows, such as a text that is not UTF-8.
        let _ = split::fetch::FetchRequest::read(body, version);
    }
    let Some(splitter) = splitter else { return Ok(()) };
    let whole = Whole { version, body, is_for_all, owner: &owner, owners: &[0, 1] };
    let Ok(division) = splitter.divide(&whole) else { return Ok(()) };
    let mut replies = Vec::new();
    for part in division.parts {
        walk::check(message, version, &part.body).map_err(|why| failed("divided into whole parts", &why))?;
        match call(part.body).refuse(ErrorCode::UnknownServerError, "") {
            Ok(Some(reply)) => replies.push(reply),
            _ => return Ok(()),
        }
    }
    let _ = division.merger.merge(replies, &owner);
    Ok(())
}

/// Topics by the length of their names, and ids by their last bit, are of two services.
fn owner(key: &ItemKey) -> usize {
    match key {
        ItemKey::Topic(name) | ItemKey::Resource(_, name) => name.as_str().len() % 2,
        ItemKey::TopicId(id) => (id.0.as_u128() % 2) as usize,
        ItemKey::Nothing => 0,
    }
}

type Outcome = Result<Result<Option<Reply>, Hangup>, tokio::task::JoinError>;

/// A reply is one that its client can read.
fn answered(header: &Header, outcome: Outcome) -> Result<(), String> {
    let (api, version) = (header.api, header.version);
    let outcome = outcome.map_err(|error| format!("{api} {version} did not end: {error}"))?;
    let Ok(Some(mut reply)) = outcome else { return Ok(()) };
    let Some(message) = api.message(Direction::Response) else {
        return Err(format!("{api} has no response, and gave one"));
    };
    let unreadable =
        |why: &dyn std::fmt::Display| format!("the reply to {api} {version} cannot be read: {why}");
    // ApiVersions in a version too new is answered in version 0, by framing; here no version is.
    let length = walk::walk_own(message, version, &reply.body, |_| {}).map_err(|why| unreadable(&why))?;
    if length != reply.body.len() {
        return Err(unreadable(&format!("{} bytes, of which {length} are its message", reply.body.len())));
    }
    let (parts, bytes) = parts::of(header, &mut reply).map_err(|why| unreadable(&why))?;
    let ready = parts.iter().map(|part| match part {
        Part::Bytes(bytes) => bytes.len() as u64,
        Part::Later(later) => later.bytes,
    });
    let ready: u64 = ready.sum();
    if ready == bytes {
        Ok(())
    } else {
        Err(unreadable(&format!("{bytes} bytes are announced, {ready} there")))
    }
}

impl Target for Request {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for served in &self.served {
            for version in served.served_min..=served.max {
                let seed = u64::from(version as u16);
                all.push(request(served.api, version, Fill::Everything, seed));
                all.push(request(served.api, version, Fill::Anything, seed + 100));
            }
        }
        all.extend(sequences());
        all
    }

    fn words(&self) -> Vec<Vec<u8>> {
        let mut all = words(&[
            seeds::TOPIC,
            seeds::GROUP,
            seeds::MEMBER,
            seeds::TRANSACTIONAL_ID,
            "Ongoing",
            "fuzz",
            "consumer",
            "range",
            "uniform",
            "roundrobin",
            "cooperative-sticky",
            "__consumer_offsets",
            "cleanup.policy",
            "compact",
            "delete",
            "retention.ms",
            "-1",
            "compression.type",
            "zstd",
            "max.message.bytes",
            "message.timestamp.type",
            "LogAppendTime",
            "1-",
            ".*",
            "(a|t)+",
            "earliest",
        ]);
        all.extend(self.served.iter().map(|served| served.api.0.to_be_bytes().to_vec()));
        all.push(seeds::TOPIC_ID.as_bytes().to_vec());
        all.push(seeds::batch(Codec::None));
        all
    }

    /// A topic may have thousands of partitions, and a reply a few kilobytes for each element of its request.
    fn bounds(&self) -> Bounds {
        Bounds { input_bytes_max: 16 << 10, constant: 192 << 20, per_byte: 4000 }
    }

    /// Lengths of frames, or checksums of the batches in them.
    fn repair(&self, input: &mut [u8], random: &mut Random) {
        repair::lengths(input);
        for frame in repair::frames(input) {
            let bytes = Bytes::copy_from_slice(&input[frame.clone()]);
            let Ok((header, body)) = envelope::parse_request(bytes) else { continue };
            let header = self.fit(header);
            let Some(message) = header.api.message(Direction::Request) else { continue };
            let mut batches = Vec::new();
            // What was found before a fault is mended too.
            let _ = walk::walk(message, header.version, &body, |found| {
                if let (Mark::Records, walk::RawValue::Bytes(records)) = (found.field.mark, found.value) {
                    batches.push(found.at.end - records.len()..found.at.end);
                }
            });
            let body_at = frame.end - body.len();
            for batch in batches {
                repair::batch(&mut input[body_at + batch.start..body_at + batch.end], random);
            }
        }
    }

    fn run(&mut self, input: &[u8]) -> Result<(), String> {
        self.runtime.block_on(self.serve(self.requests(input)))
    }
}

/// Requests that lead somewhere only together.
fn sequences() -> Vec<Vec<u8>> {
    let newest = |apis: &[Api]| {
        let requests = apis.iter().enumerate();
        let served = requests.map(|(index, api)| {
            let version =
                seeds::served().iter().find(|served| served.api == *api).map_or(0, |served| served.max);
            request(*api, version, Fill::Everything, index as u64)
        });
        served.collect::<Vec<_>>().concat()
    };
    vec![
        newest(&[Api::PRODUCE, Api::PRODUCE, Api::FETCH, Api::LIST_OFFSETS, Api::DELETE_RECORDS, Api::FETCH]),
        newest(&[
            Api::JOIN_GROUP,
            Api::JOIN_GROUP,
            Api::SYNC_GROUP,
            Api::HEARTBEAT,
            Api::OFFSET_COMMIT,
            Api::OFFSET_FETCH,
        ]),
        newest(&[
            Api::JOIN_GROUP,
            Api::JOIN_GROUP,
            Api::LEAVE_GROUP,
            Api::DESCRIBE_GROUPS,
            Api::DELETE_GROUPS,
        ]),
        newest(&[Api::CONSUMER_GROUP_HEARTBEAT, Api::CONSUMER_GROUP_HEARTBEAT, Api::CONSUMER_GROUP_DESCRIBE]),
        newest(&[
            Api::CREATE_TOPICS,
            Api::CREATE_PARTITIONS,
            Api::METADATA,
            Api::DELETE_TOPICS,
            Api::METADATA,
        ]),
        newest(&[Api::INIT_PRODUCER_ID, Api::PRODUCE, Api::DESCRIBE_PRODUCERS]),
        newest(&[
            Api::INIT_PRODUCER_ID,
            Api::ADD_OFFSETS_TO_TXN,
            Api::TXN_OFFSET_COMMIT,
            Api::PRODUCE,
            Api::DESCRIBE_TRANSACTIONS,
            Api::LIST_TRANSACTIONS,
            Api::WRITE_TXN_MARKERS,
            Api::END_TXN,
        ]),
        newest(&[Api::INCREMENTAL_ALTER_CONFIGS, Api::DESCRIBE_CONFIGS, Api::PRODUCE, Api::FETCH]),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without what the set-up makes, most requests would only be told that there is no such topic.
    #[test]
    fn the_seeds_find_the_topic_of_the_set_up() {
        let target = Request::new();
        let read = |topic: uuid::Uuid| {
            target.runtime.block_on(async {
                let broker = Broker::start(target.drain.clone()).await.unwrap();
                let found = broker.service.topics().by_id(vec![kernel::TopicId(topic)]).await.unwrap();
                let ends = vec![kernel::TopicPartition { topic: kernel::TopicId(topic), partition: 0 }];
                let ends = broker.service.topics().ends(ends).await.unwrap();
                broker.stop().await.unwrap();
                (found.first().map(|topic| topic.name.to_string()), ends)
            })
        };
        assert_eq!(read(seeds::TOPIC_ID), (Some(seeds::TOPIC.to_owned()), vec![Some(3)]));
    }
}
