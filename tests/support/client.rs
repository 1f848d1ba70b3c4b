//! A client that can say anything, and that takes silence for a failure.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use kernel::records::{BatchBuilder, Codec, NewRecord};
use kernel::schema::value::{self, Value};
use kernel::schema::{Direction, walk};
use kernel::{Api, Header};
use uuid::Uuid;

/// How long the broker may keep silent, also on a machine that is busy with others; longer is a hang.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// No reply of these tests comes near it.
const REPLY_BYTES_MAX: i32 = 16 << 20;

/// What came from the broker.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A frame: its correlation id and what follows that.
    Reply(i32, Vec<u8>),
    /// It closed the connection.
    Closed,
}

/// One connection.
pub(crate) struct Client {
    stream: TcpStream,
    last_id: i32,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream, last_id: 0 }
    }

    /// A second handle to the same connection, for a thread that writes while this one reads.
    pub(crate) fn another_end(&self) -> Self {
        Self { stream: self.stream.try_clone().unwrap(), last_id: 0 }
    }

    /// Sends bytes as they are. The broker may have closed already; whether it has is heard, not felt.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            assert!(is_closed(&error), "the broker takes no bytes: {error}");
        }
    }

    /// Tells the broker that nothing more will be sent.
    pub(crate) fn finish(&mut self) {
        // It fails where the broker has closed already, which is heard then.
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Waits for the broker; `what` it was told stands in the failure when it keeps silent.
    pub(crate) fn hear(&mut self, what: &str) -> Heard {
        let mut prefix = [0; 8];
        if !self.read(&mut prefix, what) {
            return Heard::Closed;
        }
        let [length, correlation_id] = [0, 4].map(|at| {
            let bytes: [u8; 4] = prefix[at..at + 4].try_into().unwrap();
            i32::from_be_bytes(bytes)
        });
        assert!((4..REPLY_BYTES_MAX).contains(&length), "{what}: a reply of {length} bytes");
        let mut rest = vec![0; length as usize - 4];
        if self.read(&mut rest, what) { Heard::Reply(correlation_id, rest) } else { Heard::Closed }
    }

    /// Waits for the broker to close, and fails if it answers instead.
    pub(crate) fn hear_closed(&mut self, what: &str) {
        let heard = self.hear(what);
        assert!(matches!(heard, Heard::Closed), "{what}: the broker answered {heard:02x?}");
    }

    /// Fills the buffer; says whether the connection lasted so long.
    fn read(&mut self, buffer: &mut [u8], what: &str) -> bool {
        match self.stream.read_exact(buffer) {
            Ok(()) => true,
            Err(error) if is_closed(&error) => false,
            Err(error) => panic!("{what}: neither answered nor closed within {PATIENCE:?}: {error}"),
        }
    }

    /// Sends a request and gives the body of its answer.
    pub(crate) fn ask(&mut self, api: Api, version: i16, request: &Value) -> Value {
        self.last_id += 1;
        let id = self.last_id;
        self.send(&frame(api, version, id, &encoded(api, version, request)));
        let what = format!("{api} {version}");
        match self.hear(&what) {
            Heard::Reply(correlation_id, rest) => {
                assert_eq!(correlation_id, id, "{what}: the correlation id");
                decoded(api, version, &rest)
            }
            Heard::Closed => panic!("{what}: the broker closed the connection"),
        }
    }

    /// Asks for the metadata of topics, which are not created by that.
    pub(crate) fn metadata(&mut self, topics: &[&str]) -> Value {
        self.ask(Api::METADATA, 12, &metadata_request(topics))
    }

    /// Makes a client metrics subscription: without one, the broker offers no API of clients that push them.
    pub(crate) fn subscribe_to_metrics(&mut self) {
        const CLIENT_METRICS: Value = Value::Int(16);
        const SET: Value = Value::Int(0);
        let config = fields([("Name", text("metrics")), ("ConfigOperation", SET), ("Value", text("none."))]);
        let resource = fields([
            ("ResourceType", CLIENT_METRICS),
            ("ResourceName", text("all")),
            ("Configs", Value::Array(vec![config])),
        ]);
        let request = fields([("Resources", Value::Array(vec![resource]))]);
        let answer = self.ask(Api::INCREMENTAL_ALTER_CONFIGS, 1, &request);
        let altered = &answer.get("Responses").unwrap().elements()[0];
        assert_eq!(altered.get("ErrorCode"), Some(&Value::Int(0)), "{altered:?}");
    }

    /// Creates a topic with one partition, and gives its id.
    pub(crate) fn create_topic(&mut self, name: &str) -> Uuid {
        let topic = fields([
            ("Name", text(name)),
            ("NumPartitions", Value::Int(1)),
            ("ReplicationFactor", Value::Int(1)),
        ]);
        let request = fields([("Topics", Value::Array(vec![topic])), ("TimeoutMs", Value::Int(30_000))]);
        let answer = self.ask(Api::CREATE_TOPICS, 7, &request);
        let created = &answer.get("Topics").unwrap().elements()[0];
        assert_eq!(created.get("ErrorCode"), Some(&Value::Int(0)), "{created:?}");
        match created.get("TopicId") {
            Some(Value::Uuid(id)) => *id,
            other => panic!("the id of {name} is {other:?}"),
        }
    }
}

pub(crate) fn metadata_request(topics: &[&str]) -> Value {
    let topics = topics.iter().map(|name| fields([("Name", text(name))])).collect();
    fields([("Topics", Value::Array(topics)), ("AllowAutoTopicCreation", Value::Bool(false))])
}

/// A Produce of one record to partition 0 of a topic, in every version.
pub(crate) fn produce_request(name: &str, id: Uuid, acks: i64, record: &[u8]) -> Value {
    let mut batch = BatchBuilder::new(Codec::None);
    batch.push(NewRecord { timestamp: 1_700_000_000_000, value: Some(record), ..NewRecord::default() });
    let records = Value::Bytes(batch.build().unwrap().to_vec());
    let partition = fields([("Index", Value::Int(0)), ("Records", records)]);
    let topic = fields([
        ("Name", text(name)),
        ("TopicId", Value::Uuid(id)),
        ("PartitionData", Value::Array(vec![partition])),
    ]);
    fields([
        ("Acks", Value::Int(acks)),
        ("TimeoutMs", Value::Int(30_000)),
        ("TopicData", Value::Array(vec![topic])),
    ])
}

/// A struct with these fields; the others take their defaults.
pub(crate) fn fields<const N: usize>(pairs: [(&'static str, Value); N]) -> Value {
    Value::Struct(pairs.into())
}

pub(crate) fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

/// A request's body.
pub(crate) fn encoded(api: Api, version: i16, request: &Value) -> Vec<u8> {
    value::encode(api.message(Direction::Request).unwrap(), version, request).unwrap()
}

/// The body of an answer, from what follows its correlation id; it must be whole, with nothing behind it.
pub(crate) fn decoded(api: Api, version: i16, rest: &[u8]) -> Value {
    let response = api.message(Direction::Response).unwrap();
    let body = match api.response_header_version(version) {
        0 => rest,
        _ => rest.strip_prefix(&[0]).unwrap_or_else(|| panic!("{api} {version}: no response header")),
    };
    assert_eq!(walk::check(response, version, body), Ok(body.len()), "{api} {version}: {body:02x?}");
    value::decode(response, version, body).unwrap()
}

/// A request as it goes over the wire.
pub(crate) fn frame(api: Api, version: i16, correlation_id: i32, body: &[u8]) -> Vec<u8> {
    let header = Header { api, version, correlation_id, client_id: Some(Arc::from("hostile")) };
    kernel::frame::encode_request(&header, body)
}

fn is_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | UnexpectedEof)
}
