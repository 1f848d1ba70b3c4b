//! Snappy as a stream: one raw block, as librdkafka and the Go clients write, or the blocks of Java's stream format.
//!
//! A block of up to 4 MiB is decompressed at once, into memory that the next one reuses. A larger one is decompressed as a
//! stream that keeps its last 4 MiB: no encoder looks back farther, although the format would allow it.

use std::io::{self, BufRead, Read};

use super::codec::XERIAL_MAGIC;
use super::pieces::{invalid, read_from};

/// Bytes of a block that is decompressed at once, and bytes that a larger one may look back.
const WINDOW_BYTES: usize = 4 << 20;
/// Three bytes expand to 64 at most.
const EXPANSION_MAX: usize = 22;

/// A stream of blocks.
pub(super) struct Snappy<'a> {
    /// The blocks that are still to be read.
    rest: &'a [u8],
    /// Whether a length precedes each block.
    has_lengths: bool,
    /// A decompressed block; its buffer may be longer.
    block: Vec<u8>,
    /// What of it is still to be read.
    unread: std::ops::Range<usize>,
    large: Option<LargeBlock<'a>>,
}

impl<'a> Snappy<'a> {
    pub(super) fn new(source: &'a [u8]) -> io::Result<Self> {
        let stream = source.strip_prefix(&XERIAL_MAGIC);
        let rest = match stream {
            // Two version numbers follow.
            Some(stream) => {
                stream.get(8..).ok_or_else(|| invalid("the snappy stream ends within its header"))?
            }
            None => source,
        };
        Ok(Self { rest, has_lengths: stream.is_some(), block: Vec::new(), unread: 0..0, large: None })
    }

    /// Decompresses until there is something to read, or nothing is left.
    fn advance(&mut self) -> io::Result<()> {
        while self.unread.is_empty() {
            if let Some(large) = &mut self.large {
                if !large.fill_buf()?.is_empty() {
                    return Ok(());
                }
                self.large = None;
            }
            let Some(block) = self.next_block()? else { return Ok(()) };
            let length = snap::raw::decompress_len(block)?;
            if length / EXPANSION_MAX > block.len() {
                return Err(invalid("a snappy block announces more bytes than it can hold"));
            }
            if length > WINDOW_BYTES {
                self.large = Some(LargeBlock::new(block, length)?);
                continue;
            }
            if self.block.len() < length {
                self.block.resize(length, 0);
            }
            snap::raw::Decoder::new().decompress(block, &mut self.block[..length])?;
            self.unread = 0..length;
        }
        Ok(())
    }

    fn next_block(&mut self) -> io::Result<Option<&'a [u8]>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        if !self.has_lengths {
            return Ok(Some(std::mem::take(&mut self.rest)));
        }
        let cut = || invalid("the snappy stream ends within a block");
        let (length, rest) = self.rest.split_first_chunk::<4>().ok_or_else(cut)?;
        let length = u32::from_be_bytes(*length) as usize;
        let (block, rest) = rest.split_at_checked(length).ok_or_else(cut)?;
        self.rest = rest;
        Ok(Some(block))
    }
}

impl BufRead for Snappy<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.advance()?;
        match &mut self.large {
            Some(large) => large.fill_buf(),
            None => Ok(&self.block[self.unread.clone()]),
        }
    }

    fn consume(&mut self, bytes: usize) {
        match &mut self.large {
            Some(large) => large.unread_from += bytes,
            None => self.unread.start += bytes,
        }
    }
}

impl Read for Snappy<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        read_from(self, buffer)
    }
}

/// A block that is too large to be decompressed at once.
struct LargeBlock<'a> {
    source: &'a [u8],
    /// Bytes that it announces and that are not decompressed yet.
    left: usize,
    /// Bytes of a literal that are still to be copied.
    literal: usize,
    /// What was decompressed last.
    window: Vec<u8>,
    unread_from: usize,
}

impl<'a> LargeBlock<'a> {
    fn new(block: &'a [u8], length: usize) -> io::Result<Self> {
        // The length itself: `decompress_len` has read it.
        let varint = block.iter().position(|byte| byte & 0x80 == 0).map_or(block.len(), |last| last + 1);
        let source = block.get(varint..).ok_or_else(|| invalid("a snappy block ends within its length"))?;
        let window = Vec::with_capacity(2 * WINDOW_BYTES);
        Ok(Self { source, left: length, literal: 0, window, unread_from: 0 })
    }

    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.unread_from == self.window.len() {
            self.decompress()?;
        }
        Ok(&self.window[self.unread_from..])
    }

    /// Decompresses the next bytes, and keeps those that they may look back at.
    fn decompress(&mut self) -> io::Result<()> {
        self.window.drain(..self.window.len().saturating_sub(WINDOW_BYTES));
        self.unread_from = self.window.len();
        let until = self.window.len() + WINDOW_BYTES / 2;
        while self.window.len() < until && self.left > 0 {
            let before = self.window.len();
            if self.literal > 0 {
                let length = self.literal.min(until - before);
                let bytes = self.take(length)?;
                self.window.extend_from_slice(bytes);
                self.literal -= length;
            } else {
                self.element()?;
            }
            let added = self.window.len() - before;
            self.left = self.left.checked_sub(added).ok_or_else(|| invalid("a snappy block is too long"))?;
        }
        if self.left == 0 && (self.literal > 0 || !self.source.is_empty()) {
            return Err(invalid("a snappy block is too long"));
        }
        Ok(())
    }

    /// Begins a literal, or copies what was decompressed before.
    fn element(&mut self) -> io::Result<()> {
        let tag = usize::from(self.take(1)?[0]);
        let (length, offset) = match tag & 3 {
            0 => {
                self.literal = match tag >> 2 {
                    short @ 0..60 => short + 1,
                    long => self.number(long - 59)? + 1,
                };
                return Ok(());
            }
            1 => (4 + ((tag >> 2) & 7), ((tag >> 5) << 8) | self.number(1)?),
            2 => (1 + (tag >> 2), self.number(2)?),
            _ => (1 + (tag >> 2), self.number(4)?),
        };
        let from = self.window.len().checked_sub(offset).filter(|_| offset > 0);
        let from = from.ok_or_else(|| invalid("a snappy block looks back too far"))?;
        if length <= offset {
            self.window.extend_from_within(from..from + length);
        } else {
            // It copies what it has just written.
            for at in from..from + length {
                self.window.push(self.window[at]);
            }
        }
        Ok(())
    }

    fn number(&mut self, bytes: usize) -> io::Result<usize> {
        let little_endian = self.take(bytes)?.iter().rev();
        Ok(little_endian.fold(0, |number, byte| (number << 8) | usize::from(*byte)))
    }

    fn take(&mut self, bytes: usize) -> io::Result<&'a [u8]> {
        self.source.split_off(..bytes).ok_or_else(|| invalid("a snappy block is too short"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(source: &[u8]) -> io::Result<Vec<u8>> {
        let mut plain = Vec::new();
        Snappy::new(source)?.read_to_end(&mut plain)?;
        Ok(plain)
    }

    /// Bytes that repeat themselves, near and far.
    fn text(bytes: usize) -> Vec<u8> {
        let word = |index: usize| format!("{} ", index * index % 10_007);
        (0..).map(word).flat_map(String::into_bytes).take(bytes).collect()
    }

    #[test]
    fn a_large_block_is_read_in_pieces() {
        for bytes in [WINDOW_BYTES, WINDOW_BYTES + 1, 3 * WINDOW_BYTES + 12_345] {
            let plain = text(bytes);
            let packed = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
            assert!(read(&packed).unwrap() == plain, "{bytes}");
            for end in [packed.len() / 2, packed.len() - 1] {
                assert!(read(&packed[..end]).is_err(), "{bytes} cut at {end}");
            }
            let longer = [&packed[..], &[0, b'x']].concat();
            assert!(read(&longer).is_err(), "{bytes} and one more");
        }
    }

    /// A block of one literal, and a copy of `length` bytes from `offset` bytes before its end.
    fn far_copy(literal: usize, length: u8, offset: u32) -> Vec<u8> {
        let mut block = Vec::new();
        let mut announced = literal + usize::from(length);
        while announced >= 0x80 {
            block.push(announced as u8 | 0x80);
            announced >>= 7;
        }
        block.push(announced as u8);
        block.push(62 << 2);
        block.extend(&((literal - 1) as u32).to_le_bytes()[..3]);
        block.extend(text(literal));
        block.push((length - 1) << 2 | 3);
        block.extend(offset.to_le_bytes());
        block
    }

    #[test]
    fn a_copy_may_look_back_over_the_whole_window() {
        let literal = 2 * WINDOW_BYTES;
        for offset in [1, 7, 70_000, WINDOW_BYTES] {
            let mut expected = text(literal);
            for at in literal - offset..literal - offset + 50 {
                expected.push(expected[at]);
            }
            assert!(read(&far_copy(literal, 50, offset as u32)).unwrap() == expected, "{offset}");
        }
        assert!(read(&far_copy(literal, 50, 0)).is_err());
        assert!(read(&far_copy(literal, 50, u32::MAX)).is_err());
    }

    #[test]
    fn what_a_block_cannot_hold_takes_no_memory() {
        let claims_4_gib = [0xff, 0xff, 0xff, 0xff, 0x0f, 0, b'x'];
        assert!(read(&claims_4_gib).unwrap_err().to_string().contains("can hold"));
    }

    #[test]
    fn streams_are_read_to_their_last_byte() {
        let block = |plain: &[u8]| {
            let packed = snap::raw::Encoder::new().compress_vec(plain).unwrap();
            [&(packed.len() as u32).to_be_bytes()[..], &packed].concat()
        };
        let stream = [&XERIAL_MAGIC[..], &[0; 8], &block(b"one "), &block(b""), &block(b"two")].concat();
        assert_eq!(read(&stream).unwrap(), b"one two");
        for end in [stream.len() - 1, stream.len() - 4, 12] {
            assert!(read(&stream[..end]).is_err(), "cut at {end}");
        }
        assert!(read(&[&stream[..], b"xy"].concat()).is_err());
        assert_eq!(read(b"").unwrap(), b"");
    }
}
