//! Compressed records as a stream, for a [walk](super::walk).
//!
//! Memory is bounded by the window that a codec looks back into, never by what the records expand to. What other clients
//! could not read is refused, even where our own decoder would go on: an end that is missing, bytes that follow it, and
//! lz4 blocks that depend on each other, which Kafka and the Java client refuse.

use std::io::{self, BufRead, BufReader, Read};

use lz4_flex::frame::FrameDecoder;

use super::pieces::{invalid, read_from};
use super::snappy::Snappy;
use super::{Codec, CodecError};

/// Bytes that are decompressed at a time.
const PIECE_BYTES: usize = 64 << 10;

/// The window that all but the last three levels of zstd stay within: 8 MiB.
const WINDOW_LOG: u32 = 23;
/// The largest that Kafka's decoder takes.
const LARGE_WINDOW_LOG: u32 = 27;
/// Records in a frame of a larger window have at most so many bytes. A producer writes the window of its level, however
/// little it sends; a decoder only takes the memory for what it has decompressed.
const LARGE_WINDOW_BYTES: usize = 32 << 20;

impl Codec {
    /// Decompresses piece by piece.
    ///
    /// # Errors
    /// The bytes do not begin as they must; other faults end the stream with an error.
    pub fn open<'a>(self, source: &'a [u8]) -> Result<Box<dyn BufRead + 'a>, CodecError> {
        let stream: Box<dyn BufRead + 'a> = match self {
            Codec::None => Box::new(source),
            Codec::Gzip => {
                let member = OneMember(flate2::bufread::GzDecoder::new(source));
                Box::new(BufReader::with_capacity(PIECE_BYTES, member))
            }
            Codec::Snappy => Box::new(Snappy::new(source).map_err(CodecError::Broken)?),
            Codec::Lz4 => Box::new(Lz4::new(source).map_err(CodecError::Broken)?),
            Codec::Zstd => {
                let mut frames =
                    zstd::stream::read::Decoder::with_buffer(source).map_err(CodecError::Broken)?;
                let window_log = if has_large_window(source) { LARGE_WINDOW_LOG } else { WINDOW_LOG };
                frames.window_log_max(window_log).map_err(CodecError::Broken)?;
                Box::new(BufReader::with_capacity(PIECE_BYTES, frames))
            }
        };
        Ok(stream)
    }

    /// The most bytes that may be read from what [`Codec::open`] returns, for the sake of its memory.
    pub(super) fn opened_bytes_max(self, source: &[u8]) -> usize {
        if self == Codec::Zstd && has_large_window(source) { LARGE_WINDOW_BYTES } else { usize::MAX }
    }
}

/// A gzip stream of one member. librdkafka reads no more than one: of several it loses records, or aborts its process.
struct OneMember<'a>(flate2::bufread::GzDecoder<&'a [u8]>);

impl Read for OneMember<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.0.read(buffer)?;
        if read == 0 && !buffer.is_empty() && !self.0.get_ref().is_empty() {
            return Err(invalid("bytes follow the gzip stream"));
        }
        Ok(read)
    }
}

/// Whether the first frame needs more than the usual window. Later frames must not need more than the first.
fn has_large_window(source: &[u8]) -> bool {
    zstd_window(source).is_some_and(|window| window > 1 << WINDOW_LOG)
}

/// Bytes that a decoder must keep of a zstd frame (RFC 8878, section 3.1.1.1): its window, or instead the whole content
/// of a frame that says how long that is. `None` if the header is cut off.
fn zstd_window(source: &[u8]) -> Option<u64> {
    let (descriptor, rest) = source.get(4..)?.split_first()?;
    let is_single_segment = descriptor & 0x20 != 0;
    if !is_single_segment {
        let window = u64::from(*rest.first()?);
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + (base >> 3) * (window & 7));
    }
    let dictionary_id = [0, 1, 2, 4][usize::from(descriptor & 3)];
    let length = [1, 2, 4, 8][usize::from(descriptor >> 6)];
    let mut content = [0; 8];
    content[..length].copy_from_slice(rest.get(dictionary_id..dictionary_id + length)?);
    Some(u64::from_le_bytes(content))
}

/// One lz4 frame.
struct Lz4<'a> {
    frame: FrameDecoder<Source<'a>>,
    is_over: bool,
}

/// Notices a read beyond the end, which the decoder takes for the end of the frame.
struct Source<'a> {
    bytes: &'a [u8],
    has_run_out: bool,
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.has_run_out |= self.bytes.is_empty() && !buffer.is_empty();
        self.bytes.read(buffer)
    }
}

impl<'a> Lz4<'a> {
    fn new(source: &'a [u8]) -> io::Result<Self> {
        let flags = source.strip_prefix(&[0x04, 0x22, 0x4d, 0x18]).and_then(|rest| rest.first());
        match flags {
            None => return Err(invalid("it is not an lz4 frame")),
            // Version 1, independent blocks, and neither reserved bits nor a dictionary.
            Some(flags) if flags & 0b1110_0011 != 0b0110_0000 => {
                return Err(invalid("its lz4 frame is of a kind that Kafka does not take"));
            }
            Some(_) => {}
        }
        let source = Source { bytes: source, has_run_out: false };
        Ok(Self { frame: FrameDecoder::new(source), is_over: false })
    }
}

impl BufRead for Lz4<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if !self.is_over && self.frame.fill_buf()?.is_empty() {
            self.is_over = true;
            let source = self.frame.get_ref();
            if source.has_run_out {
                return Err(invalid("the lz4 frame does not end"));
            }
            if !source.bytes.is_empty() {
                return Err(invalid("bytes follow the lz4 frame"));
            }
        }
        if self.is_over { Ok(&[]) } else { self.frame.fill_buf() }
    }

    fn consume(&mut self, bytes: usize) {
        if bytes > 0 {
            self.frame.consume(bytes);
        }
    }
}

impl Read for Lz4<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_from(self, buffer)
    }
}
