//! Copies a whole store into a new one, of any engine: `yagura store copy`.
//!
//! Documents and batches are taken as they are: offsets, groups, producers and transactions go on where they were. What the new
//! store works out anew is its index, by the engine's own commits. Leases of brokers stay behind, and it begins a leader
//! epoch of its own, because the other one may go on.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kernel::clock::{Clock, SharedStoreClock, SystemClock};
use kernel::ids::RandomIds;
use kernel::records::Batch;
use kernel::{IdSource, TopicPartition};
use rules::commands::{BatchFacts, Command, CopyCommand, Payload, Restore, RestoredBatch, RestoredLog};
use rules::documents::{
    AnyKind, CopyMark, Document, DocumentKind, KINDS, Key, NodeDocument, PartitionDocument, StoreLevel,
};
use uuid::Uuid;

use crate::engines::{
    self, Engine, Holds, Progress, ReadFrom, ReadLimits, ReadOutcome, ReadSpec, StoreError, stored_batch,
};
use crate::settings::Settings;
use crate::store::next_epoch_of;

/// Documents in one commit.
const DOCUMENTS: usize = 1_000;
/// What belongs to the brokers that share a store, and not to what is in it.
const STAYS: [&str; 3] = [NodeDocument::PREFIX, StoreLevel::PREFIX, CopyMark::PREFIX];
/// How long nobody may have the store that is read, from the last moment on when the copy was seen to live, in ms.
const HOLD_MS: i64 = 60_000;
/// How often that is renewed.
const HOLD_EVERY: Duration = Duration::from_secs(5);
/// Bytes of batches in one commit; one batch may have more.
const BATCH_BYTES: usize = 4 << 20;

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CopyReport {
    /// Documents, such as topics and offsets of groups.
    pub documents: u64,
    /// Partitions.
    pub partitions: u64,
    /// Record batches.
    pub batches: u64,
    /// Bytes of them, as the store that was read sends them.
    pub bytes: u64,
    /// What is in the other store and not in this one: how many of what.
    pub left: Vec<(u64, &'static str)>,
}

impl fmt::Display for CopyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { documents, partitions, batches, bytes, left } = self;
        write!(f, "copied {documents} documents, {partitions} partitions, {batches} batches, {bytes} bytes")?;
        left.iter().try_for_each(|(count, what)| write!(f, "\nnot copied: {count} {what}"))
    }
}

/// Copies the store at a URL into a new one at another. No broker may use either meanwhile.
///
/// # Errors
/// A sentence with the cause and the remedy. What is in the new store then is not whole.
pub async fn copy(from: &str, to: &str, progress: &mut Progress<'_>) -> Result<CopyReport, StoreError> {
    if to.starts_with("memory:") {
        return Err(StoreError("memory:// keeps nothing; name another store to copy to".to_owned()));
    }
    let source = engines::open_existing(from).await?;
    let copied = copy_from(&*source, to, progress).await;
    let closed = source.close().await;
    let report = copied?;
    closed.map(|()| report)
}

async fn copy_from(
    source: &dyn Engine,
    to: &str,
    progress: &mut Progress<'_>,
) -> Result<CopyReport, StoreError> {
    let (id, hold) = (RandomIds.fresh(), Hold::of(source));
    if let Some(hold) = &hold {
        hold.begin(id).await?;
    }
    let kept = async {
        match &hold {
            Some(hold) => hold.keep(id).await,
            None => std::future::pending().await,
        }
    };
    let copied = tokio::select! {
        copied = copy_into(source, to, id, progress) => copied,
        error = kept => Err(error),
    };
    let finished = match copied {
        Ok((target, report)) => finish(source, &hold, &*target, id, report).await,
        Err(error) => Err(error),
    };
    if let Some(hold) = hold {
        // If it cannot be said, the hold ends by itself.
        drop(end(hold.engine, id).await);
    }
    finished
}

/// That no broker has the store that is read, of those that brokers share.
struct Hold<'a> {
    engine: &'a dyn Engine,
    clock: SharedStoreClock,
}

impl<'a> Hold<'a> {
    fn of(engine: &'a dyn Engine) -> Option<Self> {
        engine.sharing().map(|sharing| Self { engine, clock: sharing.clock })
    }

    fn mark(&self, id: Uuid) -> (CopyMark, i64) {
        let now_ms = self.clock.now_ms();
        (CopyMark { id, until_ms: Some(now_ms + HOLD_MS) }, now_ms)
    }

    async fn begin(&self, id: Uuid) -> Result<(), StoreError> {
        let (mark, now_ms) = self.mark(id);
        commit(self.engine, Command::Copy(CopyCommand::Begin { mark, now_ms })).await
    }

    async fn renew(&self, id: Uuid) -> Result<(), StoreError> {
        let (mark, now_ms) = self.mark(id);
        commit(self.engine, Command::Copy(CopyCommand::Renew { mark, now_ms })).await
    }

    /// Returns why it is no more held.
    async fn keep(&self, id: Uuid) -> StoreError {
        loop {
            tokio::time::sleep(HOLD_EVERY).await;
            if let Err(error) = self.renew(id).await {
                return error;
            }
        }
    }
}

/// Fills a new store, which is marked until the copy is finished.
async fn copy_into(
    source: &dyn Engine,
    to: &str,
    id: Uuid,
    progress: &mut Progress<'_>,
) -> Result<(Arc<dyn Engine>, CopyReport), StoreError> {
    nothing_waits(source).await?;
    let target = engines::open(&Settings::at(to)).await?;
    let copied = async {
        begin(&*target, id).await?;
        if let Err(error) = is_new(&*target).await {
            end(&*target, id).await?;
            return Err(error);
        }
        copy_engine(source, &*target, id, progress).await
    };
    match copied.await {
        Ok(report) => Ok((target, report)),
        Err(error) => {
            // The error of the copy is the better reason.
            drop(target.close().await);
            Err(error)
        }
    }
}

/// Marks a store as one that is being filled.
pub(crate) async fn begin(target: &dyn Engine, id: Uuid) -> Result<(), StoreError> {
    let now_ms = target.sharing().map_or(0, |sharing| sharing.clock.now_ms());
    let mark = CopyMark { id, until_ms: None };
    commit(target, Command::Copy(CopyCommand::Begin { mark, now_ms })).await
}

/// Takes the mark from the new store, if all of the other one is in it.
async fn finish(
    source: &dyn Engine,
    hold: &Option<Hold<'_>>,
    target: &dyn Engine,
    id: Uuid,
    mut report: CopyReport,
) -> Result<CopyReport, StoreError> {
    let finished = async {
        if let Some(part) = source.damaged() {
            return Err(StoreError(format!(
                "{part} cannot be read, and is not in the copy; look at the store with `yagura store verify`, and salvage it first if it is damaged"
            )));
        }
        nothing_waits(source).await?;
        if let Some(hold) = hold {
            hold.renew(id).await?;
        }
        report.left = source.not_copied().await?;
        end(target, id).await
    };
    let finished = finished.await;
    let closed = target.close().await;
    finished?;
    closed.map(|()| report)
}

/// Takes the mark from a store.
pub(crate) async fn end(target: &dyn Engine, id: Uuid) -> Result<(), StoreError> {
    commit(target, Command::Copy(CopyCommand::End { id })).await
}

/// Whether messages wait in a store's outbox.
async fn has_messages(engine: &dyn Engine) -> Result<bool, StoreError> {
    let Some(outbox) = engine.outbox() else { return Ok(false) };
    let waiting = outbox.page(false).await?;
    outbox.begin_anew().await;
    Ok(!waiting.is_empty())
}

/// No messages wait that a broker would have to move first.
async fn nothing_waits(source: &dyn Engine) -> Result<(), StoreError> {
    if !has_messages(source).await? {
        return Ok(());
    }
    Err(StoreError(
        "messages wait in the outbox of the store that is to be copied, which only a broker moves into their topics; stop what sends them, run a broker until they are moved, and begin anew"
            .to_owned(),
    ))
}

async fn is_new(target: &dyn Engine) -> Result<(), StoreError> {
    let mut has_some = has_messages(target).await?;
    // What there is once, a store has from its first start on; a scan does not find it.
    for kind in KINDS.iter().filter(|kind| !STAYS.contains(&kind.prefix())) {
        has_some = has_some || !target.scan(kind.key_prefix(), None, 1).await?.is_empty();
    }
    if has_some {
        return Err(StoreError("the store to copy to is not empty; name a new one".to_owned()));
    }
    Ok(())
}

/// Copies what one engine has into another, which has nothing. The other has the mark then that it is not finished.
///
/// # Errors
/// Either failed, or the first has no batch where its log says so.
pub(crate) async fn copy_engine(
    source: &dyn Engine,
    target: &dyn Engine,
    id: Uuid,
    progress: &mut Progress<'_>,
) -> Result<CopyReport, StoreError> {
    Copy { source, target, id, report: CopyReport::default() }.run(progress).await
}

struct Copy<'a> {
    source: &'a dyn Engine,
    target: &'a dyn Engine,
    id: Uuid,
    report: CopyReport,
}

impl Copy<'_> {
    async fn run(mut self, progress: &mut Progress<'_>) -> Result<CopyReport, StoreError> {
        let total = self.bytes().await?;
        progress(0, total);
        // Topics come before what belongs to them, as in the list of kinds.
        for kind in KINDS.iter().filter(|kind| !STAYS.contains(&kind.prefix())) {
            let mut after = None;
            while let Some(page) = self.page(kind, &mut after).await? {
                if kind.prefix() == PartitionDocument::PREFIX {
                    for (key, log) in page {
                        self.copy_log(key, &log, &mut |done| progress(done.min(total), total)).await?;
                    }
                } else {
                    self.report.documents += page.len() as u64;
                    let documents = page.iter().map(|(key, document)| text(key, document));
                    let documents = documents.collect::<Result<_, _>>()?;
                    self.restore(Restore { documents, log: None, copy: self.id }).await?;
                }
            }
        }
        self.begin_epoch().await?;
        progress(total, total);
        Ok(self.report)
    }

    /// The bytes of all batches.
    async fn bytes(&self) -> Result<u64, StoreError> {
        let (mut sum, mut after) = (0, None);
        loop {
            let page = self.source.scan(PartitionDocument::prefix(), after.take(), DOCUMENTS).await?;
            let Some((last, _)) = page.last() else { return Ok(sum) };
            after = Some(last.clone());
            let partitions = page.iter().filter_map(|(key, _)| PartitionDocument::parse_key(key)).collect();
            sum += self.source.sizes(partitions).await?.iter().sum::<u64>();
        }
    }

    /// The next documents of a kind; `None` if there are no more.
    async fn page(
        &self,
        kind: &AnyKind,
        after: &mut Option<Key>,
    ) -> Result<Option<Vec<(Key, Document)>>, StoreError> {
        let page = match (kind.only_key(), after.take()) {
            (Some(key), None) => {
                let found = self.source.get(vec![key.clone()]).await?.into_iter().next().flatten();
                found.map(|document| (key, document)).into_iter().collect()
            }
            (Some(_), Some(_)) => Vec::new(),
            (None, after) => self.source.scan(kind.key_prefix(), after, DOCUMENTS).await?,
        };
        let Some((last, _)) = page.last() else { return Ok(None) };
        *after = Some(last.clone());
        Ok(Some(page))
    }

    async fn copy_log(
        &mut self,
        key: Key,
        document: &Document,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError> {
        let parsed = PartitionDocument::parse_key(&key).zip(document.get::<PartitionDocument>());
        let Some((partition, log)) = parsed else {
            return Err(StoreError(format!("{key} is no document of a partition")));
        };
        let document = text(&key, document)?;
        let (mut at, mut first) = (log.log_start, Some(log.log_start));
        while first.is_some() || at < log.end {
            let batches = if at < log.end { self.read(partition, at).await? } else { Vec::new() };
            let restored: Vec<RestoredBatch> = batches.into_iter().map(restored).collect::<Result<_, _>>()?;
            let bytes: u64 = restored.iter().map(|batch| batch.payload.0.len() as u64).sum();
            let next = restored.last().map(|batch| batch.base_offset + i64::from(batch.batch.record_count));
            if at < log.end && next.is_none_or(|next| next <= at) {
                let verify = "check the store with `yagura store verify`";
                return Err(StoreError(format!("{key} has no batch at offset {at}; {verify}")));
            }
            self.report.batches += restored.len() as u64;
            self.report.bytes += bytes;
            let log = Some(RestoredLog { partition, first: first.take(), batches: restored });
            self.restore(Restore { documents: vec![document.clone()], log, copy: self.id }).await?;
            at = next.unwrap_or(at);
            progress(self.report.bytes);
        }
        self.report.documents += 1;
        self.report.partitions += 1;
        Ok(())
    }

    /// Whole batches from the one on that holds an offset.
    async fn read(&self, partition: TopicPartition, from: i64) -> Result<Vec<Bytes>, StoreError> {
        let spec = ReadSpec::uncommitted(partition, ReadFrom::Offset(from), BATCH_BYTES);
        let outcome =
            self.source.read(vec![spec], ReadLimits::all_now(BATCH_BYTES)).await?.into_iter().next();
        match outcome {
            Some(ReadOutcome::Read { batches, .. }) => Ok(batches
                .into_iter()
                .flat_map(Batch::split_all)
                .map(|batch| batch.bytes().clone())
                .collect()),
            Some(ReadOutcome::Failed(error)) => Err(error),
            other => Err(StoreError(format!("reading at offset {from} gave {other:?}"))),
        }
    }

    async fn restore(&self, restore: Restore) -> Result<(), StoreError> {
        self.commit(Command::Restore(Box::new(restore))).await
    }

    async fn begin_epoch(&self) -> Result<(), StoreError> {
        let epoch = next_epoch_of(self.source, SystemClock.now_ms()).await?;
        self.commit(Command::RecordEpoch { epoch }).await
    }

    async fn commit(&self, command: Command) -> Result<(), StoreError> {
        commit(self.target, command).await
    }
}

async fn commit(target: &dyn Engine, command: Command) -> Result<(), StoreError> {
    match target.commit(vec![command], Holds::new()).await?.into_iter().next() {
        Some(Ok(_)) => Ok(()),
        Some(Err(refused)) => Err(StoreError(refused.message)),
        None => Err(StoreError("the engine gave no outcome".to_owned())),
    }
}

/// A document with its key, as text.
fn text(key: &Key, document: &Document) -> Result<(Key, String), StoreError> {
    let text = document.write().map_err(|error| StoreError(format!("{key}: {error}")))?;
    Ok((key.clone(), text))
}

/// A batch as it was read, with what is known of it.
fn restored(data: Bytes) -> Result<RestoredBatch, StoreError> {
    let (batch, has_undated) = stored_batch(&data).map_err(StoreError)?;
    let offsets = batch.next_offset() - batch.base_offset();
    let facts = BatchFacts {
        record_count: i32::try_from(offsets).unwrap_or(i32::MAX),
        attributes: batch.attributes(),
        has_undated: has_undated && !batch.has_append_time(),
        ..BatchFacts::of(&batch)
    };
    Ok(RestoredBatch {
        base_offset: batch.base_offset(),
        leader_epoch: batch.leader_epoch(),
        batch: facts,
        // An engine tells of no batch when it was appended: what has no timestamp is as old as this copy.
        appended_ms: SystemClock.now_ms(),
        payload: Payload(data),
    })
}
