//! Records that are read while the reply that has them is sent, piece by piece.
//!
//! A piece is one short read without a snapshot: nothing is held between two of them. The bytes of batches outlive their
//! index entry by `delete_delay`; a reply that takes longer goes on as long as its partition has them.
//!
//! Compaction may replace batches meanwhile. A reply goes on with new ones, each of them whole; and as it has announced how
//! many bytes follow, it ends with an error, and its connection with it, if these are fewer. It never has the beginning of
//! one batch and the end of another.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kernel::TopicPartition;
use kernel::records_later::{NextRecords, RecordSource, RecordsLater};
use rusqlite::blob::Blob;
use rusqlite::{Connection, MAIN_DB, params};

use super::batches::{few, next_offset};
use super::index::Span;
use super::lane::Lane;
use super::logs::Recent;
use super::reader::{Job, Reader};
use super::schema::{SMALL_BATCH_BYTES, damaged, failed, is_damage, offset_of, pack};
use crate::engines::{ReadOutcome, Rest, StoreError};

/// Where a reply has got to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    at: TopicPartition,
    /// Its partition number.
    number: u32,
    /// The next batch.
    base: i64,
    /// Bytes of it that were sent already.
    sent: usize,
    /// The offset after the last batch.
    end: i64,
    /// The CRC of a batch of which a part was sent.
    crc: Crc,
    since: Instant,
    /// How often batches of the partition were replaced when these were located.
    cleaned: u64,
}

type Crc = [u8; 4];

/// Where a batch's header has its CRC.
const CRC: std::ops::Range<usize> = 17..21;

impl Place {
    pub(super) fn of(at: TopicPartition, number: u32, batches: &Span, cleaned: u64) -> Self {
        let (crc, since) = (Crc::default(), Instant::now());
        Self { at, number, base: batches.base, sent: 0, end: batches.next, crc, since, cleaned }
    }

    /// The same with the CRC of the batch of which a part is sent next, unless it is another than before.
    fn within(self, head: &[u8]) -> rusqlite::Result<Self> {
        let crc: Option<Crc> = head.get(CRC).and_then(|crc| crc.try_into().ok());
        match crc {
            Some(crc) if self.sent == 0 || crc == self.crc => Ok(Self { crc, ..self }),
            _ => Err(damaged(format!("the batch at offset {} is not the one that was begun", self.base))),
        }
    }
}

/// What a reader found: an outcome, and batches that are still to be read.
pub(super) struct Found {
    pub(super) outcome: ReadOutcome,
    pub(super) rest: Option<(Place, Span)>,
}

impl From<ReadOutcome> for Found {
    fn from(outcome: ReadOutcome) -> Self {
        Self { outcome, rest: None }
    }
}

impl Found {
    /// The outcome, whose rest these readers read.
    pub(super) fn outcome(self, readers: &Weak<Lane<Reader>>) -> ReadOutcome {
        let located = self.rest.map(|(place, span)| {
            let source = Box::new(Source { place, readers: Weak::clone(readers) });
            Rest { next_offset: span.next, records: RecordsLater { bytes: span.bytes, source } }
        });
        let mut outcome = self.outcome;
        if let ReadOutcome::Read { rest, .. } = &mut outcome {
            *rest = located;
        }
        outcome
    }
}

struct Source {
    place: Place,
    readers: Weak<Lane<Reader>>,
}

impl RecordSource for Source {
    fn read(self: Box<Self>, bytes: usize) -> NextRecords {
        Box::pin(async move {
            let Self { place, readers } = *self;
            let lane = readers.upgrade().ok_or_else(|| "the store is closed".to_owned())?;
            let piece = lane.ask(move |answer| Job::Piece { place, bytes, answer });
            drop(lane);
            let (records, place) = piece.await.map_err(|error| error.0)?;
            let rest: Box<dyn RecordSource> = Box::new(Source { place, readers });
            Ok((vec![records], rest))
        })
    }
}

impl Reader {
    /// Reads whole batches of at most `bytes` bytes, or a part of one that is larger.
    pub(super) fn piece(&self, place: Place, bytes: usize) -> Result<(Bytes, Place), StoreError> {
        self.check_age(&place)?;
        self.try_piece(place, bytes).map_err(|error| {
            if self.shared.cleanings.have_changed(place.at, place.cleaned) {
                return StoreError("compaction has replaced batches of a reply while it was sent".to_owned());
            }
            let is_damage = is_damage(&error);
            let error = failed("reading a batch of a reply", &error);
            if is_damage && self.has_batch(&place) {
                self.shared.damage.not_read(place.at, &error);
                self.shared.damage.remember(place.at, place.base);
            }
            error
        })
    }

    /// Whether the log has a batch at this place, by what is known of it now: what it has not is no damage.
    fn has_batch(&self, place: &Place) -> bool {
        let has_batch = self.with_log(place.at, |document, log| {
            let is_within = document.log_start <= place.base && place.base < document.end;
            is_within && log.number == place.number
        });
        has_batch == Ok(Some(true))
    }

    /// The number of a deleted partition is given to another one some time after its bytes are gone, and these go early
    /// when there is no room.
    fn check_age(&self, place: &Place) -> Result<(), StoreError> {
        let is_purged_early = self.shared.is_purged_early.load(Ordering::Relaxed);
        if !is_purged_early && place.since.elapsed() + AGE_MARGIN < self.shared.delete_delay {
            return Ok(());
        }
        if self.with_log(place.at, |_, log| log.number == place.number)? == Some(true) {
            return Ok(());
        }
        Err(StoreError(
            "a reply took longer to be read by its client than deleted records are kept".to_owned(),
        ))
    }

    fn try_piece(&self, place: Place, bytes: usize) -> rusqlite::Result<(Bytes, Place)> {
        if place.base >= place.end {
            return Err(damaged("a reply announced more bytes than its batches have"));
        }
        let recent = self.recent(&place, bytes);
        if place.sent == 0 {
            let whole = self.whole_batches(place, bytes, &recent)?;
            if let Some(whole) = whole {
                return Ok(whole);
            }
        }
        if let Some(first) = recent.first().filter(|first| first.base == place.base) {
            let place = place.within(&first.data)?;
            return Ok(part_of(place, bytes, first.next, first.data.len(), |from, until| {
                first.data.slice(from..until)
            }));
        }
        part_in_file(&self.connection, place, bytes)
    }

    /// The next small batches that are not in the file.
    fn recent(&self, place: &Place, bytes: usize) -> Vec<Recent> {
        let unfolded = self.shared.unfolded.read();
        let log = unfolded.logs.get(&place.at).and_then(Option::as_ref);
        let log = log.filter(|log| log.number == place.number);
        let recent = log.into_iter().flat_map(|log| log.recent_from(place.base));
        few(recent.take_while(|recent| recent.base < place.end), bytes, |recent| recent.data.len())
    }

    /// `None` if the first one is larger than `bytes`.
    fn whole_batches(
        &self,
        place: Place,
        bytes: usize,
        recent: &[Recent],
    ) -> rusqlite::Result<Option<(Bytes, Place)>> {
        let mut piece = Piece { at: place.base, data: Vec::new(), room: bytes };
        for recent in recent {
            if !piece.read_file(&self.connection, place.number, recent.base)?
                || !piece.add(&recent.data, recent.next)
            {
                return Ok(piece.finish(place));
            }
        }
        piece.read_file(&self.connection, place.number, place.end)?;
        Ok(piece.finish(place))
    }
}

/// A piece may wait in a queue, and its age is looked at before.
const AGE_MARGIN: Duration = Duration::from_secs(5);

/// Whole batches, one after the other.
struct Piece {
    at: i64,
    data: Vec<u8>,
    room: usize,
}

impl Piece {
    /// Adds a batch; false if there is no room for it.
    fn add(&mut self, data: &[u8], next: i64) -> bool {
        if data.len() > self.room {
            return false;
        }
        self.reserve();
        self.data.extend_from_slice(data);
        self.room -= data.len();
        self.at = next;
        true
    }

    /// Adds the batches in the file up to an offset; returns whether there is room for more.
    fn read_file(&mut self, connection: &Connection, number: u32, until: i64) -> rusqlite::Result<bool> {
        if self.at >= until {
            return Ok(true);
        }
        // SQLite would copy a large batch twice, and one that has no room for nothing: those are read into their place.
        let sql = "SELECT id, length(data), CASE WHEN length(data) <= ?3 THEN data END
             FROM batches WHERE id >= ?1 AND id < ?2 ORDER BY id";
        let mut statement = connection.prepare_cached(sql)?;
        let bounds = params![pack(number, self.at), pack(number, until), SMALL_BATCH_BYTES as i64];
        let mut rows = statement.query(bounds)?;
        let mut large = None;
        loop {
            match self.add_row(connection, &mut rows, &mut large) {
                Ok(Some(true)) => {}
                Ok(Some(false)) => return Ok(false),
                Ok(None) if self.at >= until => return Ok(true),
                // What was read before is sent; the next piece begins with what cannot be read.
                Ok(None) | Err(_) if !self.data.is_empty() => return Ok(false),
                Ok(None) => return Err(damaged(format!("the batch at offset {} is missing", self.at))),
                Err(error) => return Err(error),
            }
        }
    }

    /// Adds the next row, if there is one; false if there is no room for it.
    fn add_row<'c>(
        &mut self,
        connection: &'c Connection,
        rows: &mut rusqlite::Rows<'_>,
        large: &mut Option<Blob<'c>>,
    ) -> rusqlite::Result<Option<bool>> {
        let Some(row) = rows.next()? else { return Ok(None) };
        let (id, length) = (row.get(0)?, row.get::<_, i64>(1)? as usize);
        let base = offset_of(id);
        if base != self.at {
            return Ok(None);
        }
        if length > self.room {
            return Ok(Some(false));
        }
        if let Some(data) = row.get_ref(2)?.as_blob_or_null()? {
            return Ok(Some(self.add(data, next_offset(base, data, length)?)));
        }
        let blob = match large {
            Some(blob) => {
                blob.reopen(id)?;
                blob
            }
            None => large.insert(connection.blob_open(MAIN_DB, "batches", "data", id, true)?),
        };
        let from = self.data.len();
        self.reserve();
        append(blob, length, &mut self.data)?;
        match next_offset(base, &self.data[from..], length) {
            Ok(next) => {
                self.room -= length;
                self.at = next;
                Ok(Some(true))
            }
            Err(error) => {
                self.data.truncate(from);
                Err(error)
            }
        }
    }

    fn reserve(&mut self) {
        if self.data.capacity() == 0 {
            self.data.reserve_exact(self.room);
        }
    }

    fn finish(self, place: Place) -> Option<(Bytes, Place)> {
        (!self.data.is_empty()).then(|| (Bytes::from(self.data), Place { base: self.at, sent: 0, ..place }))
    }
}

/// A part of one batch.
fn part_of(
    place: Place,
    bytes: usize,
    next: i64,
    length: usize,
    read: impl FnOnce(usize, usize) -> Bytes,
) -> (Bytes, Place) {
    let until = length.min(place.sent.saturating_add(bytes));
    let part = read(place.sent.min(until), until);
    let (base, sent) = if until == length { (next, 0) } else { (place.base, until) };
    (part, Place { base, sent, ..place })
}

fn part_in_file(connection: &Connection, place: Place, bytes: usize) -> rusqlite::Result<(Bytes, Place)> {
    let id = pack(place.number, place.base);
    let missing = |error: rusqlite::Error| match error.sqlite_error_code() {
        // SQLite's "no such rowid" has no code of its own.
        Some(rusqlite::ErrorCode::Unknown) => {
            damaged(format!("the batch at offset {} is missing", place.base))
        }
        _ => error,
    };
    let blob = connection.blob_open(MAIN_DB, "batches", "data", id, true).map_err(missing)?;
    let mut head = [0; HEAD_BYTES];
    blob.read_at_exact(&mut head, 0)?;
    let next = next_offset(place.base, &head, blob.len())?;
    let place = place.within(&head)?;
    let mut part = vec![0; blob.len().saturating_sub(place.sent).min(bytes)];
    blob.read_at_exact(&mut part, place.sent)?;
    Ok(part_of(place, bytes, next, blob.len(), |_, _| part.into()))
}

/// As much of a batch as has the offset of its last record.
const HEAD_BYTES: usize = super::batches::LAST_OFFSET_DELTA.end;

/// Appends the first `length` bytes of a blob. The memory is not zeroed before, which would cost as much as reading.
#[allow(unsafe_code)] // `Vec` has no safe way to take over what was written behind its end.
fn append(blob: &Blob<'_>, length: usize, to: &mut Vec<u8>) -> rusqlite::Result<()> {
    to.reserve(length);
    let read = blob.raw_read_at_exact(&mut to.spare_capacity_mut()[..length], 0)?.len();
    // SAFETY: the first `read` bytes behind the end are in the vector's capacity, because they were lent by it, and are
    // initialised, because `raw_read_at_exact` has returned them as such.
    unsafe { to.set_len(to.len() + read) };
    Ok(())
}
