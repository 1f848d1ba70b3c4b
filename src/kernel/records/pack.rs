//! Compresses records as they come, so that memory holds only what is already compressed.

use std::io::{self, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
use zstd::stream::write::Encoder as ZstdEncoder;

use super::codec::{XERIAL_BLOCK_BYTES, XERIAL_MAGIC};
use super::{Codec, CodecError};

/// A stream that compresses what is written to it.
pub(super) trait Pack: Write {
    /// What it began with, and everything that was written, compressed.
    fn finish(self: Box<Self>) -> Result<Vec<u8>, CodecError>;
}

impl Codec {
    /// A stream that compresses behind what is already in `output`, as [`Codec::compress`] does by default.
    pub(super) fn pack(self, output: Vec<u8>) -> Result<Box<dyn Pack>, CodecError> {
        let stream: Box<dyn Pack> = match self {
            Codec::None => Box::new(output),
            Codec::Gzip => Box::new(GzEncoder::new(output, Compression::new(6))),
            Codec::Snappy => Box::new(SnappyBlocks::new(output)),
            Codec::Lz4 => {
                let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
                Box::new(FrameEncoder::with_frame_info(info, output))
            }
            Codec::Zstd => Box::new(ZstdEncoder::new(output, 3).map_err(CodecError::Broken)?),
        };
        Ok(stream)
    }
}

impl Pack for Vec<u8> {
    fn finish(self: Box<Self>) -> Result<Vec<u8>, CodecError> {
        Ok(*self)
    }
}

impl Pack for GzEncoder<Vec<u8>> {
    fn finish(self: Box<Self>) -> Result<Vec<u8>, CodecError> {
        GzEncoder::finish(*self).map_err(CodecError::Broken)
    }
}

impl Pack for FrameEncoder<Vec<u8>> {
    fn finish(self: Box<Self>) -> Result<Vec<u8>, CodecError> {
        FrameEncoder::finish(*self).map_err(|error| CodecError::Broken(io::Error::other(error)))
    }
}

impl Pack for ZstdEncoder<'static, Vec<u8>> {
    fn finish(self: Box<Self>) -> Result<Vec<u8>, CodecError> {
        ZstdEncoder::finish(*self).map_err(CodecError::Broken)
    }
}

/// Blocks of Java's snappy stream format.
struct SnappyBlocks {
    output: Vec<u8>,
    /// The beginning of the next block.
    plain: Vec<u8>,
    encoder: snap::raw::Encoder,
}

impl SnappyBlocks {
    fn new(mut output: Vec<u8>) -> Self {
        output.extend(XERIAL_MAGIC);
        output.extend(1_u32.to_be_bytes());
        output.extend(1_u32.to_be_bytes());
        let plain = Vec::with_capacity(XERIAL_BLOCK_BYTES);
        Self { output, plain, encoder: snap::raw::Encoder::new() }
    }

    fn end_block(&mut self) -> io::Result<()> {
        if !self.plain.is_empty() {
            let packed = self.encoder.compress_vec(&self.plain)?;
            self.output.extend((packed.len() as u32).to_be_bytes());
            self.output.extend(packed);
            self.plain.clear();
        }
        Ok(())
    }
}

impl Write for SnappyBlocks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.plain.len() == XERIAL_BLOCK_BYTES {
            self.end_block()?;
        }
        let taken = bytes.len().min(XERIAL_BLOCK_BYTES - self.plain.len());
        self.plain.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Pack for SnappyBlocks {
    fn finish(mut self: Box<Self>) -> Result<Vec<u8>, CodecError> {
        self.end_block().map_err(CodecError::Broken)?;
        Ok(self.output)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn a_stream_is_read_as_what_is_compressed_at_once() {
        let plain: Vec<u8> = (0..200_000_u32).flat_map(|number| (number / 7).to_be_bytes()).collect();
        for codec in Codec::ALL {
            for bytes in [0, 1, XERIAL_BLOCK_BYTES, XERIAL_BLOCK_BYTES + 1, plain.len()] {
                for step in [1_000, 100_000] {
                    let mut stream = codec.pack(b"head".to_vec()).unwrap();
                    for piece in plain[..bytes].chunks(step) {
                        stream.write_all(piece).unwrap();
                    }
                    let packed = stream.finish().unwrap();
                    let (head, packed) = packed.split_at(4);
                    assert_eq!(head, b"head", "{codec:?}");
                    let read = codec.decompress(Bytes::copy_from_slice(packed), plain.len()).unwrap();
                    assert!(read == plain[..bytes], "{codec:?}: {bytes} bytes by {step}");
                }
            }
        }
    }
}
