//! Copies a whole store into a new one, of any engine: `yagura store copy`.
//!
//! Documents and batches are taken as they are: offsets, groups, producers and transactions go on where they were. What the new
//! store works out anew is its index, by the engine's own commits. Leases of brokers stay behind, and it begins a leader
//! epoch of its own, because the other one may go on.

use std::fmt;

use bytes::Bytes;
use kernel::TopicPartition;
use kernel::clock::{Clock, SystemClock};
use kernel::records::Batch;
use rules::commands::{BatchFacts, Command, Payload, Restore, RestoredBatch, RestoredLog};
use rules::documents::{
    AnyKind, Counters, Document, DocumentKind, DueComplete, KINDS, Key, NodeDocument, PartitionDocument,
    StoreLevel, UnfinishedCopy,
};

use crate::engines::{
    self, Engine, Holds, Progress, ReadFrom, ReadLimits, ReadOutcome, ReadSpec, StoreError, stored_batch,
};
use crate::settings::Settings;
use crate::store::next_epoch_of;

/// Documents in one commit.
const DOCUMENTS: usize = 1_000;
/// What belongs to the brokers that share a store, and not to what is in it.
const STAYS: [&str; 3] = [NodeDocument::PREFIX, StoreLevel::PREFIX, UnfinishedCopy::PREFIX];
/// What a new store has from its first start on.
const MADE_AT_START: [&str; 2] = [Counters::PREFIX, DueComplete::PREFIX];
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
    let since_ms = source.sharing().map_or(0, |sharing| sharing.clock.now_ms());
    nobody_is_there(source, since_ms).await?;
    let target = engines::open(&Settings::at(to)).await?;
    let copied = async {
        is_new(&*target).await?;
        let since_ms = (since_ms, target.sharing().map_or(0, |sharing| sharing.clock.now_ms()));
        let mut report = copy_engine(source, &*target, progress).await?;
        nobody_is_there(source, since_ms.0).await?;
        nobody_is_there(&*target, since_ms.1).await?;
        finish(&*target).await?;
        report.left = source.not_copied().await?;
        Ok(report)
    };
    let copied = copied.await;
    let closed = target.close().await;
    let report = copied?;
    closed.map(|()| report)
}

/// Whether no broker has a store that brokers share, nor has had since a moment by its clock; and no messages wait there that a
/// broker would have to move first.
async fn nobody_is_there(engine: &dyn Engine, since_ms: i64) -> Result<(), StoreError> {
    if engine.sharing().is_none() {
        return Ok(());
    }
    let nodes = engine.scan(NodeDocument::prefix(), None, usize::MAX).await?;
    let live = nodes.iter().filter(|(_, node)| {
        node.get::<NodeDocument>().is_some_and(|node| node.is_live(since_ms) || node.lease_ms > since_ms)
    });
    let count = live.count();
    if count > 0 {
        return Err(StoreError(format!(
            "{count} broker(s) have a store of the copy (`yagura node list`), or had it meanwhile; stop them, so that nothing changes, and begin anew"
        )));
    }
    let Some(outbox) = engine.outbox() else { return Ok(()) };
    let waiting = outbox.page(false).await?;
    outbox.begin_anew().await;
    if !waiting.is_empty() {
        return Err(StoreError(
            "messages wait in the outbox of the store, which only a broker moves into their topics; stop what sends them, run a broker until they are moved, and begin anew"
                .to_owned(),
        ));
    }
    Ok(())
}

/// Takes the mark from the new store that it is not whole.
pub(crate) async fn finish(target: &dyn Engine) -> Result<(), StoreError> {
    let last = Restore { documents: Vec::new(), log: None, is_last: true };
    commit(target, Command::Restore(Box::new(last))).await
}

async fn is_new(target: &dyn Engine) -> Result<(), StoreError> {
    for kind in KINDS.iter().filter(|kind| kind.prefix() != StoreLevel::PREFIX) {
        let found = match kind.only_key() {
            Some(_) if MADE_AT_START.contains(&kind.prefix()) => false,
            Some(key) => target.get(vec![key]).await?.iter().any(Option::is_some),
            None => !target.scan(kind.key_prefix(), None, 1).await?.is_empty(),
        };
        if found {
            return Err(StoreError(
                "the store to copy to is not empty; name a new one, or remove what a copy that was cut off has left there"
                    .to_owned(),
            ));
        }
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
    progress: &mut Progress<'_>,
) -> Result<CopyReport, StoreError> {
    Copy { source, target, report: CopyReport::default() }.run(progress).await
}

struct Copy<'a> {
    source: &'a dyn Engine,
    target: &'a dyn Engine,
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
                    self.restore(Restore { documents, log: None, is_last: false }).await?;
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
            self.restore(Restore { documents: vec![document.clone()], log, is_last: false }).await?;
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
