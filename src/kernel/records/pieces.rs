//! What streams of decompressed bytes have in common.

use std::io::{self, BufRead, Read};

/// The error of a stream that is not what it must be.
pub(super) fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// `Read` for a stream that is read piece by piece.
pub(super) fn read_from(source: &mut impl BufRead, buffer: &mut [u8]) -> io::Result<usize> {
    let read = source.fill_buf()?.read(buffer)?;
    source.consume(read);
    Ok(read)
}
