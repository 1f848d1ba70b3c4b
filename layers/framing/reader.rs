//! Splits a connection's bytes into frames.
//!
//! All progress is kept in [`Reader`] and none in the futures that it returns, so a caller may drop one of
//! these half-way (a `select!` does) and lose neither a byte nor its position in the queue for request
//! memory.

use std::future::poll_fn;
use std::io;
use std::mem::{self, MaybeUninit};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kernel::budget::{Budget, Lease};
use kernel::ports::BoxFuture;
use kernel::stream::ByteStream;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf, ReadHalf};

use super::close_reason::{CloseReason, ForeignProtocol};
use super::frame_timeout::FrameTimeout;
use super::traffic::Traffic;

/// The shortest request: its key, its version and its correlation id.
pub(super) const HEADER_BYTES_MIN: usize = 8;

/// Most bytes that a connection may have read without reserving request memory.
pub(super) const SMALL_BYTES: usize = 16 << 10;

/// A frame up to this size that shares its buffer with others is copied out of it. It costs no more than
/// sharing, and a parked call that holds a hundred bytes does not pin 16 KiB.
const COPIED_BYTES_MAX: usize = 1 << 10;

const PREFIX_BYTES: usize = 4;

/// A complete request without its length, and its lease on the request memory.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) bytes: Bytes,
    pub(super) lease: Lease,
}

/// The reading side of a connection.
pub(super) struct Reader {
    half: ReadHalf<Box<dyn ByteStream>>,
    /// Unparsed bytes, starting with a length prefix; empty and unallocated on an idle connection.
    buffer: BytesMut,
    large: Stage,
    is_first: bool,
    frame_bytes_max: usize,
    frame_timeout: FrameTimeout,
    requests: Budget,
    traffic: Arc<Traffic>,
}

/// The stage of a frame that is too large for the buffer.
enum Stage {
    /// There is none.
    None,
    /// It waits for request memory; its head is in the buffer.
    Reserving { length: usize, lease: BoxFuture<'static, Lease> },
    /// It is being read into place.
    Reading(Large),
}

struct Large {
    bytes: BytesMut,
    length: usize,
    lease: Lease,
}

/// What the buffer holds.
enum Held {
    Part,
    Whole(Bytes),
    /// The head of a frame of this length, which will not fit.
    Head(usize),
}

impl Reader {
    pub(super) fn new(
        half: ReadHalf<Box<dyn ByteStream>>,
        frame_bytes_max: usize,
        frame_timeout: Duration,
        requests: Budget,
        traffic: Arc<Traffic>,
    ) -> Self {
        Self {
            half,
            buffer: BytesMut::new(),
            large: Stage::None,
            is_first: true,
            frame_bytes_max,
            frame_timeout: FrameTimeout::new(frame_timeout),
            requests,
            traffic,
        }
    }

    /// The next frame, or why there is none.
    pub(super) async fn next(&mut self) -> Result<Frame, CloseReason> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The next frame, if it has been read already.
    pub(super) fn buffered(&mut self) -> Option<Result<Frame, CloseReason>> {
        if !matches!(self.large, Stage::None) {
            return None;
        }
        match self.parse_buffer() {
            Ok(Held::Whole(bytes)) => Some(Ok(Frame { bytes, lease: Lease::default() })),
            Ok(_) => None,
            Err(end) => Some(Err(end)),
        }
    }

    /// Stops the sender's clock until [`Reader::next`] is polled again.
    pub(super) fn pause(&mut self) {
        self.frame_timeout.pause();
    }

    /// Reads and discards until the client closes.
    pub(super) async fn discard(&mut self) {
        while poll_fn(|context| self.poll_discard(context)).await {}
    }

    /// Returns whether there may be more.
    fn poll_discard(&mut self, context: &mut Context<'_>) -> Poll<bool> {
        let mut space = [MaybeUninit::<u8>::uninit(); SMALL_BYTES];
        let mut waste = ReadBuf::uninit(&mut space);
        let read = ready!(Pin::new(&mut self.half).poll_read(context, &mut waste));
        Poll::Ready(read.is_ok() && !waste.filled().is_empty())
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Frame, CloseReason>> {
        loop {
            match &mut self.large {
                Stage::None => match self.parse_buffer()? {
                    Held::Whole(bytes) => return Poll::Ready(Ok(Frame { bytes, lease: Lease::default() })),
                    Held::Part => ready!(self.poll_fill(context))?,
                    Held::Head(length) => self.reserve(length),
                },
                Stage::Reserving { length, lease } => {
                    let lease = ready!(lease.as_mut().poll(context));
                    let length = *length;
                    self.large = Stage::Reading(self.place(length, lease));
                }
                Stage::Reading(large) => match large.poll_read(&mut self.half, context) {
                    Poll::Pending => return self.poll_frame_timeout(context),
                    Poll::Ready(read) => {
                        self.count(read)?;
                        if let Some(frame) = self.take_large() {
                            return Poll::Ready(Ok(frame));
                        }
                    }
                },
            }
        }
    }

    /// Checks the buffer, and takes a frame out of it if one is complete.
    fn parse_buffer(&mut self) -> Result<Held, CloseReason> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(Held::Part) };
        let length = self.check_length(*prefix)?;
        let end = PREFIX_BYTES + length;
        if end <= self.buffer.len() {
            self.is_first = false;
            self.frame_timeout.renew();
            return Ok(Held::Whole(self.split(end)));
        }
        Ok(if self.buffer.len() < SMALL_BYTES { Held::Part } else { Held::Head(length) })
    }

    /// The length in a prefix, if it is valid. It allocates nothing by itself.
    fn check_length(&self, prefix: [u8; PREFIX_BYTES]) -> Result<usize, CloseReason> {
        if self.is_first
            && let Some(protocol) = ForeignProtocol::known_by(prefix)
        {
            return Err(CloseReason::ForeignProtocol(protocol));
        }
        let length = i32::from_be_bytes(prefix);
        let possible = HEADER_BYTES_MIN..=self.frame_bytes_max;
        usize::try_from(length).ok().filter(|length| possible.contains(length)).ok_or_else(|| {
            let (least, most) = possible.into_inner();
            CloseReason::Refused(format!(
                "it says it has {length} bytes, and must have between {least} and {most}"
            ))
        })
    }

    fn split(&mut self, end: usize) -> Bytes {
        let mut frame = if end == self.buffer.len() {
            mem::take(&mut self.buffer).freeze()
        } else if end <= COPIED_BYTES_MAX {
            let copy = Bytes::copy_from_slice(&self.buffer[..end]);
            self.buffer.advance(end);
            copy
        } else {
            self.buffer.split_to(end).freeze()
        };
        frame.advance(PREFIX_BYTES);
        frame
    }

    /// Reads what has arrived, up to the buffer's limit.
    ///
    /// The bytes are read into an array on the call stack, so an idle connection has no buffer, and what
    /// arrives in one piece is kept in exactly its size.
    fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<Result<(), CloseReason>> {
        let mut space = [MaybeUninit::<u8>::uninit(); SMALL_BYTES];
        let mut read = ReadBuf::uninit(&mut space[self.buffer.len()..]);
        match Pin::new(&mut self.half).poll_read(context, &mut read) {
            Poll::Pending if self.buffer.is_empty() => Poll::Pending,
            Poll::Pending => self.poll_frame_timeout(context),
            Poll::Ready(result) => {
                self.count(result.map(|()| read.filled().len()))?;
                self.buffer.extend_from_slice(read.filled());
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Counts what was read; 0 bytes mean the end.
    fn count(&self, read: io::Result<usize>) -> Result<(), CloseReason> {
        match read {
            Ok(0) if self.buffer.is_empty() && matches!(self.large, Stage::None) => Err(CloseReason::Closed),
            Ok(0) => Err(CloseReason::CutShort),
            Ok(bytes) => {
                self.traffic.bytes_in.add(bytes as u64);
                Ok(())
            }
            Err(error) => Err(CloseReason::Broken(error.to_string())),
        }
    }

    /// Waits for the rest of a frame, unless its time is over.
    fn poll_frame_timeout<T>(&mut self, context: &mut Context<'_>) -> Poll<Result<T, CloseReason>> {
        if self.frame_timeout.poll_is_over(context) {
            Poll::Ready(Err(CloseReason::Slow))
        } else {
            Poll::Pending
        }
    }

    /// Waits for the memory of a large frame. The wait is not the sender's fault, so its clock is stopped.
    fn reserve(&mut self, length: usize) {
        self.is_first = false;
        self.frame_timeout.pause();
        let requests = self.requests.clone();
        self.large = Stage::Reserving { length, lease: Box::pin(async move { requests.take(length).await }) };
    }

    /// The memory of a large frame, with its head copied into it.
    fn place(&mut self, length: usize, lease: Lease) -> Large {
        let mut bytes = BytesMut::with_capacity(length);
        bytes.extend_from_slice(&mem::take(&mut self.buffer)[PREFIX_BYTES..]);
        Large { bytes, length, lease }
    }

    /// The large frame, if it is complete.
    fn take_large(&mut self) -> Option<Frame> {
        match mem::replace(&mut self.large, Stage::None) {
            Stage::Reading(Large { bytes, length, lease }) if bytes.len() == length => {
                self.frame_timeout.renew();
                Some(Frame { bytes: bytes.freeze(), lease })
            }
            unfinished => {
                self.large = unfinished;
                None
            }
        }
    }
}

impl Large {
    /// Reads directly into the frame, as much as has arrived.
    fn poll_read(
        &mut self,
        half: &mut ReadHalf<Box<dyn ByteStream>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let missing = self.length - self.bytes.len();
        let mut rest = (&mut self.bytes).limit(missing);
        // This future keeps no state between polls, so a new one each time continues where the last one
        // stopped.
        let read = pin!(half.read_buf(&mut rest));
        read.poll(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, DuplexStream};

    use super::*;

    fn reader(bytes_max: usize) -> (DuplexStream, Reader) {
        let (client, server) = tokio::io::duplex(1 << 20);
        let (half, _) = tokio::io::split(Box::new(server) as Box<dyn ByteStream>);
        let requests = Budget::new(bytes_max);
        let traffic = Arc::new(Traffic::new(requests.clone()));
        (client, Reader::new(half, bytes_max, Duration::from_secs(30), requests, traffic))
    }

    fn frame(length: usize) -> Vec<u8> {
        let mut bytes = (length as i32).to_be_bytes().to_vec();
        bytes.extend((0..length).map(|index| index as u8));
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_has_no_buffer() {
        let (mut client, mut reader) = reader(1 << 20);
        assert_eq!(reader.buffer.capacity(), 0);
        client.write_all(&[frame(20), frame(5_000), frame(20)].concat()).await.unwrap();
        for length in [20, 5_000, 20] {
            assert_eq!(reader.next().await.unwrap().bytes, frame(length)[4..]);
        }
        assert!(reader.buffered().is_none());
        assert_eq!(reader.buffer.capacity(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_large_frame_reserves_nothing_before_its_first_16_kib_and_its_length_after() {
        let (mut client, mut reader) = reader(1 << 20);
        let sent = frame(100_000);
        client.write_all(&sent[..SMALL_BYTES - 1]).await.unwrap();
        let soon = Duration::from_millis(1);
        assert!(tokio::time::timeout(soon, reader.next()).await.is_err());
        assert_eq!(reader.requests.bytes_in_use(), 0);
        client.write_all(&sent[SMALL_BYTES - 1..SMALL_BYTES]).await.unwrap();
        assert!(tokio::time::timeout(soon, reader.next()).await.is_err());
        assert_eq!(reader.requests.bytes_in_use(), 100_000);
        assert_eq!(reader.buffer.capacity(), 0);
        client.write_all(&sent[SMALL_BYTES..]).await.unwrap();
        let frame = reader.next().await.unwrap();
        assert_eq!(frame.bytes, sent[4..]);
        drop(frame);
        assert_eq!(reader.requests.bytes_in_use(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn frames_of_every_size_around_the_buffer_come_whole() {
        let (mut client, mut reader) = reader(1 << 20);
        let lengths =
            [8, SMALL_BYTES - 5, SMALL_BYTES - 4, SMALL_BYTES - 3, SMALL_BYTES, 9, 3 * SMALL_BYTES, 8];
        let sent: Vec<u8> = lengths.iter().flat_map(|length| frame(*length)).collect();
        client.write_all(&sent).await.unwrap();
        for length in lengths {
            assert_eq!(reader.next().await.unwrap().bytes, frame(length)[4..], "length {length}");
        }
        drop(client);
        assert_eq!(reader.next().await.unwrap_err(), CloseReason::Closed);
    }
}
