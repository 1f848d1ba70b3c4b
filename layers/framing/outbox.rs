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
use kernel::budget::{Budget, Lease};
use kernel::parts::{self, Part};
use kernel::stream::ByteStream;
use kernel::{Header, Malformed, Reply, frame};
use tokio::io::{AsyncWrite, AsyncWriteExt, WriteHalf};

use super::close_reason::CloseReason;
use super::later::Later;
use super::stall::Stall;
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
    /// What is in `parts`, by where it ends.
    unsent: VecDeque<Unsent>,
    /// Replies that wait for memory or for their records, in order.
    waiting: VecDeque<Later>,
    /// Replies that are not completely written.
    replies: usize,
    is_flushed: bool,
    /// The longest mute requested by queued replies.
    mute: Option<Duration>,
    stall: Stall,
    memory: Budget,
    traffic: Arc<Traffic>,
}

/// A reply, or a piece of one, that is not completely written.
struct Unsent {
    /// The count of written bytes at which it is complete.
    end: u64,
    is_end_of_reply: bool,
    _lease: Lease,
}

impl Outbox {
    pub(super) fn new(
        half: WriteHalf<Box<dyn ByteStream>>,
        stall_timeout: Duration,
        memory: Budget,
        traffic: Arc<Traffic>,
    ) -> Self {
        Self {
            half,
            parts: VecDeque::new(),
            small: BytesMut::new(),
            queued_bytes: 0,
            written_bytes: 0,
            unsent: VecDeque::new(),
            waiting: VecDeque::new(),
            replies: 0,
            is_flushed: true,
            mute: None,
            stall: Stall::new(stall_timeout),
            memory,
            traffic,
        }
    }

    /// Queues a reply.
    ///
    /// # Errors
    /// It cannot be sent: a bug in what built it, or it is larger than Kafka's protocol allows.
    pub(super) fn push(&mut self, header: &Header, mut reply: Reply) -> Result<(), Malformed> {
        let (parts, body_bytes) = parts::of(header, &mut reply)?;
        let (prefix, prefix_bytes) = frame::response_prefix(header, body_bytes)?;
        self.mute = self.mute.max(reply.mute);
        self.is_flushed = false;
        self.replies += 1;
        let is_whole = parts.iter().all(|part| matches!(part, Part::Bytes(_)));
        let lease = self.draw_now(reply.lease, body_bytes, is_whole && self.waiting.is_empty());
        match lease {
            Ok(lease) => {
                self.add_copy(&prefix[..prefix_bytes]);
                for part in parts {
                    if let Part::Bytes(bytes) = part {
                        self.add(bytes);
                    }
                }
                self.end_of(lease, true);
            }
            Err(lease) => {
                let prefix = Part::Bytes(Bytes::copy_from_slice(&prefix[..prefix_bytes]));
                self.waiting.push_back(Later::new(std::iter::once(prefix).chain(parts), lease));
            }
        }
        Ok(())
    }

    /// The memory of a reply that may be written now, if there is enough.
    fn draw_now(&self, lease: Lease, bytes: u64, may_be_written: bool) -> Result<Lease, Lease> {
        if !may_be_written {
            return Err(lease);
        }
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        if lease.bytes() >= bytes.min(self.memory.bytes_max()) && !lease.is_empty() {
            return Ok(lease);
        }
        // What is too little is given back before more is drawn.
        drop(lease);
        self.memory.try_take(bytes).ok_or_else(Lease::default)
    }

    /// The number of replies not completely written.
    pub(super) fn len(&self) -> usize {
        self.replies
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
    pub(super) async fn flush(&mut self) -> Result<(), CloseReason> {
        poll_fn(|context| self.poll_flush(context)).await
    }

    /// Shuts down the writing side.
    pub(super) async fn shutdown(&mut self) -> io::Result<()> {
        self.half.shutdown().await
    }

    fn add_copy(&mut self, bytes: &[u8]) {
        self.queued_bytes += bytes.len() as u64;
        self.small.extend_from_slice(bytes);
    }

    fn add(&mut self, bytes: Bytes) {
        if bytes.len() <= COPIED_BYTES_MAX {
            self.add_copy(&bytes);
            return;
        }
        self.seal();
        self.queued_bytes += bytes.len() as u64;
        self.parts.push_back(bytes);
    }

    fn end_of(&mut self, lease: Lease, is_end_of_reply: bool) {
        self.unsent.push_back(Unsent { end: self.queued_bytes, is_end_of_reply, _lease: lease });
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.parts.push_back(mem::take(&mut self.small).freeze());
        }
    }

    fn poll_flush(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        loop {
            // The next piece is read while the one before it is written.
            self.poll_waiting(context)?;
            if self.queued_bytes > self.written_bytes {
                self.seal();
                ready!(self.poll_write(context))?;
            } else if self.waiting.is_empty() {
                let flushed = ready!(Pin::new(&mut self.half).poll_flush(context));
                flushed.map_err(|error| CloseReason::Broken(error.to_string()))?;
                self.is_flushed = true;
                self.stall.reset();
                return Poll::Ready(Ok(()));
            } else {
                // Yagura reads, or waits for memory.
                self.stall.reset();
                return Poll::Pending;
            }
        }
    }

    /// Moves pieces of the first waiting reply to the parts to write, when little is left to write.
    fn poll_waiting(&mut self, context: &mut Context<'_>) -> Result<(), CloseReason> {
        while let Some(first) = self.waiting.front_mut() {
            let left_to_write = self.queued_bytes - self.written_bytes;
            let piece = match first.poll_piece(context, &self.memory, left_to_write) {
                Poll::Pending => return Ok(()),
                Poll::Ready(piece) => piece.map_err(CloseReason::Broken)?,
            };
            let is_end = first.is_over();
            if is_end {
                self.waiting.pop_front();
            }
            piece.bytes.into_iter().for_each(|bytes| self.add(bytes));
            self.end_of(piece.lease, is_end);
        }
        Ok(())
    }

    /// Writes some of what is queued.
    fn poll_write(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        let mut slices = [IoSlice::new(&[]); PARTS_MAX];
        for (slice, part) in slices.iter_mut().zip(&self.parts) {
            *slice = IoSlice::new(part);
        }
        let count = self.parts.len().min(PARTS_MAX);
        match Pin::new(&mut self.half).poll_write_vectored(context, &slices[..count]) {
            Poll::Ready(Ok(written)) if written > 0 => {
                self.wrote(written);
                Poll::Ready(Ok(()))
            }
            Poll::Ready(Ok(_)) => {
                Poll::Ready(Err(CloseReason::Broken(io::Error::from(io::ErrorKind::WriteZero).to_string())))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(CloseReason::Broken(error.to_string()))),
            Poll::Pending if self.stall.poll_is_over(context, || self.memory.is_contended()) => {
                Poll::Ready(Err(CloseReason::Stalled))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn wrote(&mut self, mut bytes: usize) {
        self.traffic.bytes_out.add(bytes as u64);
        self.stall.moved(bytes);
        self.written_bytes += bytes as u64;
        while let Some(part) = self.parts.front_mut() {
            if bytes < part.len() {
                part.advance(bytes);
                break;
            }
            bytes -= part.len();
            self.parts.pop_front();
        }
        while let Some(sent) = self.unsent.front().filter(|unsent| unsent.end <= self.written_bytes) {
            self.replies -= usize::from(sent.is_end_of_reply);
            self.unsent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use kernel::records_later::{NextRecords, RecordSource, RecordsLater};
    use kernel::{Api, Records};
    use tokio::io::{AsyncReadExt, DuplexStream};
    use tokio::time::{sleep, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn outbox(pipe_bytes: usize, memory: &Budget) -> (DuplexStream, Outbox) {
        let (client, server) = tokio::io::duplex(pipe_bytes);
        let (_, half) = tokio::io::split(Box::new(server) as Box<dyn ByteStream>);
        let traffic = Arc::new(Traffic::new(Budget::for_requests(0), memory.clone()));
        (client, Outbox::new(half, 10 * SECOND, memory.clone(), traffic))
    }

    fn header(api: Api, version: i16) -> Header {
        Header { api, version, correlation_id: 7, client_id: None }
    }

    /// Reads like a store: later, and less than it is asked for.
    struct Slow {
        value: u8,
        left: u64,
        fails_at: u64,
    }

    impl RecordSource for Slow {
        fn read(self: Box<Self>, bytes: usize) -> NextRecords {
            Box::pin(async move {
                sleep(SECOND).await;
                if self.left == self.fails_at {
                    return Err("as the test says".to_owned());
                }
                let bytes = bytes.min(60_000).min(usize::try_from(self.left).unwrap());
                let rest = Slow { left: self.left - bytes as u64, ..*self };
                Ok((vec![Bytes::from(vec![self.value; bytes])], Box::new(rest) as Box<dyn RecordSource>))
            })
        }
    }

    fn later(value: u8, bytes: u64, fails_at: u64) -> Records {
        let source = Box::new(Slow { value, left: bytes, fails_at });
        Records { ready: Vec::new(), later: Some(RecordsLater { bytes, source }) }
    }

    /// A Fetch 4 of one partition; its body ends with the length of the records.
    fn fetch(records: Records) -> Reply {
        let mut body = vec![0; 4];
        body.extend(1i32.to_be_bytes());
        body.extend(*b"\0\x01t");
        body.extend(1i32.to_be_bytes());
        body.extend([0; 4 + 2 + 8 + 8]);
        body.extend((-1i32).to_be_bytes());
        body.extend(0i32.to_be_bytes());
        Reply { body: body.into(), records: vec![records], ..Reply::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn records_are_read_while_they_are_sent_and_hold_little_memory() {
        let memory = Budget::for_replies(1 << 20);
        let (mut client, mut outbox) = outbox(1 << 10, &memory);
        let ready = Bytes::from(vec![1; 5_000]);
        let records = Records { ready: vec![ready], ..later(2, 3_000_000, 0) };
        outbox.push(&header(Api::FETCH, 4), fetch(records)).unwrap();
        outbox.push(&header(Api::METADATA, 1), Reply::new(vec![3; 10])).unwrap();
        let read = async {
            let mut received = vec![0; 8 + 45 + 3_005_000 + 18];
            let mut most = 0;
            for chunk in received.chunks_mut(10_000) {
                client.read_exact(chunk).await.unwrap();
                most = most.max(memory.bytes_in_use());
            }
            (received, most)
        };
        let (flushed, (received, most)) = tokio::join!(outbox.flush(), read);
        flushed.unwrap();
        assert_eq!(received[..4], (4i32 + 45 + 3_005_000).to_be_bytes());
        assert_eq!(received[49..53], 3_005_000i32.to_be_bytes());
        assert!(received[53..5_053].iter().all(|byte| *byte == 1));
        assert!(received[5_053..3_005_053].iter().all(|byte| *byte == 2));
        assert_eq!(received[3_005_053 + 8..], [3; 10]);
        assert!((60_000..=memory.bytes_max()).contains(&most), "{most}");
        assert_eq!((outbox.len(), memory.bytes_in_use(), outbox.is_idle()), (0, 0, true));
    }

    #[tokio::test(start_paused = true)]
    async fn records_that_cannot_be_read_close_the_connection() {
        let memory = Budget::for_replies(1 << 20);
        let (client, mut outbox) = outbox(4 << 20, &memory);
        outbox.push(&header(Api::FETCH, 4), fetch(later(2, 300_000, 180_000))).unwrap();
        let end = outbox.flush().await;
        assert_eq!(end, Err(CloseReason::Broken("as the test says".to_owned())));
        drop((client, outbox));
        assert_eq!(memory.bytes_in_use(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn replies_are_one_stream_and_give_their_memory_back_when_sent() {
        let memory = Budget::for_replies(100_000);
        let (mut client, mut outbox) = outbox(100, &memory);
        let body = vec![2; 7_000];
        for _ in 0..2 {
            outbox.push(&header(Api::METADATA, 1), Reply::new(body.clone())).unwrap();
        }
        assert_eq!((outbox.len(), memory.bytes_in_use()), (2, 14_000));

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
        assert_eq!((outbox.len(), memory.bytes_in_use()), (0, 0));
        assert!(outbox.is_idle());
    }

    #[tokio::test(start_paused = true)]
    async fn a_reply_waits_for_memory_and_holds_up_the_next_one() {
        let memory = Budget::for_replies(16_000);
        let (mut client, mut outbox) = outbox(1 << 20, &memory);
        let held = memory.take(10_000).await;
        for bytes in [7_000, 10] {
            outbox.push(&header(Api::METADATA, 1), Reply::new(vec![3; bytes])).unwrap();
        }
        assert!(timeout(SECOND, outbox.flush()).await.is_err());
        drop(held);
        outbox.flush().await.unwrap();
        client.read_exact(&mut vec![0; 7_026]).await.unwrap();
        assert_eq!((outbox.len(), memory.bytes_in_use()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_gives_way_to_those_who_wait() {
        let memory = Budget::for_replies(16_000);
        let (_client, mut outbox) = outbox(100, &memory);
        outbox.push(&header(Api::METADATA, 1), Reply::new(vec![3; 10_000])).unwrap();
        let flush = outbox.flush();
        let mut flush = std::pin::pin!(flush);
        assert!(timeout(100 * SECOND, &mut flush).await.is_err(), "nobody waits");
        let mut waiting = memory.take(10_000);
        assert!(timeout(SECOND, &mut waiting).await.is_err());
        assert_eq!(timeout(10 * SECOND, flush).await.unwrap(), Err(CloseReason::Stalled));
    }
}
