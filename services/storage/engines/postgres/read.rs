//! Reads batches: where they are, for all partitions together, and the bytes of those that are wanted at once.

use std::collections::HashMap;
use std::sync::Weak;

use bytes::Bytes;
use kernel::records_later::RecordsLater;
use rules::documents::{Document, DocumentKind, Key, PartitionDocument};
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use super::documents;
use super::errors::Failure;
use super::look_up::find;
use super::parts;
use super::pieces::{Place, Source};
use super::pool::Pool;
use super::rows::{self, DividedBatch};
use super::session::Session;
use crate::engines::resident::{Fit, ReadBudget, empty, outcome_of, outcome_without_log};
use crate::engines::{ReadLimits, ReadOutcome, ReadSpec, Rest, StoreError};

/// Batches that one read locates at most, of all its partitions together.
const LOCATED_MAX: usize = 32_768;
/// The same of one partition, however few there are.
const LOCATED_EACH_MAX: usize = 8_192;

const LOCATED: &str = "SELECT s.n, b.base_offset, b.next_offset, b.bytes, b.data, l.id, b.header
    FROM unnest($1::uuid[], $2::int[], $3::bigint[], $4::bigint[], $5::bigint[])
    WITH ORDINALITY AS s(topic, partition, from_offset, end_offset, bytes_max, n)
    JOIN logs l ON l.topic = s.topic AND l.partition = s.partition
    CROSS JOIN LATERAL locate(l.id, s.from_offset, s.end_offset, s.bytes_max, $6) b
    ORDER BY s.n, b.base_offset";

/// A read from an offset of a partition that has records from there on.
#[derive(Debug, Clone, Copy)]
struct Readable {
    /// Which of the reads it is.
    index: usize,
    spec: ReadSpec,
    offset: i64,
    log: PartitionDocument,
}

/// A batch that was located.
#[derive(Debug, Clone)]
struct Located {
    log: i64,
    base: i64,
    next: i64,
    bytes: usize,
    /// Where its bytes are; those of one that is kept as rows are made with the header.
    data: Option<i64>,
    header: Option<Bytes>,
}

impl Located {
    fn of(row: &Row) -> Self {
        let (bytes, header): (i32, Option<&[u8]>) = (row.get(3), row.get(6));
        Self {
            base: row.get(1),
            next: row.get(2),
            bytes: bytes as usize,
            data: row.get(4),
            log: row.get(5),
            header: header.map(Bytes::copy_from_slice),
        }
    }

    fn divided(&self) -> Option<DividedBatch> {
        let header = self.header.clone()?;
        Some(DividedBatch { log: self.log, base: self.base, next: self.next, bytes: self.bytes, header })
    }
}

/// What is read of one partition: some batches now, and those that follow when they are sent.
#[derive(Default)]
struct Chosen {
    now: Vec<Located>,
    later: Vec<Located>,
}

/// Reads from offsets, within a snapshot; of a partition without one, only how it is.
pub(super) async fn read(
    session: &Session,
    specs: &[(ReadSpec, Option<i64>)],
    limits: ReadLimits,
    pool: &Weak<Pool>,
) -> Result<Vec<ReadOutcome>, Failure> {
    let (mut outcomes, readable) = without_batches(session, specs).await?;
    if readable.is_empty() {
        return Ok(outcomes);
    }
    let located = locate(session, &readable, limits).await?;
    let mut budget = ReadBudget::new(limits);
    let chosen: Vec<Chosen> =
        readable.iter().zip(&located).map(|(of, located)| choose(of, located, &mut budget)).collect();
    let found = Found::read(session, &chosen).await?;
    for (of, chosen) in readable.iter().zip(chosen) {
        outcomes[of.index] = outcome(&of.log, chosen, &found, pool);
    }
    Ok(outcomes)
}

/// Reads from where look-ups lead to, within a snapshot.
pub(super) async fn find_and_read(
    session: &Session,
    specs: &[ReadSpec],
    limits: ReadLimits,
    pool: &Weak<Pool>,
) -> Result<Vec<ReadOutcome>, Failure> {
    let mut found = Vec::with_capacity(specs.len());
    for spec in specs {
        found.push((*spec, find(session, spec.partition, spec.from).await?));
    }
    read(session, &found, limits, pool).await
}

/// The outcomes of those reads for which no batch is read, and the others.
async fn without_batches(
    session: &Session,
    specs: &[(ReadSpec, Option<i64>)],
) -> Result<(Vec<ReadOutcome>, Vec<Readable>), Failure> {
    let keys: Vec<Key> = specs.iter().map(|(spec, _)| PartitionDocument::key(&spec.partition)).collect();
    let found = documents::get(session, &keys).await?;
    let (mut outcomes, mut readable) = (Vec::with_capacity(specs.len()), Vec::new());
    for (index, ((spec, offset), document)) in specs.iter().zip(&found).enumerate() {
        let log = document.as_ref().and_then(Document::get::<PartitionDocument>).copied();
        let Some(log) = log else {
            outcomes.push(ReadOutcome::UnknownPartition);
            continue;
        };
        outcomes.push(match offset {
            Some(offset) => outcome_without_log(&log, *offset, spec.isolation).unwrap_or_else(|| {
                readable.push(Readable { index, spec: *spec, offset: *offset, log });
                empty(&log)
            }),
            None => empty(&log),
        });
    }
    Ok((outcomes, readable))
}

/// Locates batches, for each read as many as it may return.
async fn locate(
    session: &Session,
    readable: &[Readable],
    limits: ReadLimits,
) -> Result<Vec<Vec<Located>>, Failure> {
    let column = |value: &dyn Fn(&Readable) -> i64| readable.iter().map(value).collect::<Vec<i64>>();
    let topics: Vec<Uuid> = readable.iter().map(|of| of.spec.partition.topic.0).collect();
    let partitions: Vec<i32> = readable.iter().map(|of| of.spec.partition.partition).collect();
    let (from, ends) = (column(&|of| of.offset), column(&|of| of.spec.isolation.end_of(&of.log)));
    let bytes = column(&|of| i64::try_from(of.spec.bytes_max.min(limits.bytes_max)).unwrap_or(i64::MAX));
    let each = LOCATED_MAX.div_ceil(readable.len()).min(LOCATED_EACH_MAX) as i32;
    let rows = session.query(LOCATED, &[&topics, &partitions, &from, &ends, &bytes, &each]).await;
    let mut located = vec![Vec::new(); readable.len()];
    for row in rows.map_err(reading)? {
        let number: i64 = row.get(0);
        located[number as usize - 1].push(Located::of(&row));
    }
    Ok(located)
}

/// Chooses the batches of a partition that fit into a reply, and which of them are read now.
fn choose(of: &Readable, located: &[Located], budget: &mut ReadBudget) -> Chosen {
    let (mut left, end) = (of.spec.bytes_max, of.spec.isolation.end_of(&of.log));
    let mut chosen = Chosen::default();
    for batch in located.iter().take_while(|batch| batch.next <= end) {
        let fit = if chosen.later.is_empty() { budget.take(batch.bytes, &mut left) } else { Fit::Later };
        if fit == Fit::Now {
            chosen.now.push(batch.clone());
            continue;
        }
        let fits = budget.fits_later(batch.bytes as u64, left) || budget.is_first();
        if fit == Fit::No || !fits {
            break;
        }
        budget.take_later(batch.bytes, &mut left);
        chosen.later.push(batch.clone());
    }
    chosen
}

/// The bytes of the batches that are read now.
struct Found {
    data: HashMap<i64, Bytes>,
    /// By log and first offset.
    joined: HashMap<(i64, i64), Result<Bytes, StoreError>>,
}

impl Found {
    async fn read(session: &Session, chosen: &[Chosen]) -> Result<Self, Failure> {
        let now = || chosen.iter().flat_map(|chosen| &chosen.now);
        let ids: Vec<i64> = now().filter_map(|batch| batch.data).collect();
        let divided: Vec<DividedBatch> = now().filter_map(Located::divided).collect();
        let data = parts::read(session, &ids).await.map_err(reading)?;
        Ok(Self { data, joined: rows::read(session, &divided).await? })
    }

    /// The bytes of a batch. Two reads of a call may be of the same one.
    fn of(&self, batch: &Located) -> Result<Bytes, StoreError> {
        let missing = || {
            let Located { base, log, .. } = batch;
            StoreError(format!(
                "the batch at offset {base} of log {log} is missing; something other than Yagura has deleted it"
            ))
        };
        match batch.data {
            Some(data) => self.data.get(&data).cloned().ok_or_else(missing),
            None => self.joined.get(&(batch.log, batch.base)).cloned().unwrap_or_else(|| Err(missing())),
        }
    }
}

fn outcome(log: &PartitionDocument, chosen: Chosen, found: &Found, pool: &Weak<Pool>) -> ReadOutcome {
    let Chosen { now, later } = chosen;
    let mut batches = Vec::with_capacity(now.len());
    for batch in &now {
        match found.of(batch) {
            Ok(bytes) => batches.push(bytes),
            Err(failure) if batches.is_empty() => return ReadOutcome::Failed(failure),
            // The client asks again for it, and is told then.
            Err(_) => return outcome_of(log, batches, None),
        }
    }
    let rest = later.first().zip(later.last()).map(|(first, last)| {
        let bytes = later.iter().map(|batch| batch.bytes as u64).sum();
        let place = Place::new(first.log, first.base, last.next);
        let source = Box::new(Source::new(place, Weak::clone(pool)));
        Rest { next_offset: last.next, records: RecordsLater { bytes, source } }
    });
    outcome_of(log, batches, rest)
}

fn reading(error: Error) -> Failure {
    Failure::of("reading", &error)
}
