//! Random steps of compaction for the engine model test, against a plain list of batches. What is kept is left to chance: the
//! engines need not know why.

use std::ops::ControlFlow;

use bytes::Bytes;
use kernel::TopicPartition;
use kernel::records::{Batch, Selection};
use rules::commands::{Applied, Clean, CleanedRun, Command, Outcome};
use rules::documents::{DocumentKind, PartitionDocument};

use super::memory::Memory;
use super::model_tests::Dice;
use super::{Engine, ReadFrom, ReadLimits, ReadOutcome, ReadSpec};
use crate::compaction::{Kept, Runs};

/// More than a log of the test has.
const ALL: usize = 1 << 28;

/// Cleans some of a partition on both engines, mostly as the log is.
pub(super) async fn clean(
    model: &Memory,
    engine: &dyn Engine,
    dice: &mut Dice,
    partition: TopicPartition,
    context: &str,
) {
    let document = model.get(vec![PartitionDocument::key(&partition)]).await.unwrap().remove(0);
    let Some(log) = document.and_then(|document| document.get::<PartitionDocument>().copied()) else {
        return;
    };
    let batches = batches(model, partition, &log).await;
    let mut runs = Runs::default();
    for batch in &batches {
        let is_stable = batch.next_offset() <= log.last_stable();
        runs.push(batch, if is_stable { dice.kept(batch) } else { Kept::Same });
    }
    let runs = runs.take();
    let steps = log.cleaning_steps();
    let stale = u64::from(dice.roll(8) == 0);
    let clean = Clean {
        partition,
        steps: steps + stale,
        log_start: log.log_start,
        runs: runs.clone(),
        ended: Vec::new(),
        clean_end: (dice.roll(2) == 0).then(|| log.last_stable()),
    };
    let commands = vec![Command::Clean(clean)];
    let done: [Outcome; 1] = [Ok(Applied::Cleaned(stale == 0))];
    assert_eq!(model.commit(commands.clone(), Vec::new()).await.unwrap(), done, "{context}");
    assert_eq!(engine.commit(commands, Vec::new()).await.unwrap(), done, "{context}");
    let expected = if stale == 0 { replaced(&batches, &runs) } else { bytes_of(&batches) };
    for engine in [model as &dyn Engine, engine] {
        let found = self::batches(engine, partition, &log).await;
        assert!(bytes_of(&found) == expected, "{context}: {found:?} after {runs:?} of {batches:?}");
        let bytes: usize = expected.iter().map(Bytes::len).sum();
        assert_eq!(engine.sizes(vec![partition]).await.unwrap(), [bytes as u64], "{context}");
    }
}

/// All batches of a partition, which follow each other.
async fn batches(engine: &dyn Engine, partition: TopicPartition, log: &PartitionDocument) -> Vec<Batch> {
    let spec = ReadSpec::uncommitted(partition, ReadFrom::Offset(log.log_start), ALL);
    let read = engine.read(vec![spec], ReadLimits::all_now(ALL)).await.unwrap().remove(0);
    let ReadOutcome::Read { batches, .. } = read else { panic!("{read:?}") };
    let whole = |mut bytes: Bytes| Batch::split_first(&mut bytes).unwrap();
    let batches: Vec<Batch> = batches.into_iter().map(whole).collect();
    let ends = batches.iter().map(Batch::next_offset);
    assert!(ends.zip(batches.iter().skip(1)).all(|(end, next)| end == next.base_offset()));
    assert_eq!(batches.last().map_or(log.log_start, Batch::next_offset), log.end);
    batches
}

fn bytes_of(batches: &[Batch]) -> Vec<Bytes> {
    batches.iter().map(|batch| batch.bytes().clone()).collect()
}

/// The batches with the new ones of runs in their places.
fn replaced(batches: &[Batch], runs: &[CleanedRun]) -> Vec<Bytes> {
    let mut all = Vec::new();
    for batch in batches {
        let at = batch.base_offset();
        match runs.iter().find(|run| (run.from..run.until).contains(&at)) {
            None => all.push(batch.bytes().clone()),
            Some(run) if run.from == at => {
                all.extend(run.batches.iter().map(|batch| batch.payload.0.clone()))
            }
            Some(_) => {}
        }
    }
    all
}

impl Dice {
    fn kept(&mut self, batch: &Batch) -> Kept {
        if batch.is_control() {
            // A marker stays: its transaction is not forgotten here, and readers of committed records look for where it ends.
            return if self.roll(2) == 0 { Kept::Same } else { self.retained(batch, true) };
        }
        match self.roll(6) {
            0 => Kept::Same,
            1 => Kept::Rewritten(batch.emptied()),
            2 => self.retained(batch, false),
            _ => Kept::Gone,
        }
    }

    /// A batch with all of its records, or some.
    fn retained(&mut self, batch: &Batch, has_all: bool) -> Kept {
        let mut selection = Selection::default();
        let visited = batch.visit(1 << 20, |record| {
            let stays = has_all || self.roll(2) == 0;
            selection.push(&record, stays);
            ControlFlow::Continue(())
        });
        visited.unwrap();
        let horizon_ms = (self.roll(2) == 0).then(|| self.roll(5_000) as i64);
        if selection.selected() == 0 {
            return Kept::Gone;
        }
        Kept::Rewritten(batch.retain(&selection, horizon_ms, 1 << 20).unwrap())
    }
}
