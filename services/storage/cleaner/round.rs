//! A round: a partition is cleaned up to where it can be, in as many passes as the memory for its keys makes it take.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ops::Range;
use std::time::Instant;

use bytes::Bytes;
use kernel::records::{BadRecords, Batch, NO_PRODUCER_ID};
use kernel::{ProducerId, Ticket, TopicPartition};
use rules::commands::{Applied, Clean, CleanedRun, Command};
use rules::configs::CompactionConfig;
use rules::documents::{
    AbortedTransaction as AbortedDocument, DocumentKind, LogTransactionKey, PartitionDocument, ProducedBatch,
    ProducerDocument, ProducerKey,
};

use super::limits;
use crate::apis::common::decompress::STORED_UNCOMPRESSED_BYTES_MAX;
use crate::broker::Broker;
use crate::compaction::{
    AbortedTransaction, CleanerStats, Cleaning, IndexSettings, Indexing, LastRecord, Plan, Runs, plan,
};
use crate::engines::{ReadFrom, ReadLimits, ReadOutcome, ReadSpec, StoreError};

/// Bytes that are read at a time.
const READ_BYTES: usize = 1 << 20;
/// How many times as long as a step kept the store busy others have it for themselves. They have the core as long as the work
/// before it took.
const REST: u32 = 3;
/// Aborted transactions that are read at a time.
const ABORTED_PAGE: usize = 64;

/// Cleans a partition, if it is still to be cleaned; returns what was read and kept.
pub(super) async fn clean(broker: &Broker, partition: TopicPartition) -> Result<CleanerStats, StoreError> {
    let now_ms = broker.clock.now_ms();
    let Some(compaction) = compaction(broker, partition).await? else { return Ok(CleanerStats::default()) };
    let limits = limits(&compaction);
    let engine = broker.store.engine().await?;
    let look = engine.dirty(partition, limits.young_after_ms(now_ms)).await?;
    let log = broker.store.get_one::<PartitionDocument>(&partition).await?;
    let (Some(look), Some(log)) = (look, log) else { return Ok(CleanerStats::default()) };
    let Plan::Clean(mut dirty) = plan(&look.log, &look.sizes, &limits, now_ms) else {
        return Ok(CleanerStats::default());
    };
    let mut round = Round {
        broker,
        partition,
        steps: log.cleaning_steps(),
        log_start: log.log_start,
        is_trimmed: false,
        now_ms,
        delete_retention_ms: compaction.delete_retention_ms,
        stats: CleanerStats::default(),
        rested: Instant::now(),
    };
    while let Some(left) = round.pass(dirty).await? {
        dirty = left;
        // Passes may go on for hours.
        if self::compaction(broker, partition).await? != Some(compaction) {
            break;
        }
    }
    Ok(round.stats)
}

/// How a partition is compacted now, if it is.
async fn compaction(
    broker: &Broker,
    partition: TopicPartition,
) -> Result<Option<CompactionConfig>, StoreError> {
    let topics = broker.store.topics_by_id(vec![partition.topic]).await?;
    let config = topics.get(&partition.topic).map(|topic| topic.effective());
    Ok(config.filter(|config| config.cleanup_policy.compacts()).map(|config| config.compaction))
}

struct Round<'a> {
    broker: &'a Broker,
    partition: TopicPartition,
    /// How often batches of it were replaced, by its document.
    steps: u64,
    log_start: i64,
    /// Whether the log start offset has advanced since the pass began.
    is_trimmed: bool,
    now_ms: i64,
    delete_retention_ms: i64,
    stats: CleanerStats,
    /// When others last had their turn.
    rested: Instant,
}

/// Some batches that follow each other, and what must be known of them.
struct Chunk {
    batches: VecDeque<Batch>,
    aborted: Vec<AbortedTransaction>,
    /// What the log last has of their producers.
    producers: HashMap<i64, LastRecord>,
    next_offset: i64,
}

/// What is worked on aside.
struct Work {
    cleaning: Cleaning,
    runs: Runs,
    ended: Vec<(i64, i64)>,
    batches: VecDeque<Batch>,
    producers: HashMap<i64, LastRecord>,
}

impl Work {
    /// Goes on until a step is full, or no batch is left.
    fn advance(&mut self) -> Result<(), BadRecords> {
        while !self.runs.is_enough()
            && let Some(batch) = self.batches.pop_front()
        {
            let producer = self.producers.get(&batch.producer_id()).copied();
            let cleaned = self.cleaning.batch(&batch, producer)?;
            self.ended.extend(cleaned.ended.map(|ended| (ended.last_offset, ended.producer_id)));
            self.runs.push(&batch, cleaned.kept);
        }
        Ok(())
    }
}

impl Round<'_> {
    /// Cleans as much of the dirty offsets as there is memory for; returns the rest. `None` if that was all, or if the log
    /// has changed meanwhile: then it is begun anew another time.
    async fn pass(&mut self, dirty: Range<i64>) -> Result<Option<Range<i64>>, StoreError> {
        self.is_trimmed = false;
        let Some(indexing) = self.index(dirty.clone()).await? else { return Ok(None) };
        let cleaning = indexing.cleaning(self.now_ms, self.delete_retention_ms);
        let (end, is_last) = (cleaning.clean_end(), cleaning.is_last_pass());
        let mut work = Work {
            cleaning,
            runs: Runs::default(),
            ended: Vec::new(),
            batches: VecDeque::new(),
            producers: HashMap::new(),
        };
        let mut at = self.log_start;
        while at < end {
            let Some(chunk) = self.read(at, end).await? else { return Ok(None) };
            at = chunk.next_offset;
            work.cleaning.add_aborted(chunk.aborted);
            (work.batches, work.producers) = (chunk.batches, chunk.producers);
            while !work.batches.is_empty() {
                work = aside(work, Work::advance).await?;
                if work.runs.is_enough() && !self.step(&mut work, None).await? {
                    return Ok(None);
                }
            }
        }
        // The last step says that all before it were made.
        let is_done = self.step(&mut work, Some(end)).await?;
        let stats = work.cleaning.stats();
        self.broker.cleaner.count(stats);
        self.stats.records_read += stats.records_read;
        self.stats.records_kept += stats.records_kept;
        self.stats.bytes_read += stats.bytes_read;
        self.stats.bytes_kept += stats.bytes_kept;
        Ok((is_done && !is_last && end > dirty.start).then_some(end..dirty.end))
    }

    /// Notes the latest offsets of keys.
    async fn index(&self, dirty: Range<i64>) -> Result<Option<Indexing>, StoreError> {
        let settings = IndexSettings {
            map_bytes: self.broker.settings.compaction_memory.as_usize(),
            decompressed_bytes_max: STORED_UNCOMPRESSED_BYTES_MAX,
        };
        let mut indexing = (Indexing::new(dirty.clone(), &settings), true);
        let mut at = dirty.start;
        while at < dirty.end && indexing.1 {
            let Some(chunk) = self.read(at, dirty.end).await? else { return Ok(None) };
            at = chunk.next_offset;
            indexing.0.add_aborted(chunk.aborted);
            let batches = chunk.batches;
            indexing = aside(indexing, move |(indexing, wants_more)| {
                for batch in &batches {
                    *wants_more = indexing.batch(batch)?;
                    if !*wants_more {
                        break;
                    }
                }
                Ok(())
            })
            .await?;
        }
        Ok(Some(indexing.0))
    }

    /// Reads batches from one that holds an offset on, those that begin before another; `None` if they are not there.
    async fn read(&self, at: i64, until: i64) -> Result<Option<Chunk>, StoreError> {
        let spec = ReadSpec::uncommitted(self.partition, ReadFrom::Offset(at), READ_BYTES);
        let read = self.broker.store.read(vec![spec], ReadLimits::all_now(READ_BYTES)).await?;
        let found = match read.into_iter().next() {
            Some(ReadOutcome::Read { batches, .. }) => batches,
            Some(ReadOutcome::Failed(error)) => return Err(error),
            Some(ReadOutcome::OutOfRange { .. } | ReadOutcome::UnknownPartition) | None => return Ok(None),
        };
        let whole = |mut bytes: Bytes| Batch::split_first(&mut bytes);
        let batches = found.into_iter().filter_map(whole);
        let batches: VecDeque<Batch> = batches.take_while(|batch| batch.base_offset() < until).collect();
        let (Some(first), Some(last)) = (batches.front(), batches.back()) else { return Ok(None) };
        let (base_offset, next_offset) = (first.base_offset(), last.next_offset());
        let aborted = self.aborted(base_offset, next_offset).await?;
        let producers = self.producers(&batches).await?;
        Ok((next_offset > at).then_some(Chunk { batches, aborted, producers, next_offset }))
    }

    /// The aborted transactions that reach into a range of offsets.
    async fn aborted(&self, from: i64, until: i64) -> Result<Vec<AbortedTransaction>, StoreError> {
        let prefix = AbortedDocument::of_partition(self.partition);
        // Before all that end at `from` or later, in the order of keys.
        let before = LogTransactionKey {
            partition: self.partition,
            offset: from.saturating_sub(1).max(0),
            producer: ProducerId(NO_PRODUCER_ID),
        };
        let (mut after, mut found) = (Some(AbortedDocument::key(&before)), Vec::new());
        let engine = self.broker.store.engine().await?;
        loop {
            let page = engine.scan(prefix.clone(), after.take(), ABORTED_PAGE).await?;
            let is_last = page.len() < ABORTED_PAGE;
            after = page.last().map(|(key, _)| key.clone());
            for (key, document) in page {
                let (Some(key), Some(document)) =
                    (AbortedDocument::parse_key(&key), document.get::<AbortedDocument>())
                else {
                    continue;
                };
                if key.offset >= from && document.first_offset < until {
                    found.push(AbortedTransaction {
                        first_offset: document.first_offset,
                        last_offset: key.offset,
                        producer_id: key.producer.0,
                    });
                }
                if document.last_stable >= until {
                    // Those that were aborted later begin after that.
                    return Ok(found);
                }
            }
            if is_last {
                return Ok(found);
            }
        }
    }

    /// What the log last has of the producers of batches, as far as they are remembered.
    async fn producers(&self, batches: &VecDeque<Batch>) -> Result<HashMap<i64, LastRecord>, StoreError> {
        let ids = batches.iter().map(Batch::producer_id).filter(|id| *id > NO_PRODUCER_ID);
        let ids: Vec<i64> = ids.collect::<BTreeSet<_>>().into_iter().collect();
        let key =
            |id: &i64| ProducerKey { partition: self.partition, producer: ProducerId(*id), origin: None };
        let keys: Vec<ProducerKey> = ids.iter().map(key).collect();
        let known = self.broker.store.get::<ProducerDocument>(&keys).await?;
        let known = ids.into_iter().zip(known);
        Ok(known.filter_map(|(id, document)| Some((id, last_record(document?.as_ref())))).collect())
    }

    /// Makes a step durable; returns whether the pass may go on.
    async fn step(&mut self, work: &mut Work, clean_end: Option<i64>) -> Result<bool, StoreError> {
        let (runs, ended) = (work.runs.take(), std::mem::take(&mut work.ended));
        if runs.is_empty() && ended.is_empty() && clean_end.is_none() {
            return Ok(true);
        }
        let started = Instant::now();
        while !self.commit(&runs, &ended, clean_end).await? {
            // A trim does not matter if it has deleted nothing of what is replaced. What was cleaned before stays so.
            let log = self.broker.store.get_one::<PartitionDocument>(&self.partition).await?;
            let Some(log) = log else { return Ok(false) };
            if log.cleaning_steps() != self.steps || log.log_start == self.log_start {
                return Ok(false);
            }
            (self.log_start, self.is_trimmed) = (log.log_start, true);
        }
        self.steps += 1;
        tokio::time::sleep(REST * started.elapsed() + (started - self.rested)).await;
        self.rested = Instant::now();
        Ok(true)
    }

    async fn commit(
        &self,
        runs: &[CleanedRun],
        ended: &[(i64, i64)],
        clean_end: Option<i64>,
    ) -> Result<bool, StoreError> {
        // Only the first batch of all may begin before the log start offset. Once that has advanced, none may: others of the
        // run would be deleted already.
        if self.is_trimmed && runs.iter().any(|run| run.from < self.log_start) {
            return Ok(false);
        }
        let clean = Command::Clean(Clean {
            partition: self.partition,
            steps: self.steps,
            log_start: self.log_start,
            runs: runs.to_vec(),
            ended: ended.to_vec(),
            clean_end,
        });
        match self.broker.store.commit_one(&Ticket::only(), clean).await? {
            Ok(applied) => Ok(applied == Applied::Cleaned(true)),
            Err(refused) => Err(StoreError(refused.message)),
        }
    }
}

/// The last batch of a producer, or that only a marker is known of it.
fn last_record(producer: &ProducerDocument) -> LastRecord {
    let last_offset = |batch: &ProducedBatch| {
        // Sequence numbers begin anew after the greatest.
        let records_less_one = batch.last_sequence.wrapping_sub(batch.first_sequence) & i32::MAX;
        batch.base_offset.saturating_add(i64::from(records_less_one))
    };
    LastRecord { last_data_offset: producer.batches.last().map(last_offset), producer_epoch: producer.epoch }
}

/// Works on a thread for what takes long.
async fn aside<T: Send + 'static>(
    mut on: T,
    work: impl FnOnce(&mut T) -> Result<(), BadRecords> + Send + 'static,
) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(move || work(&mut on).map(|()| on)).await;
    let done = done.map_err(|error| StoreError(format!("the work on its batches was cut off: {error}")))?;
    done.map_err(|error| StoreError(format!("a batch of it cannot be read: {error}")))
}
