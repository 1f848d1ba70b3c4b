//! Replies on their way to the client.
//!
//! Like the reader, it keeps its own progress: dropping [`Outbox::flush`] loses nothing.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::mem;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use kernel::budget::Lease;
use kernel::stream::ByteStream;
use kernel::{Header, Reply, frame};
use tokio::io::{AsyncWrite, AsyncWriteExt, WriteHalf};

use super::traffic::Traffic;

/// A part up to this size is appended to the previous one: cheaper than a separate slice in the system call.
const COPIED_BYTES_MAX: usize = 1 << 10;

/// Most parts per system call.
const PARTS_MAX: usize = 64;

/// The writing side of a connection.
pub(super) struct Outbox {
    half: WriteHalf<Box<dyn ByteStream>>,
    /// The parts to write, in order; the first may be partly written.
    parts: VecDeque<Bytes>,
    /// Small parts that follow `parts`.
    small: BytesMut,
    queued_bytes: u64,
    written_bytes: u64,
    unsent: VecDeque<Unsent>,
    is_flushed: bool,
    /// The longest mute requested by queued replies.
    mute: Option<Duration>,
    traffic: Arc<Traffic>,
}

/// A reply that is not completely written.
struct Unsent {
    /// The count of written bytes at which it is complete.
    end: u64,
    _lease: Lease,
}

impl Outbox {
    pub(super) fn new(half: WriteHalf<Box<dyn ByteStream>>, traffic: Arc<Traffic>) -> Self {
        Self {
            half,
            parts: VecDeque::new(),
            small: BytesMut::new(),
            queued_bytes: 0,
            written_bytes: 0,
            unsent: VecDeque::new(),
            is_flushed: true,
            mute: None,
            traffic,
        }
    }

    /// Queues a reply.
    pub(super) fn push(&mut self, header: &Header, reply: Reply) {
        let (prefix, prefix_bytes) = frame::response_prefix(header, &reply);
        self.queued_bytes += (prefix_bytes + reply.body_bytes()) as u64;
        self.small.extend_from_slice(&prefix[..prefix_bytes]);
        let Reply { body, mute, lease, close: _ } = reply;
        for part in body {
            if part.len() <= COPIED_BYTES_MAX {
                self.small.extend_from_slice(&part);
            } else {
                self.seal();
                self.parts.push_back(part);
            }
        }
        self.unsent.push_back(Unsent { end: self.queued_bytes, _lease: lease });
        self.mute = self.mute.max(mute);
        self.is_flushed = false;
    }

    /// The number of replies not completely written.
    pub(super) fn len(&self) -> usize {
        self.unsent.len()
    }

    /// Whether all has been sent.
    pub(super) fn is_idle(&self) -> bool {
        self.is_flushed
    }

    /// Whether a queued reply will mute the connection once it has been sent.
    pub(super) fn will_mute(&self) -> bool {
        self.mute.is_some()
    }

    /// The mute requested by the replies that have been sent.
    pub(super) fn take_mute(&mut self) -> Option<Duration> {
        self.mute.take()
    }

    /// Sends all that is queued.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_flush(context)).await
    }

    /// Shuts down the writing side.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        self.half.shutdown().await
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.parts.push_back(mem::take(&mut self.small).freeze());
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.seal();
        while !self.parts.is_empty() {
            let mut slices = [IoSlice::new(&[]); PARTS_MAX];
            for (slice, part) in slices.iter_mut().zip(&self.parts) {
                *slice = IoSlice::new(part);
            }
            let count = self.parts.len().min(PARTS_MAX);
            let half = Pin::new(&mut self.half);
            let written = ready!(half.poll_write_vectored(context, &slices[..count]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.wrote(written);
        }
        ready!(Pin::new(&mut self.half).poll_flush(context))?;
        self.is_flushed = true;
        Poll::Ready(Ok(()))
    }

    fn wrote(&mut self, mut bytes: usize) {
        self.traffic.bytes_out.add(bytes as u64);
        self.written_bytes += bytes as u64;
        while let Some(part) = self.parts.front_mut() {
            if bytes < part.len() {
                part.advance(bytes);
                break;
            }
            bytes -= part.len();
            self.parts.pop_front();
        }
        while self.unsent.front().is_some_and(|reply| reply.end <= self.written_bytes) {
            self.unsent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use kernel::Api;
    use kernel::budget::Budget;
    use tokio::io::{AsyncReadExt, DuplexStream};

    use super::*;

    fn outbox(pipe_bytes: usize) -> (DuplexStream, Outbox) {
        let (client, server) = tokio::io::duplex(pipe_bytes);
        let (_, half) = tokio::io::split(Box::new(server) as Box<dyn ByteStream>);
        (client, Outbox::new(half, Arc::new(Traffic::new(Budget::new(0)))))
    }

    #[tokio::test(start_paused = true)]
    async fn replies_of_many_parts_are_one_stream_and_give_their_leases_back_when_sent() {
        let (mut client, mut outbox) = outbox(100);
        let pool = Budget::new(10);
        let header = Header { api: Api::METADATA, version: 1, correlation_id: 7, client_id: None };
        let parts = [vec![1; 3], vec![2; 5_000], vec![], vec![3; 1], vec![4; 2_000]];
        let body: Vec<u8> = parts.concat();
        for _ in 0..2 {
            let body = parts.iter().cloned().map(Bytes::from).collect();
            outbox.push(&header, Reply { body, lease: pool.take(5).await, ..Reply::default() });
        }
        assert_eq!((outbox.len(), pool.bytes_in_use()), (2, 10));

        let one = 8 + body.len();
        let mut received = vec![0; one];
        // A flush that is dropped half-way, because the client reads one reply and then stops.
        tokio::select! {
            result = outbox.flush() => panic!("a pipe of 100 bytes took it all: {result:?}"),
            result = async { client.read_exact(&mut received).await } => assert_eq!(result.unwrap(), one),
        }
        assert_eq!(received[..8], [&(one as i32 - 4).to_be_bytes()[..], &7i32.to_be_bytes()[..]].concat());
        assert_eq!(received[8..], body);

        let (flushed, _) = tokio::join!(outbox.flush(), client.read_exact(&mut received));
        flushed.unwrap();
        assert_eq!(received[8..], body);
        assert_eq!((outbox.len(), pool.bytes_in_use()), (0, 0));
        assert!(outbox.is_idle());
    }
}
