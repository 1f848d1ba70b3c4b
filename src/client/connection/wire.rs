//! The two tasks of a connection, and the decoding of responses.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::ResponseHeader;
use kafka_protocol::protocol::Decodable;
use kernel::Api;
use kernel::schema::{Direction, walk};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::super::error::Error;
use super::{Line, Outgoing};

/// The largest accepted response. A fetch exceeds its limit only by its first batch, and brokers accept no
/// batches near this size.
const FRAME_BYTES_MAX: usize = 512 << 20;
/// The size of the read buffer. Large, because each read costs a system call whatever it returns.
const READ_BYTES: usize = 256 << 10;
/// Most that is reserved beyond the received bytes, whatever length a frame claims.
const AHEAD_BYTES_MAX: usize = 4 << 20;

/// Writes what is queued until the connection is dropped.
pub(super) async fn write(
    mut half: OwnedWriteHalf,
    mut queue: mpsc::UnboundedReceiver<Outgoing>,
    line: Arc<Line>,
) {
    while let Some(Outgoing { frame, written }) = queue.recv().await {
        if let Err(error) = half.write_all(&frame).await {
            return line.close(Error::disconnected(&line.address, error));
        }
        line.state.lock().unwritten -= 1;
        // Only requests without a response have a waiter for this.
        let _ = written.send(());
    }
}

/// Delivers responses until the connection breaks.
pub(super) async fn read(mut half: OwnedReadHalf, line: Arc<Line>) {
    let cause = match receive(&mut half, &line).await {
        Ok(()) => Error::disconnected(&line.address, "the broker closed it"),
        Err(cause) => cause,
    };
    line.close(cause);
}

async fn receive(half: &mut OwnedReadHalf, line: &Line) -> Result<(), Error> {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(answer) =
            take_frame(&mut buffer).map_err(|cause| Error::malformed(&line.address, cause))?
        {
            deliver(line, answer)?;
        }
        let read = half.read_buf(&mut buffer).await;
        match read.map_err(|error| Error::disconnected(&line.address, error))? {
            0 if buffer.is_empty() => return Ok(()),
            0 => return Err(Error::disconnected(&line.address, "the broker closed it within an answer")),
            _ => {}
        }
    }
}

/// Takes a frame, without its length, from the buffer; or reserves space for more of it.
fn take_frame(buffer: &mut BytesMut) -> Result<Option<Bytes>, String> {
    let mut missing = READ_BYTES;
    if let Some(prefix) = buffer.first_chunk::<4>() {
        let length = i32::from_be_bytes(*prefix);
        let length = usize::try_from(length)
            .ok()
            .filter(|length| (4..=FRAME_BYTES_MAX).contains(length))
            .ok_or_else(|| format!("an answer of {length} bytes"))?;
        if buffer.len() >= 4 + length {
            return Ok(Some(buffer.split_to(4 + length).freeze().slice(4..)));
        }
        missing = (4 + length - buffer.len()).clamp(READ_BYTES, AHEAD_BYTES_MAX);
    }
    if buffer.capacity() - buffer.len() < missing.min(READ_BYTES / 4) {
        buffer.reserve(missing);
    }
    Ok(None)
}

fn deliver(line: &Line, answer: Bytes) -> Result<(), Error> {
    let malformed = |cause: String| Err(Error::malformed(&line.address, cause));
    let Some(correlation_id) = answer.first_chunk::<4>().map(|bytes| i32::from_be_bytes(*bytes)) else {
        return malformed("an answer without a correlation id".to_owned());
    };
    let next = line.state.lock().waiting.pop_front();
    match next {
        Some(waiting) if waiting.correlation_id == correlation_id => {
            // The caller may have given up.
            let _ = waiting.answer.send(Ok(answer));
            Ok(())
        }
        Some(waiting) => {
            let expected = waiting.correlation_id;
            line.state.lock().waiting.push_front(waiting);
            malformed(format!("the answer to request {correlation_id} instead of {expected}"))
        }
        None => malformed(format!("an answer to request {correlation_id}, which is not waited for")),
    }
}

/// The body of a response whose header has no tagged fields, as that of ApiVersions (KIP-511).
pub(super) fn body(answer: &[u8]) -> &[u8] {
    answer.get(4..).unwrap_or_default()
}

/// Checks the bounds of a response, then decodes it.
pub(super) fn decode<T: Decodable>(
    api: Api,
    version: i16,
    mut answer: Bytes,
    address: &str,
) -> Result<T, Error> {
    let malformed =
        |cause: String| Error::malformed(address, format!("an answer to {api} {version}: {cause}"));
    let header_version = api.response_header_version(version);
    ResponseHeader::decode(&mut answer, header_version).map_err(|error| malformed(format!("{error:#}")))?;
    let message = api.message(Direction::Response).ok_or_else(|| {
        Error::misused(format!("{api} is no API of Kafka 4.1, so its answers cannot be checked"))
    })?;
    walk::check(message, version, &answer).map_err(|error| malformed(error.0))?;
    T::decode(&mut answer, version).map_err(|error| malformed(format!("{error:#}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_cut_wherever_the_reads_end() {
        let wire = [&5i32.to_be_bytes()[..], b"hello", &4i32.to_be_bytes()[..], b"list"].concat();
        for cut in 0..wire.len() {
            let mut buffer = BytesMut::new();
            let mut frames = Vec::new();
            for part in [&wire[..cut], &wire[cut..]] {
                buffer.extend_from_slice(part);
                while let Some(frame) = take_frame(&mut buffer).unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [&b"hello"[..], b"list"], "cut at {cut}");
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused_and_allocate_nothing() {
        for length in [-1, 0, 3, i32::MIN, i32::MAX] {
            let mut buffer = BytesMut::from(&length.to_be_bytes()[..]);
            assert!(take_frame(&mut buffer).is_err(), "{length}");
        }
        let mut buffer = BytesMut::from(&(400i32 << 20).to_be_bytes()[..]);
        assert_eq!(take_frame(&mut buffer), Ok(None));
        assert!(buffer.capacity() < 16 << 20, "{} bytes for four", buffer.capacity());
    }
}
