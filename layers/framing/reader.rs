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
use kernel::budget::{Budget, HalfRead, Lease, STEP_BYTES_MAX, STEP_BYTES_MIN, WHOLE_BYTES_MAX};
use kernel::ports::BoxFuture;
use kernel::stream::ByteStream;
use kernel::{Api, Session};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf, ReadHalf};

use super::close_reason::{CloseReason, ForeignProtocol};
use super::stall::Stall;
use super::traffic::Traffic;

/// The shortest request: its key, its version and its correlation id.
pub(super) const HEADER_BYTES_MIN: usize = 8;

/// Most bytes of a frame that is not complete that a connection may have read without drawing on the request memory.
pub(super) const SMALL_BYTES: usize = WHOLE_BYTES_MAX;

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
    stage: Stage,
    is_first: bool,
    /// Whether no other call of the connection is under way.
    is_alone: bool,
    /// Whether no frame may be read now.
    is_paused: bool,
    /// Whether the stream has been found to end while a frame waited.
    is_over: bool,
    session: Arc<Session>,
    frame_bytes_max: usize,
    stall: Stall,
    requests: Budget,
    traffic: Arc<Traffic>,
}

/// The stage of a frame that waits for memory, or is too large for the buffer.
enum Stage {
    /// There is none.
    None,
    /// It is in the buffer up to this position, and waits for request memory.
    Drawing { end: usize, lease: BoxFuture<'static, Lease> },
    /// It waits for request memory; its head is in the buffer.
    Reserving { large: Large, lease: BoxFuture<'static, Lease> },
    /// It is being read into place.
    Reading(Large),
}

/// A frame that is read into place.
struct Large {
    bytes: BytesMut,
    length: usize,
    /// How many of its bytes are drawn for.
    drawn: usize,
    lease: Lease,
    half_read: HalfRead,
}

/// What the buffer holds.
enum Held {
    Part,
    /// A frame that ends here.
    Whole(usize),
    /// The head of a frame of this length, which will not fit.
    Head(usize),
}

impl Reader {
    pub(super) fn new(
        half: ReadHalf<Box<dyn ByteStream>>,
        frame_bytes_max: usize,
        stall_timeout: Duration,
        requests: Budget,
        traffic: Arc<Traffic>,
        session: Arc<Session>,
    ) -> Self {
        Self {
            half,
            buffer: BytesMut::new(),
            stage: Stage::None,
            is_first: true,
            is_alone: true,
            is_paused: false,
            is_over: false,
            session,
            frame_bytes_max,
            stall: Stall::new(stall_timeout),
            requests,
            traffic,
        }
    }

    /// The next frame, or why there is none. While it has to wait, a client that has gone ends its session.
    pub(super) async fn next(&mut self) -> Result<Frame, CloseReason> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// The next frame, if it has been read already and there is memory for it.
    pub(super) fn buffered(&mut self) -> Option<Result<Frame, CloseReason>> {
        if !matches!(self.stage, Stage::None) {
            return None;
        }
        match self.parse_buffer() {
            Ok(Held::Whole(end)) if self.must_wait(end) => None,
            Ok(Held::Whole(end)) => self.try_take(end).map(Ok),
            Ok(_) => None,
            Err(end) => Some(Err(end)),
        }
    }

    /// Says whether no other call of the connection is under way. A request of some size that may have to wait for those
    /// before it is not read until then, so that it holds no memory while it waits.
    pub(super) fn set_alone(&mut self, is_alone: bool) {
        self.is_alone = is_alone;
    }

    /// Whether the frame in the buffer has to wait for the calls before it. Produce does not: pipelining is what makes
    /// producers fast, and none waits for the answers of other calls.
    fn must_wait(&self, length: usize) -> bool {
        let api = self.buffer.get(PREFIX_BYTES..PREFIX_BYTES + 2);
        !self.is_alone && length > COPIED_BYTES_MAX && api != Some(&Api::PRODUCE.0.to_be_bytes()[..])
    }

    /// Says whether no frame may be read. Then the sender's clock stands still, and [`Reader::next`] only looks whether the
    /// client has gone.
    pub(super) fn set_paused(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
        if is_paused {
            self.stall.reset();
        }
    }

    /// Reads on while a frame has to wait, as far as the buffer goes. If the stream ends, nobody waits for the answers to the
    /// calls before that frame: those that are parked end. An end after more bytes is not seen until these are read.
    fn look_ahead(&mut self, context: &mut Context<'_>) {
        while !self.is_over && self.buffer.len() < SMALL_BYTES {
            let mut space = [MaybeUninit::<u8>::uninit(); SMALL_BYTES];
            let mut read = ReadBuf::uninit(&mut space[self.buffer.len()..]);
            match Pin::new(&mut self.half).poll_read(context, &mut read) {
                Poll::Pending => return,
                Poll::Ready(Ok(())) if !read.filled().is_empty() => {
                    self.traffic.bytes_in.add(read.filled().len() as u64);
                    self.buffer.extend_from_slice(read.filled());
                }
                // Whoever reads the frames before it comes to this end again.
                Poll::Ready(_) => {
                    self.is_over = true;
                    self.session.end();
                }
            }
        }
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
        if self.is_paused {
            // A frame that is read into place is gone on with later.
            if matches!(self.stage, Stage::None | Stage::Drawing { .. }) {
                self.look_ahead(context);
            }
            return Poll::Pending;
        }
        loop {
            match &mut self.stage {
                Stage::None => match self.parse_buffer()? {
                    // Polled again once the calls before it have been answered.
                    Held::Whole(length) | Held::Head(length) if self.must_wait(length) => {
                        self.look_ahead(context);
                        return Poll::Pending;
                    }
                    Held::Whole(end) => match self.try_take(end) {
                        Some(frame) => return Poll::Ready(Ok(frame)),
                        None => {
                            let lease = self.requests.take(end - PREFIX_BYTES);
                            self.stage = Stage::Drawing { end, lease };
                        }
                    },
                    Held::Part => ready!(self.poll_fill(context))?,
                    Held::Head(length) => self.begin_large(length),
                },
                Stage::Drawing { end, lease } => {
                    let end = *end;
                    let Poll::Ready(lease) = lease.as_mut().poll(context) else {
                        self.look_ahead(context);
                        return Poll::Pending;
                    };
                    self.stage = Stage::None;
                    return Poll::Ready(Ok(Frame { bytes: self.split(end), lease }));
                }
                Stage::Reserving { lease, .. } => {
                    let lease = ready!(lease.as_mut().poll(context));
                    self.reserved(lease);
                }
                Stage::Reading(large) => match large.poll_read(&mut self.half, context) {
                    Poll::Pending => return self.poll_stall(context),
                    Poll::Ready(read) => {
                        let bytes = self.count(read)?;
                        self.stall.moved(bytes);
                        if let Some(frame) = self.next_of_large() {
                            return Poll::Ready(Ok(frame));
                        }
                    }
                },
            }
        }
    }

    /// Looks at the buffer.
    fn parse_buffer(&mut self) -> Result<Held, CloseReason> {
        let Some(prefix) = self.buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(Held::Part) };
        let length = self.check_length(*prefix)?;
        let end = PREFIX_BYTES + length;
        if end <= self.buffer.len() {
            self.is_first = false;
            return Ok(Held::Whole(end));
        }
        Ok(if self.buffer.len() < SMALL_BYTES { Held::Part } else { Held::Head(length) })
    }

    /// Takes a frame out of the buffer, if there is memory for it.
    fn try_take(&mut self, end: usize) -> Option<Frame> {
        let lease = self.requests.try_take(end - PREFIX_BYTES)?;
        Some(Frame { bytes: self.split(end), lease })
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
            Poll::Pending => Poll::Pending,
            Poll::Ready(result) => {
                self.count(result.map(|()| read.filled().len()))?;
                self.buffer.extend_from_slice(read.filled());
                Poll::Ready(Ok(()))
            }
        }
    }

    /// Counts what was read; 0 bytes mean the end.
    fn count(&self, read: io::Result<usize>) -> Result<usize, CloseReason> {
        match read {
            Ok(0) if self.buffer.is_empty() && matches!(self.stage, Stage::None) => Err(CloseReason::Closed),
            Ok(0) => Err(CloseReason::CutShort),
            Ok(bytes) => {
                self.traffic.bytes_in.add(bytes as u64);
                Ok(bytes)
            }
            Err(error) => Err(CloseReason::Broken(error.to_string())),
        }
    }

    /// Waits for the rest of a frame, unless its sender does not move while others wait for memory.
    fn poll_stall<T>(&mut self, context: &mut Context<'_>) -> Poll<Result<T, CloseReason>> {
        if self.stall.poll_is_over(context, || self.requests.is_contended()) {
            Poll::Ready(Err(CloseReason::Stalled))
        } else {
            Poll::Pending
        }
    }

    /// Begins to read a frame that does not fit into the buffer.
    fn begin_large(&mut self, length: usize) {
        self.is_first = false;
        let half_read = self.requests.half_read(length);
        let large = Large { bytes: BytesMut::new(), length, drawn: 0, lease: Lease::default(), half_read };
        self.stage = Stage::Reserving { lease: large.next_step(), large };
    }

    /// Goes on with more memory. The wait for it was not the sender's fault.
    fn reserved(&mut self, lease: Lease) {
        if let Stage::Reserving { mut large, .. } = mem::replace(&mut self.stage, Stage::None) {
            if large.drawn == 0 {
                // All of its addresses, but the system gives memory only to those that are written.
                large.bytes = BytesMut::with_capacity(large.length);
                large.bytes.extend_from_slice(&mem::take(&mut self.buffer)[PREFIX_BYTES..]);
            }
            large.drawn += large.step_bytes();
            large.lease.join(lease);
            self.stage = Stage::Reading(large);
        }
        self.stall.reset();
    }

    /// The large frame, if it is complete; otherwise draws for more of it, if it has to.
    fn next_of_large(&mut self) -> Option<Frame> {
        match mem::replace(&mut self.stage, Stage::None) {
            Stage::Reading(large) if large.bytes.len() == large.length => {
                self.stall.reset();
                Some(Frame { bytes: large.bytes.freeze(), lease: large.lease })
            }
            Stage::Reading(large) if large.bytes.len() == large.drawn => {
                self.stage = Stage::Reserving { lease: large.next_step(), large };
                None
            }
            unfinished => {
                self.stage = unfinished;
                None
            }
        }
    }
}

impl Large {
    fn step_bytes(&self) -> usize {
        self.drawn.clamp(STEP_BYTES_MIN, STEP_BYTES_MAX).min(self.length - self.drawn)
    }

    fn next_step(&self) -> BoxFuture<'static, Lease> {
        self.half_read.step(self.step_bytes())
    }

    /// Reads directly into the frame, as much as has arrived.
    fn poll_read(
        &mut self,
        half: &mut ReadHalf<Box<dyn ByteStream>>,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let missing = self.drawn - self.bytes.len();
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
        let requests = Budget::for_requests(bytes_max);
        let traffic = Arc::new(Traffic::new(requests.clone(), Budget::for_replies(0)));
        let session = Session::for_tests();
        (client, Reader::new(half, bytes_max, Duration::from_secs(30), requests, traffic, session))
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
    async fn a_large_frame_reserves_nothing_before_its_first_16_kib() {
        let (mut client, mut reader) = reader(1 << 20);
        let sent = frame(100_000);
        client.write_all(&sent[..SMALL_BYTES - 1]).await.unwrap();
        let soon = Duration::from_millis(1);
        assert!(tokio::time::timeout(soon, reader.next()).await.is_err());
        assert_eq!(reader.requests.bytes_in_use(), 0);
        client.write_all(&sent[SMALL_BYTES - 1..SMALL_BYTES]).await.unwrap();
        assert!(tokio::time::timeout(soon, reader.next()).await.is_err());
        assert_eq!(reader.requests.bytes_in_use(), STEP_BYTES_MIN);
        assert_eq!(reader.buffer.capacity(), 0);
        client.write_all(&sent[SMALL_BYTES..]).await.unwrap();
        let frame = reader.next().await.unwrap();
        assert_eq!(frame.bytes, sent[4..]);
        drop(frame);
        assert_eq!(reader.requests.bytes_in_use(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_frame_of_many_megabytes_is_drawn_for_while_it_arrives() {
        let (mut client, mut reader) = reader(8 << 20);
        let sent = frame(5 << 20);
        let (soon, kib) = (Duration::from_millis(1), 1 << 10);
        for (until, drawn) in
            [(16, 64), (64, 64), (65, 128), (200, 256), (700, 1024), (1025, 2048), (2100, 3072)]
        {
            let until = until * kib;
            let already = reader.traffic.bytes_in.get() as usize;
            let (written, read) = tokio::join!(
                client.write_all(&sent[already..until]),
                tokio::time::timeout(soon, reader.next())
            );
            written.unwrap();
            assert!(read.is_err());
            assert_eq!(reader.requests.bytes_in_use(), drawn * kib, "after {until} bytes");
        }
        let already = reader.traffic.bytes_in.get() as usize;
        let (written, frame) = tokio::join!(client.write_all(&sent[already..]), reader.next());
        written.unwrap();
        let frame = frame.unwrap();
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
