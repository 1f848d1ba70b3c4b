//! Framing over a pipe, above a stack that is scripted by the request's body.

mod endings;
mod frames;
mod order;
mod versions;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kernel::budget::Budget;
use kernel::drain::{Drain, DrainSignal, drain};
use kernel::frame::encode_request;
use kernel::session::HostPort;
use kernel::stream::Connection;
use kernel::{Api, Call, Door, Hangup, Header, Reply, ReplyFuture, Served, ServedApi, Session, Stack};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{CloseReason, Framing, Settings, Traffic};

/// Time is paused in these tests, so a test that would hang fails immediately.
const HOUR: Duration = Duration::from_secs(3600);

/// Produce, and Metadata up to a version.
fn served(metadata_max: i16) -> Served {
    let range = |api: Api, min, max, served_min| ServedApi { api, min, max, served_min };
    Served::new([range(Api::PRODUCE, 0, 13, 3), range(Api::METADATA, 0, metadata_max, 0)])
}

/// A stack whose calls are scripted by their bodies, and the log of the calls.
struct Script {
    started: AtomicUsize,
    ended: Mutex<Vec<String>>,
    gate: Semaphore,
}

impl Script {
    fn started(&self) -> usize {
        self.started.load(Ordering::SeqCst)
    }

    fn play(self: Arc<Self>, call: Call) -> ReplyFuture {
        self.started.fetch_add(1, Ordering::SeqCst);
        let line = String::from_utf8_lossy(call.body.raw()).into_owned();
        assert!(!line.starts_with("panic before the future"), "as the script says");
        Box::pin(async move {
            let mut reply = Reply::new(call.body.raw().clone());
            let (verb, argument) = line.split_once(' ').unwrap_or((line.as_str(), ""));
            let ms = Duration::from_millis(argument.parse().unwrap_or(0));
            match verb {
                "none" => return Ok(None),
                "hangup" => return Err(Hangup::because("as the script says")),
                "panic" => panic!("as the script says"),
                "close" => reply.close = true,
                "mute" => reply.mute = Some(ms),
                "sleep" => sleep(ms).await,
                "park" => call.session.ended().await,
                "gate" => self.gate.acquire().await.unwrap().forget(),
                _ => {}
            }
            self.ended.lock().push(line.clone());
            // Its ticket and its memory are held until here.
            drop(call);
            Ok(Some(reply))
        })
    }
}

/// Framing over a stack, with its surroundings.
struct Rig {
    framing: Arc<Framing>,
    script: Arc<Script>,
    traffic: Arc<Traffic>,
    requests: Budget,
    signal: DrainSignal,
    drain: Drain,
}

impl Rig {
    fn new() -> Self {
        Self::with(Settings::default(), 1 << 20)
    }

    fn with(settings: Settings, request_memory_bytes: usize) -> Self {
        let script = Arc::new(Script {
            started: AtomicUsize::new(0),
            ended: Mutex::default(),
            gate: Semaphore::new(0),
        });
        let played = Arc::clone(&script);
        let door = Door::from_fn(move |call| Arc::clone(&played).play(call));
        Self::build(settings, request_memory_bytes, script, door)
    }

    fn over(door: Door) -> Self {
        let rig = Self::new();
        Self::build(Settings::default(), 1 << 20, rig.script, door)
    }

    /// The scripted stack, which serves what `served` returns.
    fn offering(served: impl Fn() -> Served + Send + Sync + 'static) -> Self {
        let script = Self::new().script;
        let played = Arc::clone(&script);
        let door = Door::from_fn(move |call| Arc::clone(&played).play(call));
        Self::serving(Settings::default(), 1 << 20, script, door, served)
    }

    fn build(settings: Settings, request_memory_bytes: usize, script: Arc<Script>, door: Door) -> Self {
        Self::serving(settings, request_memory_bytes, script, door, || served(13))
    }

    fn serving(
        settings: Settings,
        request_memory_bytes: usize,
        script: Arc<Script>,
        door: Door,
        served: impl Fn() -> Served + Send + Sync + 'static,
    ) -> Self {
        let requests = Budget::for_requests(request_memory_bytes);
        let replies = Budget::for_replies(8 << 20);
        let traffic = Arc::new(Traffic::new(requests.clone(), replies.clone()));
        let (signal, drain) = drain();
        let stack = Arc::new(Stack::build(Vec::new(), door, served));
        let framing = Framing::new(&settings, stack, (requests.clone(), replies), Arc::clone(&traffic));
        Self { framing: Arc::new(framing), script, traffic, requests, signal, drain }
    }

    fn connect(&self) -> Client {
        self.connect_through(4 << 20)
    }

    fn connect_through(&self, pipe_bytes: usize) -> Client {
        let (pipe, server) = tokio::io::duplex(pipe_bytes);
        let address = SocketAddr::from(([127, 0, 0, 1], 9092));
        let advertised = HostPort { host: "localhost".to_owned(), port: 9092 };
        let session = Session::new(1, address, address, Arc::from("test"), advertised, self.drain.clone());
        let connection = Connection { stream: Box::new(server), session, guards: Vec::new() };
        let framing = Arc::clone(&self.framing);
        Client { pipe, served: tokio::spawn(async move { framing.serve_connection(connection).await }) }
    }
}

struct Client {
    pipe: DuplexStream,
    served: JoinHandle<CloseReason>,
}

impl Client {
    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.pipe.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The correlation id and the body of the next reply.
    async fn receive(&mut self) -> (i32, Vec<u8>) {
        let reply = async {
            let length = self.pipe.read_i32().await.unwrap();
            let correlation_id = self.pipe.read_i32().await.unwrap();
            let mut body = vec![0; usize::try_from(length).unwrap() - 4];
            self.pipe.read_exact(&mut body).await.unwrap();
            (correlation_id, body)
        };
        timeout(HOUR, reply).await.unwrap()
    }

    async fn expect(&mut self, line: &str) {
        let (_, body) = self.receive().await;
        assert_eq!(String::from_utf8_lossy(&body), line);
    }

    /// Expects the end, and returns why the connection ended.
    async fn expect_end(mut self) -> CloseReason {
        let mut rest = Vec::new();
        timeout(HOUR, self.pipe.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert_eq!(rest, [0; 0]);
        drop(self.pipe);
        timeout(HOUR, self.served).await.unwrap().unwrap()
    }
}

fn request_of(api: Api, version: i16, correlation_id: i32, body: &[u8]) -> Vec<u8> {
    encode_request(&Header { api, version, correlation_id, client_id: Some(Arc::from("test")) }, body)
}

/// A request whose body is a line for the script.
fn request(line: &str) -> Vec<u8> {
    request_of(Api::METADATA, 1, 7, line.as_bytes())
}

/// Lets everything run that takes at most a millisecond.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}
