//! A connection's bytes through the framing layer: lengths, headers, and requests as far as their bounds.

use std::net::SocketAddr;
use std::sync::Arc;

use kernel::budget::Budget;
use kernel::drain::{Drain, DrainSignal, drain};
use kernel::layer::Framer;
use kernel::schema::Direction;
use kernel::session::HostPort;
use kernel::stream::Connection;
use kernel::units::ByteSize;
use kernel::{Api, Call, Door, ErrorCode, Hangup, Header, ReplyFuture, Session, Stack, frame};
use layers::framing::{Framing, Settings, Traffic};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::runtime::Runtime;

use super::{Bounds, Target, seeds, words};
use crate::dice::Fill;
use crate::random::Random;
use crate::repair;

/// The largest frame, so that inputs can be larger.
const FRAME_BYTES_MAX: u64 = 32 << 10;
/// The pipe holds less than some frames, so that they arrive in pieces.
const PIPE_BYTES: usize = 4 << 10;

/// The target: one framing for all inputs, over a stack that refuses every call.
pub(super) struct Frame {
    runtime: Runtime,
    framing: Framing,
    drain: Drain,
    // One that is dropped would start the drain.
    _signal: DrainSignal,
}

impl Frame {
    pub(super) fn new() -> Self {
        let (requests, replies) = (Budget::for_requests(4 << 20), Budget::for_replies(4 << 20));
        let traffic = Arc::new(Traffic::new(requests.clone(), replies.clone()));
        let stack = Arc::new(Stack::build(Vec::new(), Door::from_fn(refuse), storage::served));
        let settings = Settings { frame_bytes_max: ByteSize(FRAME_BYTES_MAX), ..Settings::default() };
        let framing = Framing::new(&settings, stack, (requests, replies), traffic);
        let (signal, drain) = drain();
        Self { runtime: paused_runtime(), framing, drain, _signal: signal }
    }

    async fn converse(&self, input: &[u8]) -> Vec<u8> {
        let (client, server) = tokio::io::duplex(PIPE_BYTES);
        let session = session(self.drain.clone());
        let connection = Connection { stream: Box::new(server), session, guards: Vec::new() };
        let (_, replies) = tokio::join!(self.framing.serve(connection), talk(client, input));
        replies
    }
}

/// A runtime whose time passes only while nothing else is to be done: nothing waits, and all runs are alike.
pub(super) fn paused_runtime() -> Runtime {
    let built = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    built.unwrap_or_else(|error| panic!("no runtime: {error}"))
}

/// A session on loopback.
pub(super) fn session(drain: Drain) -> Session {
    let address = SocketAddr::from(([127, 0, 0, 1], 9092));
    let advertised = HostPort { host: "localhost".to_owned(), port: 9092 };
    Session::new(1, address, address, Arc::from("fuzz"), advertised, drain)
}

/// Whatever can be read gets an error in the shape of its API.
fn refuse(mut call: Call) -> ReplyFuture {
    let malformed = call.check().map_err(|malformed| Hangup::because(malformed.to_string()));
    let reply = malformed.and_then(|()| call.refuse(ErrorCode::UnknownServerError, "it is only a test"));
    Box::pin(std::future::ready(reply))
}

/// Sends all, and reads until the other side closes.
async fn talk(client: DuplexStream, input: &[u8]) -> Vec<u8> {
    let (mut from, mut to) = tokio::io::split(client);
    let send = async {
        // The other side may close before it has read all.
        let _ = to.write_all(input).await;
        let _ = to.shutdown().await;
    };
    let receive = async {
        let mut replies = Vec::new();
        let _ = from.read_to_end(&mut replies).await;
        replies
    };
    tokio::join!(send, receive).1
}

impl Target for Frame {
    fn seeds(&self) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        for served in seeds::served() {
            for (fill, version) in [(Fill::Everything, served.max), (Fill::Anything, served.served_min)] {
                all.push(request(served.api, version, fill, 1));
            }
        }
        // As a client begins.
        let first = request(Api::API_VERSIONS, 4, Fill::Everything, 2);
        all.push([first, request(Api::METADATA, 12, Fill::Everything, 2)].concat());
        all
    }

    fn words(&self) -> Vec<Vec<u8>> {
        let mut all =
            words(&["GET / HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "SSH-2.0-OpenSSH\r\n"]);
        all.push(vec![0x16, 3, 1, 0, 0xc8, 1]);
        all.extend([0, 1, 3, 18, 68].map(|key: i16| key.to_be_bytes().to_vec()));
        all.extend([7, 8, FRAME_BYTES_MAX as i32, 1 << 20].map(|length: i32| length.to_be_bytes().to_vec()));
        all
    }

    fn bounds(&self) -> Bounds {
        Bounds { input_bytes_max: 64 << 10, constant: 8 << 20, per_byte: 400 }
    }

    fn repair(&self, input: &mut [u8], _: &mut Random) {
        repair::lengths(input);
    }

    fn run(&mut self, input: &[u8]) -> Result<(), String> {
        let replies = self.runtime.block_on(self.converse(input));
        let mut rest = &replies[..];
        while !rest.is_empty() {
            let cut = || "the connection was closed within a reply".to_owned();
            let (length, after) = rest.split_first_chunk::<4>().ok_or_else(cut)?;
            let length = u32::from_be_bytes(*length) as usize;
            rest = after.get(length..).filter(|_| length >= 4).ok_or_else(cut)?;
        }
        Ok(())
    }
}

/// A request of an API, as a client sends it.
pub(super) fn request(api: Api, version: i16, fill: Fill, seed: u64) -> Vec<u8> {
    let header = Header { api, version, correlation_id: seed as i32, client_id: Some(Arc::from("fuzz")) };
    frame::encode_request(&header, &seeds::body(api, Direction::Request, version, fill, seed))
}
