//! A reply as the list of its parts, in the order in which they are sent.

use bytes::Bytes;

use crate::api::Api;
use crate::call::Header;
use crate::malformed::Malformed;
use crate::records_later::RecordsLater;
use crate::reply::Reply;
use crate::schema::walk::{self, put_varint};
use crate::schema::{Direction, Mark};

/// A part of a reply.
#[derive(Debug)]
pub enum Part {
    /// Bytes.
    Bytes(Bytes),
    /// Records that are read when it is their turn.
    Later(RecordsLater),
}

/// Smaller batches are copied: a separate part would cost more than the copy.
const PART_BYTES_MIN: usize = 4 << 10;

/// The parts of a reply's body, and their length together.
///
/// # Errors
/// The body does not have as many records fields as the reply has records: a bug in what built it.
pub fn of(header: &Header, reply: &mut Reply) -> Result<(Vec<Part>, u64), Malformed> {
    let body = std::mem::take(&mut reply.body);
    let records = std::mem::take(&mut reply.records);
    if records.iter().all(|records| records.bytes() == 0) {
        let bytes = body.len() as u64;
        return Ok((vec![Part::Bytes(body)], bytes));
    }
    let mut parts = Parts::default();
    let (is_flexible, places) = records_fields(header.api, header.version, &body)?;
    if places.len() != records.len() {
        let (fields, given) = (places.len(), records.len());
        return Err(Malformed(format!("a response with {fields} records fields, and records for {given}")));
    }
    let mut copied_to = 0;
    for (place, records) in places.into_iter().zip(records) {
        if records.bytes() == 0 {
            continue;
        }
        parts.open.extend_from_slice(&body[copied_to..place.start]);
        parts.length(records.bytes(), is_flexible)?;
        records.ready.into_iter().for_each(|batch| parts.push(batch));
        records.later.into_iter().for_each(|later| parts.later(later));
        copied_to = place.end;
    }
    parts.open.extend_from_slice(&body[copied_to..]);
    Ok(parts.close())
}

/// Where a response has records, and whether lengths in it are varints.
fn records_fields(
    api: Api,
    version: i16,
    body: &Bytes,
) -> Result<(bool, Vec<std::ops::Range<usize>>), Malformed> {
    let message = api
        .message(Direction::Response)
        .ok_or_else(|| Malformed(format!("the schema table has no response of {api}")))?;
    let mut places = Vec::new();
    walk::walk_own(message, version, body, |found| {
        if found.field.mark == Mark::Records {
            places.push(found.at);
        }
    })?;
    Ok((message.flexible.contains(version), places))
}

/// Parts under construction: finished ones, and the one that small pieces are copied into.
#[derive(Default)]
struct Parts {
    done: Vec<Part>,
    done_bytes: u64,
    open: Vec<u8>,
}

impl Parts {
    fn length(&mut self, bytes: u64, is_flexible: bool) -> Result<(), Malformed> {
        let too_long = || Malformed(format!("{bytes} bytes of records of one partition"));
        let length = i32::try_from(bytes).map_err(|_| too_long())?;
        if is_flexible {
            put_varint(&mut self.open, length as u32 + 1);
        } else {
            self.open.extend(length.to_be_bytes());
        }
        Ok(())
    }

    fn push(&mut self, batch: Bytes) {
        if batch.len() < PART_BYTES_MIN {
            self.open.extend_from_slice(&batch);
            return;
        }
        self.cut();
        self.done_bytes += batch.len() as u64;
        self.done.push(Part::Bytes(batch));
    }

    fn later(&mut self, later: RecordsLater) {
        self.cut();
        self.done_bytes += later.bytes;
        self.done.push(Part::Later(later));
    }

    fn cut(&mut self) {
        if !self.open.is_empty() {
            self.done_bytes += self.open.len() as u64;
            self.done.push(Part::Bytes(std::mem::take(&mut self.open).into()));
        }
    }

    fn close(mut self) -> (Vec<Part>, u64) {
        self.cut();
        (self.done, self.done_bytes)
    }
}
