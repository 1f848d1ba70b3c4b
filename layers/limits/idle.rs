//! A stream that fails once no byte has passed for some time.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use kernel::clock::SPAN_MAX;
use kernel::metrics::Counter;
use kernel::stream::ByteStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

/// A stream with a timer that every byte resets.
///
/// A byte only records the time. When the timer fires, it checks that time and is set again if needed. So a
/// busy connection sets the timer once per `timeout`, and an idle one wakes the process no more often.
pub(super) struct IdleTimeout {
    stream: Box<dyn ByteStream>,
    timeout: Duration,
    last_byte: Instant,
    alarm: Pin<Box<Sleep>>,
    is_over: bool,
    closed: Arc<Counter>,
}

impl IdleTimeout {
    pub(super) fn new(stream: Box<dyn ByteStream>, timeout: Duration, closed: Arc<Counter>) -> Self {
        let alarm = Box::pin(sleep(timeout));
        Self { stream, timeout, last_byte: Instant::now(), alarm, is_over: false, closed }
    }

    /// Records the time of a poll with progress, or checks the timer after one without.
    fn watch<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        match polled {
            Poll::Pending => self.poll_idle(context),
            done => {
                self.last_byte = Instant::now();
                done
            }
        }
    }

    fn poll_idle<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        loop {
            ready!(self.alarm.as_mut().poll(context));
            // A timeout beyond the largest instant never fires.
            let Some(due) = self.last_byte.checked_add(self.timeout) else { return Poll::Pending };
            let now = Instant::now();
            let late = now.saturating_duration_since(due.max(self.alarm.deadline()));
            if now < due {
                self.alarm.as_mut().reset(due);
            } else if late > SPAN_MAX && !self.is_over {
                // This process stood still, or had no time for the connection. Bytes may have come that it has not
                // seen yet.
                self.last_byte = now;
            } else {
                break;
            }
        }
        if !self.is_over {
            self.is_over = true;
            self.closed.add(1);
        }
        let message = format!("no byte passed for {:?} (idle_timeout)", self.timeout);
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, message)))
    }
}

impl AsyncRead for IdleTimeout {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.watch(context, polled)
    }
}

impl AsyncWrite for IdleTimeout {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_flush(context);
        self.watch(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_shutdown(context);
        self.watch(context, polled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn stream() -> (DuplexStream, IdleTimeout, Arc<Counter>) {
        let (client, server) = tokio::io::duplex(10);
        let closed = Arc::new(Counter::default());
        (client, IdleTimeout::new(Box::new(server), 10 * MINUTE, Arc::clone(&closed)), closed)
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_in_either_direction_set_the_clock_back() {
        let (mut client, mut server, closed) = stream();
        let start = Instant::now();
        let talk = async {
            for _ in 0..3 {
                tokio::time::sleep(9 * MINUTE).await;
                client.write_all(b"x").await.unwrap();
            }
            std::future::pending::<()>().await;
        };
        let listen = async {
            let mut byte = [0];
            for _ in 0..3 {
                server.read_exact(&mut byte).await.unwrap();
            }
            server.read_exact(&mut byte).await.unwrap_err()
        };
        let error = tokio::select! {
            error = listen => error,
            () = talk => unreachable!("it talks for ever"),
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let waited = start.elapsed();
        assert!(waited >= 37 * MINUTE && waited < 38 * MINUTE, "{waited:?}");
        assert_eq!(closed.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_reads_nothing_is_idle_too() {
        let (_client, mut server, closed) = stream();
        let error = server.write_all(&[0; 100]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(server.read_u8().await.is_err(), "it stays over");
        assert_eq!(closed.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_stop_of_this_process_is_not_held_against_the_client() {
        let (_client, mut server, closed) = stream();
        let poll = |server: &mut IdleTimeout| {
            let mut context = Context::from_waker(std::task::Waker::noop());
            let mut space = [0; 1];
            Pin::new(server).poll_read(&mut context, &mut ReadBuf::new(&mut space)).is_pending()
        };
        assert!(poll(&mut server));
        tokio::time::advance(60 * MINUTE).await;
        assert!(poll(&mut server), "the timer fired 50 minutes late");
        tokio::time::advance(9 * MINUTE).await;
        assert!(poll(&mut server));
        tokio::time::advance(MINUTE + Duration::from_secs(1)).await;
        assert!(!poll(&mut server));
        assert_eq!(closed.get(), 1);
    }
}
