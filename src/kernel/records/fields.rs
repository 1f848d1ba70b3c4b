//! The fields of one record, read from a slice or from a stream that divides the record.

use std::io::{self, BufRead};

/// Why a record cannot be read.
pub(super) enum Fault {
    /// It ends within a number.
    End,
    Wrong(&'static str),
}

impl Fault {
    pub(super) fn what(&self) -> &'static str {
        match self {
            Fault::End => "ends within a number",
            Fault::Wrong(what) => what,
        }
    }
}

/// Where the fields of one record are read from.
pub(super) trait Fields {
    /// The next byte; `None` at the end.
    fn byte(&mut self) -> Option<u8>;

    /// Skips bytes; `false` if they are not all there.
    fn skip(&mut self, bytes: usize) -> bool;

    /// Appends the next bytes to `output`; `false` if they are not all there.
    fn copy(&mut self, bytes: usize, output: &mut Vec<u8>) -> bool;

    fn is_at_end(&self) -> bool;
}

impl Fields for &[u8] {
    #[inline]
    fn byte(&mut self) -> Option<u8> {
        self.split_off_first().copied()
    }

    #[inline]
    fn skip(&mut self, bytes: usize) -> bool {
        self.split_off(..bytes).is_some()
    }

    #[inline]
    fn copy(&mut self, bytes: usize, output: &mut Vec<u8>) -> bool {
        let taken = self.split_off(..bytes);
        output.extend_from_slice(taken.unwrap_or_default());
        taken.is_some()
    }

    #[inline]
    fn is_at_end(&self) -> bool {
        self.is_empty()
    }
}

/// A record that does not lie in one piece of its source.
pub(super) struct Divided<'a> {
    pub(super) source: &'a mut dyn BufRead,
    /// Bytes of the record that are still to be read.
    pub(super) left: usize,
    pub(super) stopped: Option<Stopped>,
}

/// Why a source gives no more bytes.
pub(super) enum Stopped {
    Ended,
    Failed(io::Error),
}

impl Divided<'_> {
    /// The bytes at hand, at least one.
    pub(super) fn piece(&mut self) -> Option<&[u8]> {
        match self.source.fill_buf() {
            Ok([]) => {
                self.stopped = Some(Stopped::Ended);
                None
            }
            Ok(piece) => Some(piece),
            Err(error) => {
                self.stopped = Some(Stopped::Failed(error));
                None
            }
        }
    }

    pub(super) fn consume(&mut self, bytes: usize) {
        self.source.consume(bytes);
        self.left -= bytes;
    }
}

impl Fields for Divided<'_> {
    fn byte(&mut self) -> Option<u8> {
        if self.left == 0 {
            return None;
        }
        let byte = self.piece()?.first().copied()?;
        self.consume(1);
        Some(byte)
    }

    fn skip(&mut self, bytes: usize) -> bool {
        if bytes > self.left {
            return false;
        }
        let mut rest = bytes;
        while rest > 0 {
            let Some(piece) = self.piece() else { return false };
            let step = piece.len().min(rest);
            self.consume(step);
            rest -= step;
        }
        true
    }

    fn copy(&mut self, bytes: usize, output: &mut Vec<u8>) -> bool {
        if bytes > self.left {
            return false;
        }
        // No memory is taken before the bytes are there: a length may lie.
        let mut rest = bytes;
        while rest > 0 {
            let Some(piece) = self.piece() else { return false };
            let step = piece.len().min(rest);
            output.extend_from_slice(&piece[..step]);
            self.consume(step);
            rest -= step;
        }
        true
    }

    fn is_at_end(&self) -> bool {
        self.left == 0
    }
}

/// Returns whether there was a value, which may be empty.
#[inline]
pub(super) fn skip_nullable(record: &mut impl Fields) -> Result<bool, Fault> {
    match int(record)? {
        -1 => Ok(false),
        length => {
            let length =
                usize::try_from(length).map_err(|_| Fault::Wrong("has a field of negative length"))?;
            if record.skip(length) { Ok(true) } else { Err(Fault::Wrong("has a field that passes its end")) }
        }
    }
}

/// A zigzag varint of 32 bits, in at most five bytes: clients fail at longer ones.
#[inline]
pub(super) fn int(record: &mut impl Fields) -> Result<i32, Fault> {
    const TOO_LONG: Fault = Fault::Wrong("has a number of more than 32 bits");
    let value = u32::try_from(varint(record, 28, TOO_LONG)?).map_err(|_| TOO_LONG)?;
    Ok((value >> 1) as i32 ^ -((value & 1) as i32))
}

/// A zigzag varint of 64 bits, in at most ten bytes.
#[inline]
pub(super) fn long(record: &mut impl Fields) -> Result<i64, Fault> {
    let value = varint(record, 63, Fault::Wrong("has a number of more than 64 bits"))?;
    Ok((value >> 1) as i64 ^ -((value & 1) as i64))
}

/// A varint whose last byte may be shifted so far.
#[inline]
fn varint(record: &mut impl Fields, shift_max: u32, too_long: Fault) -> Result<u64, Fault> {
    let (mut value, mut shift) = (0_u64, 0);
    loop {
        let byte = record.byte().ok_or(Fault::End)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
        shift += 7;
        if shift > shift_max {
            return Err(too_long);
        }
    }
}
