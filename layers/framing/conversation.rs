//! The loop of one connection: reads requests, runs calls, writes replies.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use kernel::stream::ByteStream;
use kernel::ticket::Lane;
use kernel::{Body, Call, Header, Malformed, Served, Session, frame};
use tokio::time::{Sleep, sleep, timeout};

use super::calls::{Calls, EndedCall};
use super::close_reason::CloseReason;
use super::context::Context;
use super::outbox::Outbox;
use super::reader::{Frame, Reader};
use super::versions;

/// How long a fully answered client has to close, before the connection is closed while it may still send.
/// Closing a socket with unread bytes in it resets the connection, which can destroy replies that the client
/// has not read yet.
const LINGER: Duration = Duration::from_secs(1);

/// A connection being served.
pub(super) struct Conversation<'a> {
    context: &'a Context,
    session: Arc<Session>,
    /// The served APIs as of the client's last ApiVersions request, or of its connection.
    served: Served,
    lane: Arc<Lane>,
    reader: Reader,
    calls: Calls,
    outbox: Outbox,
    muted: Option<Pin<Box<Sleep>>>,
    /// Why reading has stopped.
    end: Option<CloseReason>,
}

impl<'a> Conversation<'a> {
    pub(super) fn new(context: &'a Context, stream: Box<dyn ByteStream>, session: Arc<Session>) -> Self {
        let (read_half, write_half) = tokio::io::split(stream);
        let traffic = &context.traffic;
        session.set_request_bytes_max(context.frame_bytes_max);
        Self {
            context,
            session: Arc::clone(&session),
            served: context.stack.served(),
            lane: Lane::new(),
            reader: Reader::new(
                read_half,
                context.frame_bytes_max,
                context.stall_timeout,
                context.requests.clone(),
                Arc::clone(traffic),
                session,
            ),
            calls: Calls::default(),
            outbox: Outbox::new(
                write_half,
                context.stall_timeout,
                context.replies.clone(),
                Arc::clone(traffic),
            ),
            muted: None,
            end: None,
        }
    }

    /// Serves until reading has stopped and every call is answered.
    ///
    /// Every branch of the `select!` may be dropped at any time: reader, calls and outbox keep their own
    /// progress. All are polled each time, so neither a client that does not read its replies nor one that
    /// sends slowly delays the calls in flight and what they hold.
    pub(super) async fn run(mut self) -> CloseReason {
        let drain = self.session.drain.clone();
        let mut draining = pin!(drain.started());
        loop {
            self.collect();
            if self.calls.len() == 0
                && self.outbox.is_idle()
                && let Some(end) = self.end.take()
            {
                self.close(&end).await;
                return end;
            }
            let may_read = self.may_read();
            self.reader.set_alone(self.calls.len() == 0 && self.outbox.len() == 0);
            self.reader.set_paused(!may_read);
            tokio::select! {
                biased;
                () = &mut draining, if self.end.is_none() => self.end = Some(CloseReason::Drained),
                sent = self.outbox.flush(), if !self.outbox.is_idle() => match sent {
                    Ok(()) => self.mute(),
                    // The client can no longer be answered.
                    Err(end) => return end,
                },
                () = self.calls.oldest_ended(), if self.calls.len() > 0 => {}
                // While it drains, it only looks whether the client has gone.
                frame = self.reader.next(), if matches!(self.end, None | Some(CloseReason::Drained)) => self.receive(frame),
                () = over(&mut self.muted), if self.muted.is_some() => {}
            }
        }
    }

    /// Whether another request may be read. Replies not yet sent count too, so that a client that does not
    /// read its replies cannot accumulate them.
    fn may_read(&self) -> bool {
        let in_flight = self.calls.len() + self.outbox.len();
        let is_muted = self.muted.is_some() || self.outbox.will_mute();
        self.end.is_none() && !is_muted && in_flight < self.context.max_in_flight
    }

    /// Queues the replies that are next in order.
    fn collect(&mut self) {
        while let Some((header, outcome)) = self.calls.take_ended() {
            match outcome {
                EndedCall::Reply(None) => {}
                EndedCall::Reply(Some(reply)) => {
                    let is_last = reply.close;
                    match self.outbox.push(&header, reply) {
                        Ok(()) if is_last => self.hang_up(CloseReason::Finished),
                        Ok(()) => {}
                        Err(Malformed(why)) => {
                            let Header { api, version, .. } = header;
                            self.hang_up(CloseReason::HungUp(format!("the reply to {api} {version}: {why}")));
                        }
                    }
                }
                EndedCall::HungUp(hangup) => {
                    let Header { api, version, .. } = header;
                    self.hang_up(CloseReason::HungUp(format!("{api} {version}: {hangup}")));
                }
                EndedCall::Panicked(message) => self.panicked(&header, &message),
            }
        }
    }

    /// Ends the connection after the queued replies; later calls are dropped.
    fn hang_up(&mut self, end: CloseReason) {
        self.calls.clear();
        self.end = Some(end);
    }

    fn panicked(&mut self, header: &Header, message: &str) {
        tracing::error!(
            connection = self.session.id,
            peer = %self.session.peer,
            api = %header.api,
            version = header.version,
            client_id = header.client_id.as_deref(),
            message_of_panic = message,
            "a call panicked and its connection is closed; this is a bug in Yagura, please report it"
        );
        self.hang_up(CloseReason::Panicked(format!("{} {}: {message}", header.api, header.version)));
    }

    fn mute(&mut self) {
        if let Some(time) = self.outbox.take_mute() {
            self.muted = Some(Box::pin(sleep(time)));
        }
    }

    /// Starts the call of a frame and of the buffered frames after it, so that their replies can be sent
    /// together.
    fn receive(&mut self, frame: Result<Frame, CloseReason>) {
        let mut next = Some(frame);
        while let Some(frame) = next.take() {
            match frame.and_then(|frame| self.try_begin(frame)) {
                Ok(()) if self.may_read() => {
                    self.reader.set_alone(false);
                    next = self.reader.buffered();
                }
                Ok(()) => {}
                Err(end) => {
                    self.session.end();
                    self.end = Some(end);
                }
            }
        }
    }

    /// Parses a frame, and sends its call down the stack.
    fn try_begin(&mut self, frame: Frame) -> Result<(), CloseReason> {
        let Frame { bytes, lease } = frame;
        if versions::is_api_versions(&bytes) {
            self.served = self.context.stack.served();
        }
        if let Some((header, reply)) = versions::answer_unknown_api_versions(&self.served, &bytes) {
            self.calls.answer(header, Ok(Some(reply)));
            return Ok(());
        }
        let (header, body) = frame::parse_request(bytes).map_err(|error| CloseReason::Refused(error.0))?;
        versions::check(&self.served, &header).map_err(CloseReason::Refused)?;
        let mut call = Call {
            header: header.clone(),
            body: Body::new(body, lease),
            session: Arc::clone(&self.session),
            ticket: self.lane.issue(),
            origin: None,
        };
        match versions::note_client_software(&mut call) {
            Some(refusal) => self.calls.answer(header, refusal),
            None => {
                let stack = &self.context.stack;
                self.calls.start(header, || stack.enter(call));
            }
        }
        Ok(())
    }

    /// Closes the connection. Errors are ignored: all replies have been written.
    async fn close(&mut self, end: &CloseReason) {
        let is_closed = timeout(self.context.stall_timeout, self.outbox.shutdown()).await;
        if matches!(end, CloseReason::Drained | CloseReason::Finished) && matches!(is_closed, Ok(Ok(()))) {
            let _ = timeout(LINGER, self.reader.discard()).await;
        }
    }
}

/// Waits for the end of the mute.
async fn over(muted: &mut Option<Pin<Box<Sleep>>>) {
    if let Some(time) = muted {
        time.as_mut().await;
    }
    *muted = None;
}
