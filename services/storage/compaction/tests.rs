//! The cleaner against a naive model: a list of records, of which the last one of each key is kept.

use std::collections::{BTreeMap, HashMap, HashSet};

use bytes::Bytes;
use kernel::records::control::{marker, read_marker};
use kernel::records::{Batch, BatchBuilder, Codec, LOG_APPEND_TIME, NewRecord, Record, StoredHeader, settle};

use super::*;

const BYTES_MAX: usize = 1 << 20;
const RETENTION_MS: i64 = 2_000;
const TRANSACTIONAL: i16 = 0x10;
const HEADERS: &[(&str, Option<&[u8]>)] = &[("name", None), ("name", Some(b"value"))];
/// One without idempotence, one without and two with transactions.
const PRODUCERS: [i64; 4] = [-1, 1, 2, 3];

/// A small seeded random number generator (xorshift64*).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn seeded(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len() as u64) as usize]
    }
}

fn whole(mut bytes: Bytes) -> Batch {
    let batch = Batch::split_first(&mut bytes).unwrap();
    assert!(bytes.is_empty() && batch.crc_fits());
    batch
}

fn settled(bytes: &Bytes, base_offset: i64, more_attributes: i16, append_ms: Option<i64>) -> Batch {
    let sent = whole(bytes.clone());
    let append_bit = if append_ms.is_some() { LOG_APPEND_TIME } else { 0 };
    let header = StoredHeader {
        base_offset,
        leader_epoch: 4,
        attributes: sent.attributes() | more_attributes | append_bit,
        max_timestamp: append_ms.unwrap_or(sent.max_timestamp()),
    };
    let mut bytes = bytes.to_vec();
    settle(&mut bytes, &header);
    whole(bytes.into())
}

fn records(batch: &Batch) -> Vec<Record> {
    batch.records(BYTES_MAX).unwrap().map(Result::unwrap).collect()
}

/// A record that a reader of the log must find.
struct ModelRecord {
    record: Record,
    /// The base offset of its batch.
    batch: i64,
    /// Index of its transaction.
    transaction: Option<usize>,
}

#[derive(Clone, Copy)]
struct Transaction {
    producer_id: i64,
    first_offset: i64,
    /// Offset of its marker, and whether it commits.
    end: Option<(i64, bool)>,
}

/// A partition, its facts, and what the model says of it.
struct Partition {
    dice: Dice,
    keys: u64,
    log: Vec<Batch>,
    /// Batches as they were appended, by base offset.
    appended: BTreeMap<i64, Batch>,
    /// What is kept beside the log.
    aborted: Vec<AbortedTransaction>,
    producers: HashMap<i64, LastRecord>,
    sequences: HashMap<i64, i32>,
    transactions: Vec<Transaction>,
    end: i64,
    clean_end: i64,
    now_ms: i64,
    model: Vec<ModelRecord>,
    /// When tombstones of a batch may go.
    horizons: HashMap<i64, i64>,
}

impl Partition {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::seeded(seed);
        let keys = dice.pick(&[3, 10, 40]);
        Self {
            dice,
            keys,
            log: Vec::new(),
            appended: BTreeMap::new(),
            aborted: Vec::new(),
            producers: HashMap::new(),
            sequences: HashMap::new(),
            transactions: Vec::new(),
            end: 0,
            clean_end: 0,
            now_ms: 1_000_000,
            model: Vec::new(),
            horizons: HashMap::new(),
        }
    }

    fn open(&self, producer_id: i64) -> Option<usize> {
        self.transactions.iter().position(|one| one.producer_id == producer_id && one.end.is_none())
    }

    fn last_stable(&self) -> i64 {
        let open = self.transactions.iter().filter(|transaction| transaction.end.is_none());
        open.map(|transaction| transaction.first_offset).min().unwrap_or(self.end)
    }

    fn push(&mut self, batch: Batch) {
        assert_eq!(batch.base_offset(), self.end);
        self.end = batch.next_offset();
        self.appended.insert(batch.base_offset(), batch.clone());
        self.log.push(batch);
    }

    fn append(&mut self) {
        self.now_ms += self.dice.roll(50) as i64;
        let producer_id = self.dice.pick(&PRODUCERS);
        match (producer_id, self.open(producer_id)) {
            (2.., Some(open)) if self.dice.roll(3) == 0 => self.end_transaction(open),
            (2.., open) => {
                let transaction = open.unwrap_or(self.transactions.len());
                if open.is_none() {
                    self.transactions.push(Transaction { producer_id, first_offset: self.end, end: None });
                }
                self.append_data(producer_id, Some(transaction));
            }
            _ => self.append_data(producer_id, None),
        }
    }

    fn end_transaction(&mut self, index: usize) {
        let Transaction { producer_id, first_offset, .. } = self.transactions[index];
        let commit = self.dice.roll(2) == 0;
        self.transactions[index].end = Some((self.end, commit));
        if !commit {
            self.aborted.push(AbortedTransaction { first_offset, last_offset: self.end, producer_id });
        }
        let batch = marker(producer_id, 0, commit, 0, self.now_ms);
        self.push(settled(&batch, self.end, 0, None));
    }

    fn append_data(&mut self, producer_id: i64, transaction: Option<usize>) {
        let codec = self.dice.pick(&Codec::ALL);
        let count = if self.dice.roll(20) == 0 { 60 } else { 1 + self.dice.roll(6) };
        let mut builder = BatchBuilder::new(codec);
        if producer_id > 0 {
            let sequence = self.sequences.entry(producer_id).or_default();
            builder = builder.producer(producer_id, 0, *sequence);
            *sequence += count as i32;
        }
        for _ in 0..count {
            let key = (self.dice.roll(12) > 0).then(|| format!("key {}", self.dice.roll(self.keys)));
            let value = (self.dice.roll(4) > 0).then(|| vec![b'v'; self.dice.roll(120) as usize]);
            builder.push(NewRecord {
                timestamp: self.now_ms - self.dice.roll(1_000) as i64,
                key: key.as_deref().map(str::as_bytes),
                value: value.as_deref(),
                headers: if self.dice.roll(3) == 0 { HEADERS } else { &[] },
            });
        }
        let more_attributes = if transaction.is_some() { TRANSACTIONAL } else { 0 };
        let append_ms = (self.dice.roll(5) == 0).then_some(self.now_ms);
        let batch = settled(&builder.build().unwrap(), self.end, more_attributes, append_ms);
        for record in records(&batch) {
            self.model.push(ModelRecord { record, batch: self.end, transaction });
        }
        self.push(batch);
        if producer_id > 0 {
            let last = LastRecord { last_data_offset: Some(self.end - 1), producer_epoch: 0 };
            self.producers.insert(producer_id, last);
        }
    }

    fn is_aborted(&self, record: &ModelRecord) -> bool {
        let end = record.transaction.and_then(|index| self.transactions[index].end);
        end.is_some_and(|(_, commit)| !commit)
    }

    fn overlapping(&self, batch: &Batch) -> Vec<AbortedTransaction> {
        let overlaps = |aborted: &&AbortedTransaction| {
            aborted.first_offset < batch.next_offset() && aborted.last_offset >= batch.base_offset()
        };
        self.aborted.iter().filter(overlaps).copied().collect()
    }

    /// An offset up to which the partition may be cleaned.
    fn pick_until(&mut self) -> i64 {
        let last_stable = self.last_stable();
        let bounds: Vec<_> = self.log.iter().map(Batch::next_offset).collect();
        let bounds: Vec<_> =
            bounds.into_iter().filter(|bound| (self.clean_end..=last_stable).contains(bound)).collect();
        if bounds.is_empty() || self.dice.roll(2) == 0 { last_stable } else { self.dice.pick(&bounds) }
    }

    fn begin_pass(&self, until: i64, map_bytes: usize) -> Cleaning {
        let settings = IndexSettings { map_bytes, decompressed_bytes_max: BYTES_MAX };
        let mut indexing = Indexing::new(self.clean_end..until, &settings);
        for batch in self.log.iter().filter(|batch| batch.next_offset() > self.clean_end) {
            indexing.add_aborted(self.overlapping(batch));
            if !indexing.batch(batch).unwrap() {
                break;
            }
        }
        indexing.cleaning(self.now_ms, RETENTION_MS)
    }

    /// Cleans the first batches of the log.
    fn pass(&mut self, cleaning: &mut Cleaning, batches: usize) {
        let before = std::mem::take(&mut self.log);
        for (index, batch) in before.into_iter().enumerate() {
            if index >= batches {
                self.log.push(batch);
                continue;
            }
            cleaning.add_aborted(self.overlapping(&batch));
            let producer = self.producers.get(&batch.producer_id()).copied();
            let cleaned = cleaning.batch(&batch, producer).unwrap();
            if let Some(ended) = cleaned.ended {
                assert_eq!(ended.last_offset, batch.base_offset());
                let known = self.aborted.len();
                self.aborted.retain(|aborted| *aborted != ended);
                assert_eq!(self.aborted.len() + 1, known);
            }
            match cleaned.kept {
                Kept::Same => self.log.push(batch),
                Kept::Rewritten(bytes) => {
                    assert_ne!(bytes, batch.bytes(), "nothing has changed");
                    self.log.push(whole(bytes));
                }
                Kept::Gone => {}
            }
        }
    }

    fn bytes_before(&self, offset: i64) -> u64 {
        let batches = self.log.iter().filter(|batch| batch.base_offset() < offset);
        batches.map(|batch| batch.bytes().len() as u64).sum()
    }

    /// Returns how many passes it takes.
    fn clean(&mut self, until: i64, map_bytes: usize) -> usize {
        if self.dice.roll(3) == 0 {
            // A pass that breaks off.
            let mut cleaning = self.begin_pass(until, map_bytes);
            let batches = self.dice.roll(self.log.len() as u64 + 1) as usize;
            self.pass(&mut cleaning, batches);
        }
        for passes in 1.. {
            let mut cleaning = self.begin_pass(until, map_bytes);
            let end = cleaning.clean_end();
            assert!(end > self.clean_end || end == until, "it goes on");
            assert_eq!(cleaning.is_last_pass(), end == until);
            let bytes_read = self.bytes_before(end);
            self.pass(&mut cleaning, usize::MAX);
            let stats = cleaning.stats();
            assert_eq!((stats.bytes_read, stats.bytes_kept), (bytes_read, self.bytes_before(end)));
            assert!(stats.records_kept <= stats.records_read);
            self.clean_end = end;
            if end == until {
                self.clean_model(until);
                return passes;
            }
        }
        unreachable!("it goes on until it returns")
    }

    fn clean_model(&mut self, until: i64) {
        let mut model = std::mem::take(&mut self.model);
        model.retain(|one| one.record.offset >= until || !self.is_aborted(one));
        let latest: HashMap<Option<Bytes>, i64> = model
            .iter()
            .filter(|one| one.record.offset < until)
            .map(|one| (one.record.key.clone(), one.record.offset))
            .collect();
        model.retain(|ModelRecord { record, batch, .. }| {
            let has_passed = self.horizons.get(batch).is_some_and(|horizon_ms| *horizon_ms <= self.now_ms);
            let is_latest = record.key.is_some() && latest.get(&record.key) == Some(&record.offset);
            record.offset >= until || is_latest && (record.value.is_some() || !has_passed)
        });
        for one in model.iter().filter(|one| one.record.offset < until && one.record.value.is_none()) {
            self.horizons.entry(one.batch).or_insert(self.now_ms + RETENTION_MS);
        }
        self.model = model;
    }

    fn check(&mut self, until: i64) {
        let data = self.log.iter().filter(|batch| !batch.is_control());
        let found: Vec<Record> = data.flat_map(records).collect();
        let expected: Vec<Record> = self.model.iter().map(|one| one.record.clone()).collect();
        assert_eq!(found, expected);
        for batch in &self.log {
            self.check_header(batch);
            if batch.is_transactional() && !batch.is_control() {
                self.check_marker(batch);
            }
        }
        for (producer_id, last) in &self.producers {
            let next = last.last_data_offset.unwrap() + 1;
            let is_last = |batch: &Batch| batch.producer_id() == *producer_id && batch.next_offset() == next;
            assert!(self.log.iter().any(is_last), "the last batch of producer {producer_id}");
        }
        assert!(until == 0 || self.log.iter().any(|batch| batch.next_offset() == until), "the end");
        for _ in 0..3 {
            let start = self.dice.roll(self.end as u64 + 1) as i64;
            self.check_committed(start);
        }
        self.check_committed(0);
    }

    fn check_header(&self, batch: &Batch) {
        let before = &self.appended[&batch.base_offset()];
        let facts = |batch: &Batch| {
            let producer = (batch.producer_id(), batch.producer_epoch(), batch.base_sequence());
            let kind = (batch.is_transactional(), batch.is_control(), batch.has_append_time());
            (batch.next_offset(), batch.leader_epoch(), producer, kind)
        };
        assert_eq!(facts(batch), facts(before));
        let latest = records(batch).into_iter().map(|record| record.timestamp).max();
        match latest {
            Some(latest) => assert_eq!((batch.codec(), batch.max_timestamp()), (before.codec(), latest)),
            None => assert_eq!(batch.record_count(), 0),
        }
    }

    /// While a batch of a transaction is left, so is its marker.
    fn check_marker(&self, batch: &Batch) {
        let owner = self.transactions.iter().find(|transaction| {
            transaction.producer_id == batch.producer_id()
                && transaction.first_offset <= batch.base_offset()
                && transaction.end.is_none_or(|(marker, _)| marker > batch.base_offset())
        });
        let Some((offset, commit)) = owner.unwrap().end else { return };
        let marker = self.log.iter().find(|batch| batch.base_offset() == offset).and_then(read_marker);
        assert_eq!(marker.map(|marker| marker.commit), Some(commit));
    }

    /// Reads committed records from an offset on, as a consumer does.
    fn check_committed(&self, start: i64) {
        let last_stable = self.last_stable();
        let mut aborted: Vec<_> = self.aborted.iter().filter(|one| one.last_offset >= start).collect();
        aborted.sort();
        let mut aborted = aborted.into_iter().peekable();
        let mut skipped = HashSet::new();
        let mut found = Vec::new();
        for batch in self.log.iter().filter(|batch| batch.next_offset() > start) {
            if batch.base_offset() >= last_stable {
                break;
            }
            while let Some(one) = aborted.next_if(|one| one.first_offset < batch.next_offset()) {
                skipped.insert(one.producer_id);
            }
            if batch.is_control() {
                if read_marker(batch).is_some_and(|marker| !marker.commit) {
                    skipped.remove(&batch.producer_id());
                }
            } else if !batch.is_transactional() || !skipped.contains(&batch.producer_id()) {
                found.extend(records(batch).into_iter().filter(|record| record.offset >= start));
            }
        }
        let visible = self
            .model
            .iter()
            .filter(|one| (start..last_stable).contains(&one.record.offset) && !self.is_aborted(one));
        let expected: Vec<_> = visible.map(|one| one.record.clone()).collect();
        assert_eq!(found, expected, "from {start}");
    }
}

#[test]
fn a_cleaned_log_is_what_the_model_keeps() {
    let (mut passes_max, mut held) = (0, 0);
    for seed in 0..100 {
        let mut partition = Partition::new(seed);
        for _ in 0..5 {
            for _ in 0..partition.dice.roll(25) {
                partition.append();
            }
            partition.now_ms += partition.dice.pick(&[0, 500, RETENTION_MS, 2 * RETENTION_MS]);
            if partition.dice.roll(4) == 0 {
                let forgotten = partition.dice.pick(&PRODUCERS);
                partition.producers.remove(&forgotten);
            }
            let until = partition.pick_until();
            held += usize::from(partition.last_stable() < partition.end);
            let beyond: Vec<_> = beyond(&partition.log, until);
            let map_bytes = partition.dice.pick(&[24 * 9, 24 * 30, 1 << 16]);
            passes_max = partition.clean(until, map_bytes).max(passes_max);
            assert_eq!(beyond, self::beyond(&partition.log, until), "what is not cleaned stays as it is");
            partition.check(until);
        }
        // At last everything has ended, and nobody is remembered.
        while let Some(open) = partition.transactions.iter().position(|one| one.end.is_none()) {
            partition.end_transaction(open);
        }
        partition.producers.clear();
        for _ in 0..4 {
            let until = partition.end;
            partition.clean(until, 1 << 16);
            partition.check(until);
            partition.now_ms += RETENTION_MS;
        }
        check_all_gone(&partition);
        let before = partition.log.clone();
        partition.clean(partition.end, 1 << 16);
        assert_eq!(before, partition.log, "there is nothing left to clean");
    }
    assert!(passes_max > 5 && held > 50, "{passes_max} passes, {held} times held by a transaction");
}

fn beyond(log: &[Batch], offset: i64) -> Vec<Batch> {
    log.iter().filter(|batch| batch.base_offset() >= offset).cloned().collect()
}

/// Checks that nothing is left that nobody needs.
fn check_all_gone(partition: &Partition) {
    assert!(partition.aborted.is_empty(), "{:?}", partition.aborted);
    for batch in &partition.log {
        let is_last = batch.next_offset() == partition.end;
        assert!(is_last || batch.record_count() > 0, "an empty batch");
        assert!(batch.is_control() || records(batch).iter().all(|record| record.value.is_some()));
        if batch.is_control() && !is_last {
            let ended = (batch.base_offset(), true);
            let mut transactions = partition.transactions.iter();
            let transaction = transactions.find(|one| one.end == Some(ended)).unwrap();
            let is_data = |other: &Batch| {
                other.producer_id() == transaction.producer_id
                    && (transaction.first_offset..ended.0).contains(&other.base_offset())
            };
            assert!(partition.log.iter().any(is_data), "a marker of nothing");
        }
    }
}

/// A batch of a producer with these keys and values, stored at an offset.
fn data(
    base_offset: i64,
    producer_id: i64,
    more_attributes: i16,
    pairs: &[(Option<&str>, Option<&str>)],
) -> Batch {
    let mut builder = BatchBuilder::new(Codec::None);
    if producer_id > 0 {
        builder = builder.producer(producer_id, 0, 7);
    }
    for (key, value) in pairs {
        builder.push(NewRecord {
            timestamp: 500,
            key: key.map(str::as_bytes),
            value: value.map(str::as_bytes),
            headers: &[],
        });
    }
    settled(&builder.build().unwrap(), base_offset, more_attributes, None)
}

fn marker_at(base_offset: i64, producer_id: i64, commit: bool) -> Batch {
    settled(&marker(producer_id, 0, commit, 0, 500), base_offset, 0, None)
}

/// A pass over a whole log.
fn begin(log: &[Batch], until: i64, now_ms: i64, aborted: &[AbortedTransaction]) -> Cleaning {
    let settings = IndexSettings { map_bytes: 1 << 10, decompressed_bytes_max: BYTES_MAX };
    let mut indexing = Indexing::new(0..until, &settings);
    indexing.add_aborted(aborted.iter().copied());
    for batch in log {
        if !indexing.batch(batch).unwrap() {
            break;
        }
    }
    let mut cleaning = indexing.cleaning(now_ms, RETENTION_MS);
    cleaning.add_aborted(aborted.iter().copied());
    cleaning
}

fn kept(cleaning: &mut Cleaning, batch: &Batch) -> Kept {
    cleaning.batch(batch, None).unwrap().kept
}

/// What stays of a batch that is written anew.
fn rewritten(kept: Kept) -> Batch {
    match kept {
        Kept::Rewritten(bytes) => whole(bytes),
        other => panic!("{other:?}"),
    }
}

fn offsets(batch: &Batch) -> Vec<i64> {
    records(batch).iter().map(|record| record.offset).collect()
}

#[test]
fn a_tombstone_goes_when_its_time_has_passed() {
    let first = data(0, -1, 0, &[(Some("a"), Some("1")), (Some("b"), Some("1"))]);
    let second = data(2, -1, 0, &[(Some("a"), None), (Some("c"), Some("1")), (None, Some("no key"))]);
    let last = data(5, -1, 0, &[(Some("d"), Some("1"))]);
    let log = [first.clone(), second.clone(), last.clone()];
    let mut cleaning = begin(&log, 6, 1_000, &[]);
    assert_eq!(offsets(&rewritten(kept(&mut cleaning, &first))), [1]);
    let second = rewritten(kept(&mut cleaning, &second));
    assert_eq!((offsets(&second), second.delete_horizon_ms()), (vec![2, 3], Some(1_000 + RETENTION_MS)));
    assert!(records(&second).iter().all(|record| record.timestamp == 500));
    assert_eq!(kept(&mut cleaning, &last), Kept::Same);
    let log = [second.clone(), last];
    assert_eq!(kept(&mut begin(&log, 6, 2_999, &[]), &second), Kept::Same);
    let third = rewritten(kept(&mut begin(&log, 6, 3_000, &[]), &second));
    assert_eq!((offsets(&third), third.delete_horizon_ms()), (vec![3], Some(3_000)));
}

#[test]
fn the_last_batch_of_a_producer_stays_until_it_is_forgotten() {
    let first = data(0, 9, 0, &[(Some("a"), Some("1"))]);
    let last = data(1, -1, 0, &[(Some("a"), Some("2"))]);
    let log = [first.clone(), last];
    let producer = |offset| Some(LastRecord { last_data_offset: Some(offset), producer_epoch: 0 });
    let cleaned = begin(&log, 2, 0, &[]).batch(&first, producer(0)).unwrap();
    let empty = rewritten(cleaned.kept);
    assert_eq!((empty.record_count(), empty.producer_id(), empty.base_sequence()), (0, 9, 7));
    assert_eq!(begin(&log, 2, 0, &[]).batch(&empty, producer(0)).unwrap().kept, Kept::Same);
    assert_eq!(begin(&log, 2, 0, &[]).batch(&empty, producer(5)).unwrap().kept, Kept::Gone);
    assert_eq!(begin(&log, 2, 0, &[]).batch(&first, None).unwrap().kept, Kept::Gone);
}

#[test]
fn a_marker_stays_while_its_transaction_has_data_and_for_a_time_after_that() {
    for commit in [true, false] {
        let first = data(0, 9, TRANSACTIONAL, &[(Some("a"), Some("1"))]);
        let end = marker_at(1, 9, commit);
        let last = data(2, -1, 0, &[(Some("a"), Some("2"))]);
        let log = [first.clone(), end.clone(), last.clone()];
        let transaction = AbortedTransaction { first_offset: 0, last_offset: 1, producer_id: 9 };
        let aborted = if commit { vec![] } else { vec![transaction] };
        let mut cleaning = begin(&log, 3, 1_000, &aborted);
        assert_eq!(kept(&mut cleaning, &first), Kept::Gone);
        let same = Cleaned { kept: Kept::Same, ended: None };
        assert_eq!(cleaning.batch(&end, None).unwrap(), same, "readers may still have its data");
        let log = [end.clone(), last];
        let cleaned = begin(&log, 3, 1_000, &aborted).batch(&end, None).unwrap();
        assert_eq!(cleaned.ended, aborted.first().copied());
        let dated = rewritten(cleaned.kept);
        assert_eq!(dated.delete_horizon_ms(), Some(1_000 + RETENTION_MS));
        assert_eq!(read_marker(&dated), read_marker(&end));
        assert_eq!(records(&dated)[0].timestamp, 500);
        let clean = |now_ms, producer| begin(&log, 3, now_ms, &[]).batch(&dated, producer).unwrap().kept;
        assert_eq!(clean(2_999, None), Kept::Same);
        assert_eq!(clean(3_000, None), Kept::Gone);
        // A producer of which nothing else is known: its epoch is needed, its marker is not.
        let producer = |producer_epoch| Some(LastRecord { last_data_offset: None, producer_epoch });
        let empty = rewritten(clean(3_000, producer(0)));
        assert_eq!((empty.record_count(), read_marker(&empty)), (0, None));
        assert_eq!(clean(3_000, producer(1)), Kept::Gone);
        assert_eq!(begin(&log, 3, 3_000, &[]).batch(&empty, producer(0)).unwrap().kept, Kept::Same);
        assert_eq!(begin(&log, 3, 3_000, &[]).batch(&empty, None).unwrap().kept, Kept::Gone);
    }
}

#[test]
fn an_aborted_record_replaces_nothing_and_goes_at_once() {
    let first = data(0, -1, 0, &[(Some("a"), Some("1"))]);
    let second = data(1, 9, TRANSACTIONAL, &[(Some("a"), Some("2"))]);
    let log = [first.clone(), second.clone(), marker_at(2, 9, false)];
    let transaction = AbortedTransaction { first_offset: 1, last_offset: 2, producer_id: 9 };
    let mut cleaning = begin(&log, 3, 1_000, &[transaction]);
    assert_eq!(kept(&mut cleaning, &first), Kept::Same);
    assert_eq!(kept(&mut cleaning, &second), Kept::Gone);
}

/// An engine may give more transactions than those that overlap.
#[test]
fn an_aborted_transaction_whose_marker_is_gone_does_not_hide_a_later_one() {
    let first = data(5, 9, TRANSACTIONAL, &[(Some("a"), Some("1"))]);
    let log = [first.clone(), marker_at(6, 9, true)];
    let passed = AbortedTransaction { first_offset: 1, last_offset: 3, producer_id: 9 };
    let mut cleaning = begin(&log, 7, 1_000, &[passed, passed]);
    assert_eq!(kept(&mut cleaning, &first), Kept::Same);
    assert_eq!(kept(&mut cleaning, &log[1]), Kept::Same);
}

#[test]
fn what_is_not_stable_is_not_touched() {
    let first = data(0, -1, 0, &[(Some("a"), Some("1")), (Some("b"), Some("1"))]);
    let open = data(2, 9, TRANSACTIONAL, &[(Some("a"), Some("2"))]);
    let later = data(3, -1, 0, &[(Some("b"), None), (None, None)]);
    let log = [first.clone(), open.clone(), later.clone()];
    let mut cleaning = begin(&log, 2, 1_000, &[]);
    assert_eq!(cleaning.clean_end(), 2);
    for batch in &log {
        assert_eq!(kept(&mut cleaning, batch), Kept::Same);
    }
    // An end within a batch is one before it.
    let mut cleaning = begin(&log, 4, 1_000, &[]);
    assert_eq!(cleaning.clean_end(), 3);
    assert_eq!(offsets(&rewritten(kept(&mut cleaning, &first))), [1]);
    assert_eq!(kept(&mut cleaning, &open), Kept::Same);
    assert_eq!(kept(&mut cleaning, &later), Kept::Same);
}

#[test]
fn memory_for_one_key_is_enough() {
    for keys in [1, 2, 7] {
        let names: Vec<String> = (0..40).map(|index| format!("{}", index % keys)).collect();
        let pairs: Vec<_> = names.iter().map(|name| (Some(&name[..]), Some("value"))).collect();
        let mut batch = data(0, -1, 0, &pairs);
        let last = data(40, -1, 0, &[(Some("last"), Some("value"))]);
        let (mut clean_end, mut passes) = (0, 0);
        while clean_end < 41 {
            let settings = IndexSettings { map_bytes: 0, decompressed_bytes_max: BYTES_MAX };
            let mut indexing = Indexing::new(clean_end..41, &settings);
            let wants_more = indexing.batch(&batch).unwrap();
            if wants_more {
                assert!(!indexing.batch(&last).unwrap());
            }
            let mut cleaning = indexing.cleaning(1_000, RETENTION_MS);
            assert!(cleaning.clean_end() > clean_end);
            clean_end = cleaning.clean_end();
            if let Kept::Rewritten(bytes) = kept(&mut cleaning, &batch) {
                batch = whole(bytes);
            }
            passes += 1;
        }
        let expected: Vec<_> = (40 - keys..40).collect();
        assert_eq!(offsets(&batch), expected);
        assert!(passes > keys as usize / 2, "{passes}");
    }
}

#[test]
fn a_batch_that_cannot_be_read_ends_the_pass() {
    let good = data(0, -1, 0, &[(Some("a"), Some("1"))]);
    let fails = |broken: &Batch, expected: &str| {
        let settings = IndexSettings { map_bytes: 1 << 10, decompressed_bytes_max: BYTES_MAX };
        let indexed = Indexing::new(0..1, &settings).batch(broken).unwrap_err();
        let cleaned = begin(std::slice::from_ref(&good), 1, 0, &[]).batch(broken, None).unwrap_err();
        assert_eq!([indexed, cleaned].map(|bad| bad.to_string()), [expected; 2]);
    };
    let mut bytes = good.bytes().to_vec();
    bytes[60] = 2;
    let damaged = Batch::split_first(&mut bytes.clone().into()).unwrap();
    fails(&damaged, "the record batch is corrupt: its CRC does not fit");
    // A change of what the CRC covers works it out anew.
    let header = StoredHeader { base_offset: 0, leader_epoch: 4, attributes: 0, max_timestamp: 501 };
    settle(&mut bytes, &header);
    fails(&whole(bytes.into()), "the record batch is corrupt: record 1 of 2 passes the end");
}
