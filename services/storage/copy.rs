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
use rules::documents::{AnyKind, DocumentKind, KINDS, Key, NodeDocument, PartitionDocument};

use crate::engines::{
    self, Engine, Holds, Progress, ReadFrom, ReadLimits, ReadOutcome, ReadSpec, StoreError, stored_batch,
};
use crate::settings::Settings;
use crate::store::next_epoch_of;

/// Documents in one commit.
const DOCUMENTS: usize = 1_000;
/// Bytes of batches in one commit; one batch may have more.
const BATCH_BYTES: usize = 4 << 20;

/// What was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CopyReport {
    /// Documents, such as topics and offsets of groups.
    pub documents: u64,
    /// Partitions.
    pub partitions: u64,
    /// Record batches.
    pub batches: u64,
    /// Bytes of them, as the store that was read sends them.
    pub bytes: u64,
}

impl fmt::Display for CopyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { documents, partitions, batches, bytes } = self;
        write!(f, "copied {documents} documents, {partitions} partitions, {batches} batches, {bytes} bytes")
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
    nobody_is_there(source).await?;
    let target = engines::open(&Settings::at(to)).await?;
    let copied = async {
        is_new(&*target).await?;
        copy_engine(source, &*target, progress).await
    };
    let copied = copied.await;
    let closed = target.close().await;
    let report = copied?;
    closed.map(|()| report)
}

/// Of a store that brokers share.
async fn nobody_is_there(engine: &dyn Engine) -> Result<(), StoreError> {
    let Some(sharing) = engine.sharing() else { return Ok(()) };
    let now_ms = sharing.clock.now_ms();
    let nodes = engine.scan(NodeDocument::prefix(), None, usize::MAX).await?;
    let live =
        nodes.iter().filter(|(_, node)| node.get::<NodeDocument>().is_some_and(|node| node.is_live(now_ms)));
    match live.count() {
        0 => Ok(()),
        count => Err(StoreError(format!(
            "{count} broker(s) have the store that is to be copied (`yagura node list`); stop them, so that nothing changes meanwhile"
        ))),
    }
}

async fn is_new(target: &dyn Engine) -> Result<(), StoreError> {
    for kind in &KINDS {
        if !target.scan(kind.key_prefix(), None, 1).await?.is_empty() {
            return Err(StoreError(
                "the store to copy to is not empty; name a new one, or remove what a copy that was cut off has left there"
                    .to_owned(),
            ));
        }
    }
    Ok(())
}

/// Copies what one engine has into another, which has nothing.
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
        let leases = NodeDocument::prefix();
        // Topics come before what belongs to them, as in the list of kinds.
        for kind in KINDS.iter().filter(|kind| kind.key_prefix() != leases) {
            let mut after = None;
            while let Some(page) = self.page(kind, &mut after).await? {
                if kind.prefix() == PartitionDocument::PREFIX {
                    for (key, text) in page {
                        self.copy_log((key, text), &mut |done| progress(done.min(total), total)).await?;
                    }
                } else {
                    self.report.documents += page.len() as u64;
                    self.restore(Restore { documents: page, log: None }).await?;
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

    /// The next documents of a kind, as text; `None` if there are no more.
    async fn page(
        &self,
        kind: &AnyKind,
        after: &mut Option<Key>,
    ) -> Result<Option<Vec<(Key, String)>>, StoreError> {
        let page = self.source.scan(kind.key_prefix(), after.take(), DOCUMENTS).await?;
        let Some((last, _)) = page.last() else { return Ok(None) };
        *after = Some(last.clone());
        let text = |(key, document): (Key, rules::documents::Document)| {
            let text = document.write().map_err(|error| StoreError(format!("{key}: {error}")))?;
            Ok((key, text))
        };
        page.into_iter().map(text).collect::<Result<Vec<_>, StoreError>>().map(Some)
    }

    async fn copy_log(
        &mut self,
        document: (Key, String),
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), StoreError> {
        let partition = PartitionDocument::parse_key(&document.0);
        let found = self.source.get(vec![document.0.clone()]).await?.into_iter().next().flatten();
        let log = found.as_ref().and_then(|found| found.get::<PartitionDocument>());
        let (Some(partition), Some(log)) = (partition, log) else {
            return Err(StoreError(format!("{} has changed meanwhile", document.0)));
        };
        let (mut at, mut first) = (log.log_start, Some(log.log_start));
        while first.is_some() || at < log.end {
            let batches = if at < log.end { self.read(partition, at).await? } else { Vec::new() };
            let restored: Vec<RestoredBatch> = batches.into_iter().map(restored).collect::<Result<_, _>>()?;
            let bytes: u64 = restored.iter().map(|batch| batch.payload.0.len() as u64).sum();
            let next = restored.last().map(|batch| batch.base_offset + i64::from(batch.batch.record_count));
            if at < log.end && next.is_none_or(|next| next <= at) {
                let verify = "check the store with `yagura store verify`";
                return Err(StoreError(format!("{} has no batch at offset {at}; {verify}", document.0)));
            }
            self.report.batches += restored.len() as u64;
            self.report.bytes += bytes;
            let log = Some(RestoredLog { partition, first: first.take(), batches: restored });
            self.restore(Restore { documents: vec![document.clone()], log }).await?;
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
        match self.target.commit(vec![command], Holds::new()).await?.into_iter().next() {
            Some(Ok(_)) => Ok(()),
            Some(Err(refused)) => Err(StoreError(refused.message)),
            None => Err(StoreError("the engine gave no outcome".to_owned())),
        }
    }
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
