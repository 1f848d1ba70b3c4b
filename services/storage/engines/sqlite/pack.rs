//! Numbers as bytes of varying length, in the journal and in index entries.

use super::schema::damaged;

/// Appends an unsigned number, 7 bits to a byte, the lowest first.
pub(super) fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

/// Appends a signed number; small ones of either sign are short.
pub(super) fn put_signed(bytes: &mut Vec<u8>, number: i64) {
    put_number(bytes, ((number << 1) ^ (number >> 63)) as u64);
}

/// Appends a text with its length.
pub(super) fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_number(bytes, text.len() as u64);
    bytes.extend_from_slice(text.as_bytes());
}

/// Reads what the functions above wrote.
pub(super) struct Unpack<'a>(pub(super) &'a [u8]);

impl<'a> Unpack<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> rusqlite::Result<u8> {
        let (first, rest) = self.0.split_first().ok_or_else(too_short)?;
        self.0 = rest;
        Ok(*first)
    }

    pub(super) fn bytes(&mut self, count: usize) -> rusqlite::Result<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(count).ok_or_else(too_short)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(super) fn number(&mut self) -> rusqlite::Result<u64> {
        let (mut number, mut shift) = (0_u64, 0);
        loop {
            let byte = self.byte()?;
            if shift > 63 {
                return Err(damaged("a number is too long"));
            }
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
            shift += 7;
        }
    }

    pub(super) fn signed(&mut self) -> rusqlite::Result<i64> {
        let number = self.number()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    pub(super) fn text(&mut self) -> rusqlite::Result<&'a str> {
        let length = self.number()? as usize;
        std::str::from_utf8(self.bytes(length)?).map_err(|error| damaged(error.to_string()))
    }
}

fn too_short() -> rusqlite::Error {
    damaged("a packed value is too short")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_is_read() {
        let numbers = [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX];
        let signed = [0, -1, 1, 63, -64, 64, i64::MAX, i64::MIN];
        let mut bytes = Vec::new();
        numbers.iter().for_each(|number| put_number(&mut bytes, *number));
        signed.iter().for_each(|number| put_signed(&mut bytes, *number));
        put_text(&mut bytes, "key");
        let mut read = Unpack(&bytes);
        assert_eq!(numbers.map(|_| read.number().unwrap()), numbers);
        assert_eq!(signed.map(|_| read.signed().unwrap()), signed);
        assert_eq!(read.text().unwrap(), "key");
        assert!(read.is_empty());
        for end in 0..bytes.len() {
            let mut read = Unpack(&bytes[..end]);
            let all = (0..7).try_for_each(|_| read.number().map(drop));
            let all = all.and_then(|()| (0..8).try_for_each(|_| read.signed().map(drop)));
            assert!(all.and_then(|()| read.text().map(drop)).is_err());
        }
        assert!(Unpack(&[0xff; 11]).number().is_err());
    }
}
