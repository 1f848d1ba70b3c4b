//! Compaction of what transactions have written: readers of committed records find the last value of each key, before and
//! after, and never one that was aborted.

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;
use kernel::records::{Batch, BatchBuilder, Codec, control};
use kernel::units::ByteSize;
use kernel::{Ticket, TopicPartition};
use rules::commands::{Append, Applied, Command};
use rules::documents::AbortedTransaction;

use super::tests::{Found, World, keyed};
use crate::apis::testing::{NOW_MS, topic};
use crate::apis::testing_transactions::Transactional;

const COMPACTED: [(&str, &str); 3] =
    [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0"), ("delete.retention.ms", "600000")];
const HOUR_MS: i64 = 3_600_000;

/// What becomes of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Open,
    Committed,
    Aborted,
}

/// A record that was written, and the transaction that it is in.
struct Written {
    offset: i64,
    key: String,
    value: Option<String>,
    transaction: Option<usize>,
}

/// All that was written to a partition.
#[derive(Default)]
struct History {
    written: Vec<Written>,
    fates: Vec<Fate>,
}

impl History {
    fn fate(&self, written: &Written) -> Fate {
        written.transaction.map_or(Fate::Committed, |transaction| self.fates[transaction])
    }

    fn add(&mut self, base: i64, records: &[(String, Option<String>)], transaction: Option<usize>) {
        for (offset, (key, value)) in (base..).zip(records) {
            self.written.push(Written { offset, key: key.clone(), value: value.clone(), transaction });
        }
    }

    /// The last committed record of each key before an offset.
    fn last_of_each(&self, until: i64) -> BTreeMap<&str, &Written> {
        let committed = self
            .written
            .iter()
            .filter(|written| written.offset < until && self.fate(written) == Fate::Committed);
        committed.map(|written| (written.key.as_str(), written)).collect()
    }
}

/// Numbers that look random.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn records(&mut self, value_bytes: usize) -> Vec<(String, Option<String>)> {
        let record = |dice: &mut Dice| {
            let key = format!("k{}", dice.roll(6));
            let value = format!("{}-{}", dice.roll(1 << 30), "v".repeat(value_bytes));
            (key, (dice.roll(8) > 0).then_some(value))
        };
        (0..=self.roll(3)).map(|_| record(self)).collect()
    }
}

fn as_texts(records: &[(String, Option<String>)]) -> Vec<(&str, Option<&str>)> {
    records.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect()
}

fn records_of(batch: &Batch) -> Vec<Found> {
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let records = batch.records(1 << 26).unwrap().map(|record| record.unwrap());
    records.map(|record| (record.offset, text(record.key.unwrap()), record.value.map(text))).collect()
}

/// What a reader of committed records gets, and where it ends.
async fn committed(world: &World, at: TopicPartition) -> (Vec<Found>, i64) {
    let last_stable = world.log(at).await.last_stable();
    let aborted = world.broker.store.aborted(at, 0..last_stable, usize::MAX).await.unwrap().unwrap();
    let mut aborted: Vec<_> =
        aborted.iter().map(|aborted| (aborted.first_offset, aborted.producer.0)).collect();
    aborted.sort_unstable();
    let (mut aborted, mut skipped) = (aborted.into_iter().peekable(), HashSet::new());
    let mut found = Vec::new();
    for batch in world.batches(at).await {
        if batch.base_offset() >= last_stable {
            break;
        }
        while let Some((_, producer)) = aborted.next_if(|(first, _)| *first < batch.next_offset()) {
            skipped.insert(producer);
        }
        if batch.is_control() {
            if control::read_marker(&batch).is_some_and(|marker| !marker.commit) {
                skipped.remove(&batch.producer_id());
            }
        } else if !batch.is_transactional() || !skipped.contains(&batch.producer_id()) {
            found.extend(records_of(&batch));
        }
    }
    (found, last_stable)
}

async fn check(world: &World, at: TopicPartition, history: &History) {
    let (found, last_stable) = committed(world, at).await;
    for (offset, key, value) in &found {
        let written = history.written.iter().find(|written| written.offset == *offset).unwrap();
        assert_eq!((&written.key, &written.value), (key, value), "offset {offset}");
        assert_eq!(history.fate(written), Fate::Committed, "offset {offset}");
    }
    let last: BTreeMap<&str, &Found> = found.iter().map(|found| (found.1.as_str(), found)).collect();
    for (key, expected) in history.last_of_each(last_stable) {
        match last.get(key) {
            Some((offset, ..)) => assert_eq!(*offset, expected.offset, "the last of {key}"),
            None => assert_eq!(expected.value, None, "{key} at {} is lost", expected.offset),
        }
    }
    let all = world
        .batches(at)
        .await
        .iter()
        .filter(|batch| !batch.is_control())
        .flat_map(records_of)
        .collect::<Vec<_>>();
    for written in history.written.iter().filter(|written| written.offset >= last_stable) {
        assert!(
            all.iter().any(|(offset, ..)| *offset == written.offset),
            "{} is not to be cleaned",
            written.offset
        );
    }
}

/// Random transactions of three producers and records of none, cleaned now and then.
async fn random(mut world: World, seed: u64, steps: usize, value_bytes: usize) {
    let at = topic(&world.broker, "t", 1, &COMPACTED).await.partition(0).unwrap();
    let mut producers = Vec::new();
    for id in ["a", "b", "c"] {
        producers.push((Transactional::new(&world.broker, id).await, None::<usize>));
    }
    let (mut history, mut dice) = (History::default(), Dice(seed));
    for step in 0..steps {
        let (producer, open) = &mut producers[dice.roll(3) as usize];
        match dice.roll(10) {
            0..=1 => {
                let records = dice.records(value_bytes);
                let base = world.append(at, &as_texts(&records)).await;
                history.add(base, &records, None);
            }
            2..=6 => {
                let records = dice.records(value_bytes);
                let texts = as_texts(&records);
                let batch = |id, epoch, sequence| {
                    keyed(BatchBuilder::new(Codec::Lz4).producer(id, epoch, sequence), NOW_MS, &texts)
                };
                let base = producer.append_batch(at, records.len(), batch).await;
                let transaction = *open.get_or_insert_with(|| {
                    history.fates.push(Fate::Open);
                    history.fates.len() - 1
                });
                history.add(base, &records, Some(transaction));
            }
            _ => {
                if let Some(transaction) = open.take() {
                    let commit = dice.roll(2) == 0;
                    producer.end(commit).await;
                    history.fates[transaction] = if commit { Fate::Committed } else { Fate::Aborted };
                }
            }
        }
        if step % 25 == 24 {
            world.pass().await;
            check(&world, at, &history).await;
        }
    }
    for (producer, open) in &mut producers {
        if let Some(transaction) = open.take() {
            producer.end(false).await;
            history.fates[transaction] = Fate::Aborted;
        }
    }
    // Nothing is left of what was aborted, nor of tombstones, once their time has passed.
    for round in 0..4 {
        let records = [("last".to_owned(), Some(format!("{round}")))];
        let base = world.append(at, &as_texts(&records)).await;
        history.add(base, &records, None);
        world.pass().await;
        check(&world, at, &history).await;
        world.clock.advance(HOUR_MS);
    }
    let batches = world.batches(at).await;
    let last = history.last_of_each(i64::MAX);
    let left: Vec<_> = last.values().filter(|written| written.value.is_some()).collect();
    let data = batches.iter().filter(|batch| !batch.is_control());
    assert_eq!(data.flat_map(records_of).count(), left.len(), "seed {seed}");
    // The marker of a commit stays as long as anything does of its transaction.
    let committed: HashSet<_> = left.iter().filter_map(|written| written.transaction).collect();
    let markers: Vec<_> =
        batches.iter().filter_map(control::read_marker).map(|marker| marker.commit).collect();
    assert_eq!(markers, vec![true; committed.len()], "seed {seed}");
    let engine = world.broker.store.engine().await.unwrap();
    let aborted = engine.scan(AbortedTransaction::of_partition(at), None, 1).await.unwrap();
    assert!(aborted.is_empty(), "seed {seed}: {aborted:?}");
    world.end().await;
}

#[tokio::test]
async fn readers_of_committed_records_find_the_last_of_each_key() {
    for seed in 0..4 {
        for world in World::with("transactions", |_| {}) {
            random(world, seed, 300, 10).await;
        }
    }
}

/// The keys of a pass are few.
#[tokio::test]
async fn the_same_in_several_passes() {
    for seed in 10..12 {
        for world in World::with("passes", |settings| settings.compaction_memory = ByteSize(72)) {
            random(world, seed, 200, 10).await;
        }
    }
}

/// Transactions are longer than what is read at a time.
#[tokio::test]
async fn the_same_over_megabytes() {
    for world in World::with("chunks", |_| {}) {
        random(world, 20, 200, 40_000).await;
    }
}

#[tokio::test]
async fn an_idempotent_producer_goes_on_where_it_was() {
    for mut world in World::with("idempotent", |_| {}) {
        let at = topic(&world.broker, "t", 1, &COMPACTED).await.partition(0).unwrap();
        let batch = |sequence, key: &str| {
            keyed(BatchBuilder::new(Codec::None).producer(9, 0, sequence), NOW_MS, &[(key, Some("v"))])
        };
        let append = async |world: &World, bytes: Bytes| {
            let append = Append::new(at, &Batch::check(bytes).unwrap(), NOW_MS);
            match world.broker.store.commit_one(&Ticket::only(), Command::Append(append)).await.unwrap() {
                Ok(Applied::Appended { base_offset, is_duplicate, .. }) => Ok((base_offset, is_duplicate)),
                Ok(other) => panic!("{other:?}"),
                Err(refused) => Err(refused.error.code()),
            }
        };
        for sequence in 0..3 {
            append(&world, batch(sequence, "a")).await.unwrap();
        }
        world.append(at, &[("a", Some("newest"))]).await;
        world.append(at, &[("b", Some("x"))]).await;
        world.pass().await;
        let batches = world.batches(at).await;
        let emptied = batches.iter().find(|batch| batch.producer_id() == 9).unwrap();
        assert_eq!(
            (emptied.record_count(), emptied.next_offset()),
            (0, 3),
            "it tells the last sequence number"
        );
        assert_eq!(append(&world, batch(2, "a")).await, Ok((2, true)), "a repeated one");
        assert_eq!(append(&world, batch(5, "a")).await, Err(45), "out of order");
        assert_eq!(append(&world, batch(3, "a")).await, Ok((5, false)));
        world.end().await;
    }
}
