//! The records inside a batch.

use bytes::Bytes;

/// One record. Null and empty differ, for keys, values and header values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its offset in the partition.
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value; null is a tombstone.
    pub value: Option<Bytes>,
    /// Its headers, in order; keys may repeat.
    pub headers: Vec<RecordHeader>,
}

/// One header of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordHeader {
    /// Its key, UTF-8 by convention.
    pub key: Bytes,
    /// Its value.
    pub value: Option<Bytes>,
}

/// Iterates over the records of one batch; an `Err` ends it.
#[derive(Debug)]
pub struct Records {
    plain: Bytes,
    at: usize,
    left: i32,
    base_offset: i64,
    base_timestamp: i64,
    append_time: Option<i64>,
}

/// The fields of a batch header that its records depend on.
pub(super) struct BatchHeader {
    pub(super) record_count: i32,
    pub(super) base_offset: i64,
    pub(super) base_timestamp: i64,
    /// The timestamp of all records, if the batch uses log append time.
    pub(super) append_time: Option<i64>,
}

impl Records {
    pub(super) fn new(plain: Bytes, header: &BatchHeader) -> Self {
        Self {
            plain,
            at: 0,
            left: header.record_count,
            base_offset: header.base_offset,
            base_timestamp: header.base_timestamp,
            append_time: header.append_time,
        }
    }

    fn take(&mut self, length: usize) -> Result<Bytes, String> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.plain.len());
        let end = end.ok_or("a record passes the end of its batch")?;
        let taken = self.plain.slice(self.at..end);
        self.at = end;
        Ok(taken)
    }

    fn varint(&mut self) -> Result<i64, String> {
        let (value, length) = read_varint(&self.plain[self.at..]).ok_or("a record ends within a number")?;
        self.at += length;
        Ok(value)
    }

    fn nullable(&mut self) -> Result<Option<Bytes>, String> {
        match self.varint()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| "a record has a negative length")?;
                self.take(length).map(Some)
            }
        }
    }

    fn record(&mut self) -> Result<Record, String> {
        let length = usize::try_from(self.varint()?).map_err(|_| "a record has a negative length")?;
        let end = self.at.checked_add(length).ok_or("a record's length overflows")?;
        self.take(1)?; // The attributes of a record are unused.
        let timestamp_delta = self.varint()?;
        let offset_delta = self.varint()?;
        let key = self.nullable()?;
        let value = self.nullable()?;
        let header_count = usize::try_from(self.varint()?).map_err(|_| "a negative header count")?;
        let mut headers = Vec::new();
        for _ in 0..header_count {
            let key = self.nullable()?.ok_or("a header has no key")?;
            headers.push(RecordHeader { key, value: self.nullable()? });
        }
        if self.at != end {
            return Err("a record is not as long as it says".to_owned());
        }
        let timestamp = self.append_time.unwrap_or_else(|| self.base_timestamp.wrapping_add(timestamp_delta));
        Ok(Record { offset: self.base_offset.wrapping_add(offset_delta), timestamp, key, value, headers })
    }
}

impl Iterator for Records {
    type Item = Result<Record, String>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            return None;
        }
        let record = self.record();
        self.left = if record.is_ok() { self.left - 1 } else { 0 };
        Some(record)
    }
}

/// A zigzag varint of up to 64 bits, and its length on the wire.
pub(super) fn read_varint(bytes: &[u8]) -> Option<(i64, usize)> {
    let mut value = 0u64;
    for (index, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return Some(((value >> 1) as i64 ^ -((value & 1) as i64), index + 1));
        }
    }
    None
}
