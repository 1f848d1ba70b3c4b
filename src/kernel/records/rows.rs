//! Records one by one, with a header that gives back their batch: for stores that keep records as rows.
//!
//! A batch comes back uncompressed. One that was not compressed comes back byte for byte, unless its producer has written a
//! number longer than it need be.

use bytes::Bytes;

use super::build::{put_nullable, put_varint};
use super::iterate::read_varint;
use super::{Batch, CODEC_MASK, CRC_FROM, Codec, HEADER_BYTES, PREFIX_BYTES, StoredHeader, settled};

/// A record as a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowRecord {
    /// Its offset in the partition.
    pub offset: i64,
    /// Its own timestamp, in ms since the epoch, even if the batch has log append time.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<Bytes>,
    /// Its value.
    pub value: Option<Bytes>,
    /// Its headers as a batch has them, after their count; `None` if it has none.
    pub headers: Option<Bytes>,
}

/// A batch as rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rows {
    /// The header of the uncompressed batch.
    pub header: Bytes,
    /// The length of that batch.
    pub bytes: usize,
    /// The time of the append, in ms, if all records have that.
    pub append_time: Option<i64>,
    /// Its records.
    pub records: Vec<RowRecord>,
}

/// Divides a batch into rows, with these fields of its header. A compressed one may be `bytes_max` bytes at most.
///
/// # Errors
/// Why its records cannot be read. Those of a batch that was [walked](Batch::walk) can be, unless they are too many bytes.
pub fn divide(batch: &Bytes, stored: &StoredHeader, bytes_max: usize) -> Result<Rows, String> {
    let [head, _] = settled(batch, stored);
    let mut header = head[..HEADER_BYTES].to_vec();
    let of_header = Batch { bytes: head };
    let codec = of_header.codec().ok_or("its codec is unknown")?;
    let plain =
        codec.decompress(batch.slice(HEADER_BYTES..), bytes_max).map_err(|error| error.to_string())?;
    let mut source = Source {
        plain: &plain,
        at: 0,
        base_offset: of_header.base_offset(),
        base_timestamp: of_header.base_timestamp(),
    };
    let count = of_header.record_count();
    let mut records = Vec::with_capacity(usize::try_from(count).unwrap_or(0).min(plain.len()));
    let mut is_same = codec == Codec::None;
    for _ in 0..count {
        let (record, is_minimal) = source.record()?;
        is_same &= is_minimal;
        records.push(record);
    }
    if !is_same || source.at < plain.len() {
        seal_header(&mut header, &records, (source.base_offset, source.base_timestamp));
    }
    let length = header[8..PREFIX_BYTES].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
    let append_time = of_header.has_append_time().then(|| of_header.max_timestamp());
    Ok(Rows { header: header.into(), bytes: PREFIX_BYTES + length, append_time, records })
}

/// Writes codec, length and CRC of the batch that these records make.
fn seal_header(header: &mut [u8], records: &[RowRecord], base: (i64, i64)) {
    let attributes = i16::from_be_bytes([header[21], header[22]]) & !CODEC_MASK;
    header[21..23].copy_from_slice(&attributes.to_be_bytes());
    let (mut crc, mut length, mut encoded) = (crc32c::crc32c(&header[CRC_FROM..]), 0, Vec::new());
    for record in records {
        encoded.clear();
        put_record(&mut encoded, base, &record.as_ref());
        crc = crc32c::crc32c_append(crc, &encoded);
        length += encoded.len();
    }
    let length = (HEADER_BYTES - PREFIX_BYTES + length) as i32;
    header[8..PREFIX_BYTES].copy_from_slice(&length.to_be_bytes());
    header[17..CRC_FROM].copy_from_slice(&crc.to_be_bytes());
}

/// A row, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct RowRef<'a> {
    /// As in [`RowRecord`].
    pub offset: i64,
    /// As in [`RowRecord`].
    pub timestamp: i64,
    /// As in [`RowRecord`].
    pub key: Option<&'a [u8]>,
    /// As in [`RowRecord`].
    pub value: Option<&'a [u8]>,
    /// As in [`RowRecord`].
    pub headers: Option<&'a [u8]>,
}

impl RowRecord {
    fn as_ref(&self) -> RowRef<'_> {
        RowRef {
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: self.headers.as_deref(),
        }
    }
}

/// Makes a batch of its rows again.
#[derive(Debug)]
pub struct Joined {
    batch: Vec<u8>,
    base: (i64, i64),
    bytes: usize,
}

impl Joined {
    /// A batch without its records yet, by the header and the length that [`divide`] gave.
    ///
    /// # Errors
    /// That is no header.
    pub fn new(header: &[u8], bytes: usize) -> Result<Self, String> {
        if header.len() != HEADER_BYTES {
            return Err(format!("its header has {} bytes instead of {HEADER_BYTES}", header.len()));
        }
        let mut batch = Vec::with_capacity(bytes);
        batch.extend_from_slice(header);
        let of_header = Batch { bytes: Bytes::copy_from_slice(header) };
        Ok(Self { batch, base: (of_header.base_offset(), of_header.base_timestamp()), bytes })
    }

    /// Adds the next record.
    pub fn push(&mut self, record: &RowRef<'_>) {
        put_record(&mut self.batch, self.base, record);
    }

    /// The batch.
    ///
    /// # Errors
    /// Its records are not those that it was divided into.
    pub fn finish(self) -> Result<Bytes, String> {
        let batch = Bytes::from(self.batch);
        if batch.len() != self.bytes {
            return Err(format!("its records have {} bytes instead of {}", batch.len(), self.bytes));
        }
        Ok(batch)
    }
}

/// Appends a record to a batch with this base offset and timestamp.
fn put_record(output: &mut Vec<u8>, (base_offset, base_timestamp): (i64, i64), record: &RowRef<'_>) {
    let (timestamp, offset) =
        (record.timestamp.wrapping_sub(base_timestamp), record.offset.wrapping_sub(base_offset));
    let no_headers = &[0][..];
    let headers = record.headers.unwrap_or(no_headers);
    let length = 1
        + varint_bytes(timestamp)
        + varint_bytes(offset)
        + nullable_bytes(record.key)
        + nullable_bytes(record.value)
        + headers.len();
    put_varint(output, length as i64);
    // The attributes of a record are unused.
    output.push(0);
    put_varint(output, timestamp);
    put_varint(output, offset);
    put_nullable(output, record.key);
    put_nullable(output, record.value);
    output.extend_from_slice(headers);
}

fn nullable_bytes(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| varint_bytes(bytes.len() as i64) + bytes.len())
}

/// The least bytes that a zigzag varint takes.
fn varint_bytes(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (zigzag | 1).leading_zeros() as usize).div_ceil(7)
}

/// The records of an uncompressed batch, after its header.
struct Source<'a> {
    plain: &'a Bytes,
    at: usize,
    base_offset: i64,
    base_timestamp: i64,
}

impl Source<'_> {
    /// The next record, and whether it is as short as it can be.
    fn record(&mut self) -> Result<(RowRecord, bool), String> {
        let mut is_minimal = true;
        let length = self.number(&mut is_minimal)?;
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        let end = end.filter(|end| *end <= self.plain.len()).ok_or("a record passes the end of its batch")?;
        is_minimal &= self.take(1)?[..] == [0];
        let timestamp = self.base_timestamp.wrapping_add(self.number(&mut is_minimal)?);
        let offset = self.base_offset.wrapping_add(self.number(&mut is_minimal)?);
        let key = self.nullable(&mut is_minimal)?;
        let value = self.nullable(&mut is_minimal)?;
        let headers = end.checked_sub(self.at).ok_or("a record is longer than it says")?;
        let headers = self.take(headers)?;
        let headers = (headers[..] != [0]).then_some(headers);
        Ok((RowRecord { offset, timestamp, key, value, headers }, is_minimal))
    }

    fn take(&mut self, length: usize) -> Result<Bytes, String> {
        let end = self.at.checked_add(length).filter(|end| *end <= self.plain.len());
        let end = end.ok_or("a record passes the end of its batch")?;
        let taken = self.plain.slice(self.at..end);
        self.at = end;
        Ok(taken)
    }

    fn number(&mut self, is_minimal: &mut bool) -> Result<i64, String> {
        let (value, length) = read_varint(&self.plain[self.at..]).ok_or("a record ends within a number")?;
        *is_minimal &= length == varint_bytes(value);
        self.at += length;
        Ok(value)
    }

    fn nullable(&mut self, is_minimal: &mut bool) -> Result<Option<Bytes>, String> {
        match self.number(is_minimal)? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| "a record has a negative length")?;
                self.take(length).map(Some)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BatchBuilder, NewRecord};
    use super::*;

    const AT: StoredHeader =
        StoredHeader { base_offset: 700, leader_epoch: 3, attributes: 0, max_timestamp: 1_000_060 };

    fn batch(codec: Codec) -> Bytes {
        let mut builder = BatchBuilder::new(codec).producer(7, 1, 5);
        let headers: [(&str, Option<&[u8]>); 3] = [("a", Some(b"1")), ("a", None), ("", Some(b""))];
        for (index, value) in
            [Some(&b"value"[..]), None, Some(b""), Some(&[7; 3_000])].into_iter().enumerate()
        {
            let key = [None, Some(&b"key"[..]), Some(b"")][index % 3];
            let headers = if index == 1 { &headers[..] } else { &[] };
            builder.push(NewRecord { timestamp: 1_000_000 + 20 * index as i64, key, value, headers });
        }
        builder.build().unwrap()
    }

    fn joined(rows: &Rows) -> Bytes {
        let mut joined = Joined::new(&rows.header, rows.bytes).unwrap();
        rows.records.iter().for_each(|record| joined.push(&record.as_ref()));
        joined.finish().unwrap()
    }

    #[test]
    fn an_uncompressed_batch_comes_back_byte_for_byte() {
        for attributes in [0, super::super::LOG_APPEND_TIME] {
            let sent = batch(Codec::None);
            let stored = StoredHeader { attributes, ..AT };
            let rows = divide(&sent, &stored, 1 << 20).unwrap();
            assert_eq!(joined(&rows), settled(&sent, &stored).concat());
            assert_eq!(rows.append_time, (attributes != 0).then_some(1_000_060));
            assert_eq!(rows.records[1].offset, 701);
            assert_eq!((rows.records[1].timestamp, rows.records[1].value.clone()), (1_000_020, None));
            assert!(rows.records[0].headers.is_none() && rows.records[1].headers.is_some());
        }
    }

    #[test]
    fn a_compressed_batch_comes_back_with_the_same_records() {
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
            let sent = batch(codec);
            let rows = divide(&sent, &StoredHeader { attributes: codec.bits(), ..AT }, 1 << 20).unwrap();
            let back = Batch::check_header(joined(&rows)).unwrap();
            assert!(back.codec() == Some(Codec::None) && back.crc_fits());
            let records =
                |batch: &Batch| batch.records(1 << 20).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
            let plain = divide(&batch(Codec::None), &AT, 1 << 20).unwrap();
            assert_eq!(records(&back), records(&Batch::check_header(joined(&plain)).unwrap()));
            assert!(divide(&sent, &StoredHeader { attributes: codec.bits(), ..AT }, 100).is_err());
        }
    }

    #[test]
    fn numbers_that_are_longer_than_they_need_be_become_short() {
        let sent = batch(Codec::None);
        // The length of the first record, in two bytes.
        let mut longer = sent[..HEADER_BYTES].to_vec();
        longer.extend([sent[HEADER_BYTES] | 0x80, 0]);
        longer.extend(&sent[HEADER_BYTES + 1..]);
        let rows = divide(&longer.into(), &AT, 1 << 20).unwrap();
        assert_eq!(joined(&rows), settled(&sent, &AT).concat());
    }

    #[test]
    fn records_that_were_changed_are_noticed() {
        let rows = divide(&batch(Codec::None), &AT, 1 << 20).unwrap();
        let mut missing = Joined::new(&rows.header, rows.bytes).unwrap();
        rows.records.iter().skip(1).for_each(|record| missing.push(&record.as_ref()));
        assert!(missing.finish().unwrap_err().contains("instead of"));
        assert!(Joined::new(&rows.header[1..], rows.bytes).is_err());
    }

    #[test]
    fn what_is_no_record_is_refused() {
        let sent = batch(Codec::None);
        for length in HEADER_BYTES..sent.len() {
            assert!(divide(&sent.slice(..length), &AT, 1 << 20).is_err(), "{length}");
        }
    }
}
