//! The five codecs of record batches, with bounded decompression.

use std::fmt;
use std::io::{self, Read, Write};

use bytes::Bytes;

/// How the records of a batch are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // The names say it.
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

/// Why records cannot be compressed or decompressed.
#[derive(Debug)]
pub enum CodecError {
    /// The attribute bits are not a known codec.
    Unknown(i16),
    /// The decompressed size exceeds the caller's limit.
    TooLarge(usize),
    /// The compressed bytes are invalid.
    Broken(io::Error),
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::Unknown(bits) => write!(f, "compression codec {bits} is not known"),
            CodecError::TooLarge(max) => write!(f, "the records are larger than {max} bytes uncompressed"),
            CodecError::Broken(error) => write!(f, "the compressed records cannot be read: {error}"),
        }
    }
}

impl std::error::Error for CodecError {}

/// The first bytes of the stream format that Java's snappy writes: its name, version and oldest reader.
pub(super) const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
pub(super) const XERIAL_BLOCK_BYTES: usize = 32 * 1024;

impl Codec {
    /// All codecs, in the order of their bits.
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// The codec of these attribute bits.
    pub fn from_bits(bits: i16) -> Option<Codec> {
        usize::try_from(bits).ok().and_then(|index| Codec::ALL.get(index)).copied()
    }

    /// Its attribute bits.
    pub fn bits(self) -> i16 {
        self as i16
    }

    /// Kafka's name for it in producer and topic configs.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    /// Decompresses into at most `bytes_max` bytes.
    pub fn decompress(self, bytes: Bytes, bytes_max: usize) -> Result<Bytes, CodecError> {
        let source = &bytes[..];
        match self {
            Codec::None => Ok(bytes),
            Codec::Gzip => read_bounded(flate2::read::MultiGzDecoder::new(source), bytes_max),
            Codec::Snappy => snappy_decompress(source, bytes_max),
            Codec::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(source), bytes_max),
            Codec::Zstd => {
                read_bounded(zstd::stream::read::Decoder::new(source).map_err(CodecError::Broken)?, bytes_max)
            }
        }
    }

    /// Compresses; `level` is the codec's own, or its default.
    pub fn compress(self, plain: &[u8], level: Option<i32>) -> Result<Vec<u8>, CodecError> {
        match self {
            Codec::None => Ok(plain.to_vec()),
            Codec::Gzip => {
                let level = level.and_then(|level| u32::try_from(level).ok()).unwrap_or(6).min(9);
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(level));
                encoder.write_all(plain).map_err(CodecError::Broken)?;
                encoder.finish().map_err(CodecError::Broken)
            }
            Codec::Snappy => snappy_compress(plain),
            Codec::Lz4 => lz4_compress(plain),
            Codec::Zstd => zstd::stream::encode_all(plain, level.unwrap_or(3)).map_err(CodecError::Broken),
        }
    }
}

fn read_bounded(reader: impl Read, bytes_max: usize) -> Result<Bytes, CodecError> {
    let mut plain = Vec::new();
    // One byte beyond the bound tells "too large" from "exactly full".
    reader.take(bytes_max as u64 + 1).read_to_end(&mut plain).map_err(CodecError::Broken)?;
    if plain.len() > bytes_max { Err(CodecError::TooLarge(bytes_max)) } else { Ok(plain.into()) }
}

fn broken(what: &'static str) -> CodecError {
    CodecError::Broken(io::Error::new(io::ErrorKind::InvalidData, what))
}

/// Kafka's lz4 is the frame format with independent 64 KiB blocks.
fn lz4_compress(plain: &[u8]) -> Result<Vec<u8>, CodecError> {
    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(plain).map_err(CodecError::Broken)?;
    encoder.finish().map_err(|error| CodecError::Broken(io::Error::other(error)))
}

/// Java clients write snappy in xerial's stream format, librdkafka as one raw block; both are valid in a
/// batch.
fn snappy_decompress(source: &[u8], bytes_max: usize) -> Result<Bytes, CodecError> {
    let Some(mut blocks) = source.strip_prefix(&XERIAL_MAGIC) else {
        return snappy_block(source, bytes_max).map(Bytes::from);
    };
    blocks = blocks.get(8..).ok_or_else(|| broken("the snappy stream ends within its header"))?;
    let mut plain = Vec::new();
    while let Some((length, rest)) = blocks.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let block = rest.get(..length).ok_or_else(|| broken("a snappy block passes the end"))?;
        plain.extend(snappy_block(block, bytes_max - plain.len())?);
        blocks = &rest[length..];
    }
    Ok(plain.into())
}

fn snappy_block(block: &[u8], bytes_max: usize) -> Result<Vec<u8>, CodecError> {
    let length = snap::raw::decompress_len(block).map_err(|error| CodecError::Broken(error.into()))?;
    if length > bytes_max {
        return Err(CodecError::TooLarge(bytes_max));
    }
    snap::raw::Decoder::new().decompress_vec(block).map_err(|error| CodecError::Broken(error.into()))
}

fn snappy_compress(plain: &[u8]) -> Result<Vec<u8>, CodecError> {
    let mut output = XERIAL_MAGIC.to_vec();
    output.extend(1u32.to_be_bytes());
    output.extend(1u32.to_be_bytes());
    let mut encoder = snap::raw::Encoder::new();
    for block in plain.chunks(XERIAL_BLOCK_BYTES) {
        let packed = encoder.compress_vec(block).map_err(|error| CodecError::Broken(error.into()))?;
        output.extend((packed.len() as u32).to_be_bytes());
        output.extend(packed);
    }
    Ok(output)
}
