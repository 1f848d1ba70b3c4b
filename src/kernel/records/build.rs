//! Builds batches for producers, and recompresses them where a topic has a codec of its own.

use bytes::Bytes;

use super::{Batch, CODEC_MASK, CRC_FROM, Codec, CodecError, HEADER_BYTES, NO_PRODUCER_ID, TRANSACTIONAL};

/// A record to append to a batch.
#[derive(Debug, Clone, Copy, Default)]
pub struct NewRecord<'a> {
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// Its key.
    pub key: Option<&'a [u8]>,
    /// Its value.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// Collects records into one batch.
#[derive(Debug, Clone)]
pub struct BatchBuilder {
    codec: Codec,
    producer: (i64, i16, i32),
    is_transactional: bool,
    base_timestamp: i64,
    max_timestamp: i64,
    count: i32,
    records: Vec<u8>,
    scratch: Vec<u8>,
}

impl BatchBuilder {
    /// An empty batch.
    pub fn new(codec: Codec) -> Self {
        Self {
            codec,
            producer: (NO_PRODUCER_ID, -1, -1),
            is_transactional: false,
            base_timestamp: 0,
            max_timestamp: i64::MIN,
            count: 0,
            records: Vec::new(),
            scratch: Vec::new(),
        }
    }

    /// Makes it a batch of an idempotent producer.
    pub fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> Self {
        self.producer = (id, epoch, base_sequence);
        self
    }

    /// Makes it a batch in a transaction of its producer.
    pub fn transactional(mut self) -> Self {
        self.is_transactional = true;
        self
    }

    /// Uncompressed bytes of the records so far.
    pub fn record_bytes(&self) -> usize {
        self.records.len()
    }

    /// Records so far.
    pub fn count(&self) -> i32 {
        self.count
    }

    /// Adds a record.
    pub fn push(&mut self, record: NewRecord<'_>) {
        if self.count == 0 {
            self.base_timestamp = record.timestamp;
        }
        self.max_timestamp = self.max_timestamp.max(record.timestamp);
        let mut body = std::mem::take(&mut self.scratch);
        body.clear();
        body.push(0);
        put_varint(&mut body, record.timestamp - self.base_timestamp);
        put_varint(&mut body, i64::from(self.count));
        put_nullable(&mut body, record.key);
        put_nullable(&mut body, record.value);
        put_varint(&mut body, record.headers.len() as i64);
        for (key, value) in record.headers {
            put_nullable(&mut body, Some(key.as_bytes()));
            put_nullable(&mut body, *value);
        }
        put_varint(&mut self.records, body.len() as i64);
        self.records.extend_from_slice(&body);
        self.scratch = body;
        self.count += 1;
    }

    /// The batch, with base offset 0.
    pub fn build(&self) -> Result<Bytes, CodecError> {
        let packed = self.codec.compress(&self.records, None)?;
        let mut batch = vec![0; HEADER_BYTES];
        batch[12..16].copy_from_slice(&(-1i32).to_be_bytes());
        batch[16] = 2;
        let attributes = self.codec.bits() | if self.is_transactional { TRANSACTIONAL } else { 0 };
        batch[21..23].copy_from_slice(&attributes.to_be_bytes());
        batch[23..27].copy_from_slice(&(self.count - 1).to_be_bytes());
        batch[27..35].copy_from_slice(&self.base_timestamp.to_be_bytes());
        batch[35..43].copy_from_slice(&self.max_timestamp.to_be_bytes());
        batch[43..51].copy_from_slice(&self.producer.0.to_be_bytes());
        batch[51..53].copy_from_slice(&self.producer.1.to_be_bytes());
        batch[53..57].copy_from_slice(&self.producer.2.to_be_bytes());
        batch[57..61].copy_from_slice(&self.count.to_be_bytes());
        batch.extend(packed);
        Ok(seal(batch))
    }
}

pub(super) fn put_varint(output: &mut Vec<u8>, value: i64) {
    let mut rest = ((value << 1) ^ (value >> 63)) as u64;
    while rest >= 0x80 {
        output.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    output.push(rest as u8);
}

pub(super) fn put_nullable(output: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(output, -1),
        Some(bytes) => {
            put_varint(output, bytes.len() as i64);
            output.extend_from_slice(bytes);
        }
    }
}

/// Writes length and CRC.
pub(super) fn seal(mut batch: Vec<u8>) -> Bytes {
    let length = (batch.len() - super::PREFIX_BYTES) as i32;
    batch[8..12].copy_from_slice(&length.to_be_bytes());
    let crc = crc32c::crc32c(&batch[CRC_FROM..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch.into()
}

/// The batch recompressed with another codec.
pub fn recompress(
    batch: &Batch,
    codec: Codec,
    level: Option<i32>,
    bytes_max: usize,
) -> Result<Batch, CodecError> {
    let present = batch.codec().ok_or(CodecError::Unknown(batch.attributes() & CODEC_MASK))?;
    let plain = present.decompress(batch.bytes().slice(HEADER_BYTES..), bytes_max)?;
    let mut bytes = batch.bytes()[..HEADER_BYTES].to_vec();
    bytes[21..23].copy_from_slice(&(batch.attributes() & !CODEC_MASK | codec.bits()).to_be_bytes());
    bytes.extend(codec.compress(&plain, level)?);
    Ok(Batch { bytes: seal(bytes) })
}
