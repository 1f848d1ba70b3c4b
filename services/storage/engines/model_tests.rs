//! Tests every engine against the memory engine: the same commands give the same outcomes and reads.

use std::collections::BTreeMap;
use std::future::ready;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use kernel::records::{Batch, BatchBuilder, Codec, NO_TIMESTAMP, NewRecord};
use kernel::records_later::RecordsLater;
use kernel::{NodeId, ProducerId, TopicId, TopicPartition};
use rules::commands::{
    Append, AwaitCleaning, Command, ConfigOperation, DueCommand, NewConfigs, NodeCommand, RenewNode, Retain,
};
use rules::configs::group::GroupDefaults;
use rules::documents::{
    AnyKind, DocumentKind, DueSubject, KINDS, NodeFacts, OffsetDocument, OffsetKey, PartitionDocument,
    Prefix, ProducerDocument, ProducerKey, deleted_with_log,
};
use uuid::Uuid;

use crate::settings::Settings;
use kernel::units::{ByteSize, Span};

use super::memory::Memory;
use super::model_cleaning::clean;
use super::model_groups::GROUPS;
use super::model_transactions::same_committed;
use super::postgres::{self, Postgres};
use super::sqlite::{self, Sqlite};
use super::{
    Engine, Isolation, Pending, ReadFrom, ReadLimits, ReadOutcome, ReadSpec, Rest, RetentionLimits,
    RetentionLook, StoreError,
};

/// Topic names; one of them is invalid.
pub(super) const TOPICS: [&str; 6] = ["a", "b", "a.b", "a_b", "bad name", "c"];

/// A small seeded random number generator (xorshift64*).
pub(super) struct Dice {
    state: u64,
    /// What batches are compressed with.
    codecs: &'static [Codec],
}

impl Dice {
    /// Those that commands for an engine are made with.
    pub(super) fn of(tested: &Tested, seed: u64) -> Self {
        Self { codecs: tested.codecs, ..Self::seeded(seed) }
    }

    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        (self.state.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }

    pub(super) fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.roll(from.len() as u64) as usize].clone()
    }

    pub(super) fn topic(&mut self) -> Arc<str> {
        Arc::from(self.pick(&TOPICS))
    }

    pub(super) fn seeded(seed: u64) -> Self {
        let state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        Self { state, codecs: &[Codec::None, Codec::Lz4] }
    }

    pub(super) fn partition(&mut self, ids: &[TopicId]) -> TopicPartition {
        TopicPartition { topic: self.pick(ids), partition: self.roll(4) as i32 }
    }

    fn batch(&mut self) -> Batch {
        let producer = self.pick(&[-1, -1, 1, 2]);
        let (epoch, sequence) =
            if producer < 0 { (-1, -1) } else { (self.roll(2) as i16, self.roll(6) as i32) };
        let mut builder = BatchBuilder::new(self.pick(self.codecs)).producer(producer, epoch, sequence);
        let value = vec![b'x'; self.pick(&[1, 100, 5_000, 40_000])];
        for _ in 0..=self.roll(3) {
            let timestamp = if self.roll(6) == 0 { NO_TIMESTAMP } else { self.roll(1_000) as i64 };
            builder.push(NewRecord { timestamp, value: Some(&value), ..NewRecord::default() });
        }
        Batch::check(builder.build().unwrap()).unwrap()
    }

    pub(super) fn command(&mut self, ids: &mut Vec<TopicId>, step: usize) -> Command {
        if self.roll(3) == 0 {
            return self.group_command(ids, step);
        }
        match self.roll(22) {
            0 | 1 => Command::CreateTopic {
                name: self.topic(),
                id: fresh(ids),
                partitions: self.roll(4) as i32,
                configs: self.configs(),
            },
            2 => Command::DeleteTopic { id: self.pick(ids) },
            3 => Command::CreatePartitions { name: self.topic(), count: self.roll(5) as i32 },
            4 if self.roll(4) == 0 => {
                let interval = self.pick(&["100", "1", "5000"]).to_owned();
                let operation = self.pick(&[ConfigOperation::Set(interval), ConfigOperation::Delete]);
                let configs = NewConfigs::Incremental(vec![("interval.ms".to_owned(), operation)]);
                Command::AlterClientMetrics { name: self.topic(), configs }
            }
            4 => Command::AlterConfigs { name: self.topic(), configs: self.alteration() },
            5 if self.roll(3) == 0 => {
                let timeout = self.pick(&["50000", "1", "soon"]).to_owned();
                let operation = self.pick(&[ConfigOperation::Set(timeout), ConfigOperation::Delete]);
                let operations = vec![("consumer.session.timeout.ms".to_owned(), operation)];
                Command::AlterGroupConfigs {
                    group: self.topic(),
                    configs: NewConfigs::Incremental(operations),
                    defaults: GroupDefaults { session_ms: 45_000, heartbeat_ms: 5_000 },
                }
            }
            5 if self.roll(3) == 0 => Command::RecordEpoch { epoch: (step / 25) as i32 },
            5 => Command::AllocateProducerId { seed: self.roll(3) as u32 },
            6 | 7 => {
                Command::AdvanceLogStart { partition: self.partition(ids), offset: self.roll(40) as i64 - 2 }
            }
            8 => Command::ExpireProducer {
                producer: self.producer(ids),
                taken_ms: self.due_time(),
                now_ms: ProducerDocument::EXPIRY_MS + self.roll(2_000) as i64,
            },
            9 => Command::Check(Box::new(Command::CreateTopic {
                name: self.topic(),
                id: fresh(ids),
                partitions: 1,
                configs: self.configs(),
            })),
            10 if self.roll(3) == 0 => Command::AwaitCleaning(AwaitCleaning {
                partition: self.partition(ids),
                taken_ms: self.due_time(),
                end: self.roll(10) as i64,
                next_ms: self.due_time(),
            }),
            10 if self.roll(4) == 0 => Command::ForgetAborted { partition: self.partition(ids) },
            10 => Command::Retain(self.retain(ids)),
            11 if self.roll(3) == 0 => Command::Node(self.node_command(step)),
            11 => Command::Due(self.due_command(ids)),
            _ => {
                let batch = self.batch();
                let append = Append::new(self.partition(ids), &batch, step as i64);
                let facts = append.batch;
                let batch = match self.roll(4) {
                    0 => facts.with_append_time(),
                    _ => facts.with_create_time(batch.walk(1 << 20, |_| {}).unwrap()),
                };
                let leader_epoch = (step / 25) as i32;
                Command::Append(Append { batch, leader_epoch, origin: self.origin(), ..append })
            }
        }
    }

    /// Where a producer id comes from: mostly from the store itself.
    fn origin(&mut self) -> Option<Arc<str>> {
        (self.roll(4) == 0).then(|| Arc::from("other"))
    }

    fn producer(&mut self, ids: &[TopicId]) -> ProducerKey {
        let producer = ProducerId(self.roll(3) as i64);
        ProducerKey { partition: self.partition(ids), producer, origin: self.origin() }
    }

    /// A time of the due index, such as entries have.
    fn due_time(&mut self) -> Option<i64> {
        self.pick(&[None, Some(0), Some(5_000), Some(ProducerDocument::EXPIRY_MS + 3_600_000)])
    }

    fn retain(&mut self, ids: &[TopicId]) -> Retain {
        let log_start = (self.roll(2) == 0).then(|| self.roll(40) as i64);
        Retain {
            partition: self.partition(ids),
            taken_ms: self.due_time(),
            end: self.roll(40) as i64,
            log_start,
            next_ms: self.due_time(),
            after_append: self.roll(2) == 0,
        }
    }

    /// A few brokers, of which one has an id of its own.
    fn node_command(&mut self, step: usize) -> NodeCommand {
        let (number, now_ms) = (self.roll(4), step as i64);
        let incarnation = Uuid::from_u128(u128::from(number));
        let session = Some(Arc::from(number.to_string()));
        let (addresses, release) = (BTreeMap::new(), Arc::from("1"));
        let cluster_id = (self.roll(16) == 0).then(|| Arc::from("another"));
        let (rack, level) = (None, 1 + u32::from(self.roll(2) == 0));
        let facts = NodeFacts { incarnation, cluster_id, addresses, rack, release, level, session };
        match self.roll(8) {
            0 => NodeCommand::Leave { incarnation },
            1 => NodeCommand::Drain { node: NodeId(number as i32), is_drained: self.roll(2) == 0, now_ms },
            2 => NodeCommand::Finalize { level, now_ms },
            _ => {
                let node = (number == 3).then_some(NodeId(2));
                let had = Some(NodeId(number as i32));
                let ended = (0..self.roll(2)).map(|_| Arc::from(self.roll(4).to_string())).collect();
                NodeCommand::Renew(Box::new(RenewNode { node, had, facts, ended, lease_ms: 10, now_ms }))
            }
        }
    }

    fn due_command(&mut self, ids: &[TopicId]) -> DueCommand {
        let subject = match self.roll(6) {
            5 => DueSubject::Cleaning(self.partition(ids)),
            0 => DueSubject::Partition(self.partition(ids)),
            1 => DueSubject::Topic(self.topic()),
            2 => DueSubject::Producer(self.producer(ids)),
            3 => DueSubject::Offsets(Arc::from(self.pick(&GROUPS))),
            _ => DueSubject::DeletedTopic(self.pick(ids)),
        };
        let from_ms = (0..self.roll(3)).filter_map(|_| self.due_time()).collect();
        DueCommand::Move { subject, from_ms, to_ms: self.due_time() }
    }

    /// Limits such as topics have.
    fn limits(&mut self) -> RetentionLimits {
        RetentionLimits {
            retention_ms: self.pick(&[None, Some(0), Some(500), Some(i64::MAX)]),
            retention_bytes: self.pick(&[None, None, Some(0), Some(30_000)]),
        }
    }

    /// A batch near the time of the step, or far in the future; seldom a trim.
    fn long_command(&mut self, id: TopicId, step: i64) -> Command {
        let partition = TopicPartition { topic: id, partition: self.roll(2) as i32 };
        if self.roll(60) == 0 {
            return Command::AdvanceLogStart { partition, offset: self.roll(200) as i64 };
        }
        let timestamp = match self.roll(50) {
            0 => i64::MAX - 5,
            1 => 1_900,
            2..5 => NO_TIMESTAMP,
            _ => step * 10 + self.roll(40) as i64,
        };
        let value = vec![b'x'; self.pick(&[1, 10, 300, 9_000])];
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(NewRecord { timestamp, value: Some(&value), ..NewRecord::default() });
        let batch = Batch::check(builder.build().unwrap()).unwrap();
        Command::Append(Append::new(partition, &batch, step))
    }

    fn configs(&mut self) -> BTreeMap<String, String> {
        let all = [
            ("retention.ms", "500"),
            ("retention.bytes", "60000"),
            ("retention.ms", "-1"),
            ("nonsense", "1"),
        ];
        let count = self.roll(3);
        (0..count).map(|_| self.pick(&all)).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
    }

    fn alteration(&mut self) -> NewConfigs {
        match self.roll(2) {
            0 => NewConfigs::Replace(self.configs()),
            _ => {
                let operation = self.pick(&[
                    ConfigOperation::Set("700".to_owned()),
                    ConfigOperation::Delete,
                    ConfigOperation::Append("x".to_owned()),
                ]);
                NewConfigs::Incremental(vec![("retention.ms".to_owned(), operation)])
            }
        }
    }

    fn read(&mut self, ids: &[TopicId]) -> ReadSpec {
        let from = match self.roll(4) {
            0 => ReadFrom::Timestamp(self.roll(1_100) as i64),
            1 => ReadFrom::MaxTimestamp,
            _ => ReadFrom::Offset(self.roll(60) as i64 - 1),
        };
        let isolation = self.isolation();
        let bytes_max = self.pick(&[0, 1, 50_000, 1 << 20]);
        ReadSpec { partition: self.partition(ids), from, bytes_max, isolation }
    }

    fn isolation(&mut self) -> Isolation {
        self.pick(&[Isolation::ReadUncommitted, Isolation::ReadCommitted])
    }
}

pub(super) fn first_ids() -> Vec<TopicId> {
    (1..=4).map(|n| TopicId(Uuid::from_u128(n))).collect()
}

/// A new topic id; the last few are kept for later commands.
fn fresh(ids: &mut Vec<TopicId>) -> TopicId {
    let id = TopicId(Uuid::from_u128(ids.last().map_or(0, |last| last.0.as_u128()) + 1));
    ids.push(id);
    if ids.len() > 8 {
        ids.remove(0);
    }
    id
}

/// All records of a read: those that were read, and those that are read later, in pieces.
pub(super) async fn records_of(outcome: ReadOutcome, piece: usize) -> Vec<u8> {
    let ReadOutcome::Read { batches, rest, .. } = outcome else { return Vec::new() };
    let mut all = batches.concat();
    let Some(Rest { records: RecordsLater { bytes, mut source }, .. }) = rest else { return all };
    let end = all.len() + usize::try_from(bytes).unwrap();
    while all.len() < end {
        let (read, next) = source.read(piece.min(end - all.len())).await.unwrap();
        all.extend(read.concat());
        source = next;
    }
    all
}

pub(super) async fn same_everything(
    model: &Memory,
    engine: &dyn Engine,
    dice: &mut Dice,
    ids: &[TopicId],
    context: &str,
) {
    let specs: Vec<ReadSpec> = (0..6).map(|_| dice.read(ids)).collect();
    let (bytes_max, now_max) = (dice.pick(&[1, 60_000, 1 << 20]), dice.pick(&[0, 200, 5_000, usize::MAX]));
    let limits = ReadLimits { bytes_max, now_max };
    let expected = model.read(specs.clone(), limits).await.unwrap();
    let got = engine.read(specs.clone(), limits).await.unwrap();
    for ((spec, expected), got) in specs.iter().zip(expected).zip(got) {
        assert_eq!(got, expected, "{context}: {spec:?} within {limits:?}");
        let piece = dice.pick(&[1, 700, 1 << 20]);
        let (expected, got) = (records_of(expected, 1 << 20).await, records_of(got, piece).await);
        assert_eq!(got, expected, "{context}: {spec:?} within {limits:?} in pieces of {piece}");
    }
    let partitions: Vec<TopicPartition> =
        ids.iter().flat_map(|id| (0..4).map(|partition| TopicPartition { topic: *id, partition })).collect();
    let sizes = model.sizes(partitions.clone()).await;
    assert_eq!(engine.sizes(partitions.clone()).await, sizes, "{context}");
    same_committed(model, engine, dice, ids, context).await;
    let keys: Vec<_> = partitions.iter().map(PartitionDocument::key).collect();
    assert_eq!(engine.get(keys.clone()).await, model.get(keys).await, "{context}");
    let mut prefixes: Vec<Prefix> = KINDS.iter().map(AnyKind::key_prefix).collect();
    prefixes.extend(partitions.iter().flat_map(|at| deleted_with_log(*at)));
    for prefix in prefixes {
        same_scans(model, engine, &prefix, dice.pick(&[1, 3, 1_000]), context).await;
    }
    for group in GROUPS.map(Arc::<str>::from) {
        let key =
            |topic: &str, partition| OffsetKey { group: group.clone(), topic: Arc::from(topic), partition };
        let keys = TOPICS.iter().flat_map(|topic| [key(topic, 0), key(topic, 1)]);
        let keys: Vec<_> = keys.map(|key| OffsetDocument::key(&key)).collect();
        assert_eq!(engine.get(keys.clone()).await, model.get(keys).await, "{context}: {group}");
    }
}

/// Compares all documents of a prefix, page by page.
async fn same_scans(model: &Memory, engine: &dyn Engine, prefix: &Prefix, limit: usize, context: &str) {
    let mut after = None;
    loop {
        let expected = model.scan(prefix.clone(), after.clone(), limit).await.unwrap();
        let got = engine.scan(prefix.clone(), after, limit).await.unwrap();
        assert_eq!(got, expected, "{context}: {prefix:?} by {limit}");
        assert!(expected.is_sorted_by(|(one, _), (other, _)| one < other), "{context}: {prefix:?}");
        match expected.into_iter().nth(limit - 1) {
            Some((last, _)) => after = Some(last),
            None => return,
        }
    }
}

/// An engine that must do what the memory engine does.
pub(super) struct Tested {
    pub(super) name: &'static str,
    /// How many random runs it gets, unless YAGURA_MODEL_SEEDS says so.
    pub(super) seeds: u64,
    /// What batches are compressed with.
    codecs: &'static [Codec],
    /// Where a new store is to be, given an empty folder; `None` if the engine cannot be tested here.
    pub(super) place: fn(&Path) -> Option<String>,
    /// Opens a store, or opens it again.
    pub(super) open: fn(&str) -> Pending<Arc<dyn Engine>>,
    /// Checks a closed store.
    pub(super) verify: fn(&str) -> Pending<Vec<String>>,
}

/// Settings under which a test of some hundred commands meets every bound.
pub(super) fn small_settings() -> Settings {
    Settings {
        commit_bytes_max: ByteSize(64 << 10),
        cache_memory: ByteSize(8 << 10),
        delete_delay: Span(Duration::ZERO),
        // Thousands of stores are opened.
        disk_reserve: ByteSize(0),
        ..Settings::at("")
    }
}

/// Every engine but memory.
pub(super) const TESTED: [Tested; 3] = [SQLITE, POSTGRES, POSTGRES_ROWS];

/// Compressed batches do not come back as they were sent, and so not of their size.
const POSTGRES_ROWS: Tested = Tested {
    name: "postgres rows",
    codecs: &[Codec::None],
    place: |_| postgres::testing::new_store(),
    ..POSTGRES
};

const SQLITE: Tested = Tested {
    name: "sqlite",
    seeds: 30,
    codecs: &[Codec::None, Codec::Lz4],
    place: |folder| folder.join("y.db").to_str().map(str::to_owned),
    open: |file| {
        let opened = Sqlite::open(Path::new(file), &small_settings());
        Box::pin(ready(opened.map(|engine| Arc::new(engine) as Arc<dyn Engine>)))
    },
    verify: |file| {
        Box::pin(ready(
            sqlite::verify(Path::new(file), &mut |_, _| {}).map(|report| report.faults).map_err(StoreError),
        ))
    },
};

const POSTGRES: Tested = Tested {
    name: "postgres",
    // Each step is some round trips.
    seeds: 4,
    codecs: &[Codec::None, Codec::Lz4],
    place: |_| Some(format!("{}&layout=batches", postgres::testing::new_store()?)),
    open: |place| {
        let place = place.to_owned();
        Box::pin(async move {
            let engine = Postgres::open(&place, &small_settings()).await?;
            Ok(Arc::new(engine) as Arc<dyn Engine>)
        })
    },
    verify: |place| {
        let place = place.to_owned();
        Box::pin(async move { Ok(postgres::verify(&place, &mut |_, _| {}).await?.faults) })
    },
};

async fn run(tested: &Tested, seed: u64, place: &str) {
    let mut dice = Dice::of(tested, seed);
    let mut ids = first_ids();
    let model = Memory::new();
    let mut engine = (tested.open)(place).await.unwrap();
    for step in 0..120 {
        let context = format!("{}, seed {seed}, step {step}", tested.name);
        let mut commands = Vec::new();
        for _ in 0..=dice.roll(4) {
            commands.push(if dice.roll(3) == 0 {
                dice.transaction_command(&model, &ids, step).await
            } else {
                dice.command(&mut ids, step)
            });
        }
        let expected = model.commit(commands.clone(), Vec::new()).await.unwrap();
        let got = engine.commit(commands.clone(), Vec::new()).await.unwrap();
        assert_eq!(got, expected, "{context}: {commands:?}");
        if dice.roll(6) == 0 {
            let partition = dice.partition(&ids);
            clean(&model, &*engine, &mut dice, partition, &context).await;
        }
        if dice.roll(6) == 0 {
            same_retention(&model, &*engine, &mut dice, &ids, step as i64, &context).await;
        }
        if dice.roll(15) == 0 {
            engine.maintain(dice.roll(2_000) as i64).await.unwrap();
        }
        if dice.roll(25) == 0 {
            engine.close().await.unwrap();
            drop(engine);
            engine = (tested.open)(place).await.unwrap();
        }
        same_everything(&model, &*engine, &mut dice, &ids, &context).await;
    }
    engine.close().await.unwrap();
    assert_eq!((tested.verify)(place).await.unwrap(), Vec::<String>::new(), "seed {seed}");
}

/// A few long logs, whose look-ups need all levels of an index, against the plain search of the model.
async fn run_long(tested: &Tested, seed: u64, place: &str) {
    let mut dice = Dice::seeded(seed);
    let model = Memory::new();
    let mut engine = (tested.open)(place).await.unwrap();
    let id = TopicId(Uuid::from_u128(9));
    let create =
        Command::CreateTopic { name: Arc::from("long"), id, partitions: 2, configs: BTreeMap::new() };
    both(&model, &*engine, vec![create]).await;
    for step in 0..80 {
        let context = format!("{}, long, seed {seed}, step {step}", tested.name);
        let commands = (0..=dice.roll(12)).map(|_| dice.long_command(id, step)).collect();
        both(&model, &*engine, commands).await;
        if dice.roll(4) == 0 {
            let partition = TopicPartition { topic: id, partition: dice.roll(2) as i32 };
            clean(&model, &*engine, &mut dice, partition, &context).await;
        }
        if dice.roll(4) == 0 {
            same_retention(&model, &*engine, &mut dice, &[id], step, &context).await;
        }
        if dice.roll(10) == 0 {
            engine.maintain(step).await.unwrap();
        }
        if dice.roll(20) == 0 {
            engine.close().await.unwrap();
            drop(engine);
            assert_eq!((tested.verify)(place).await.unwrap(), Vec::<String>::new(), "{context}");
            engine = (tested.open)(place).await.unwrap();
        }
        same_look_ups(&model, &*engine, &mut dice, id, &context).await;
    }
    engine.close().await.unwrap();
    assert_eq!((tested.verify)(place).await.unwrap(), Vec::<String>::new(), "seed {seed}");
}

/// Looks at what retention would do, and has it do so now and then.
async fn same_retention(
    model: &Memory,
    engine: &dyn Engine,
    dice: &mut Dice,
    ids: &[TopicId],
    step: i64,
    context: &str,
) {
    let asked: Vec<_> = (0..4).map(|_| (dice.partition(ids), dice.limits())).collect();
    let now_ms = step * 10 + dice.roll(1_500) as i64;
    let expected = model.retention(asked.clone(), now_ms).await.unwrap();
    let got = engine.retention(asked.clone(), now_ms).await.unwrap();
    assert_eq!(got, expected, "{context}: {asked:?} at {now_ms}");
    let (partition, limits) = asked[0];
    let Ok(Some(look)) = got[0] else { return };
    assert!(look.next_ms.is_none_or(|next_ms| next_ms > now_ms), "{context}: {look:?} at {now_ms}");
    if dice.roll(3) == 0 {
        let retain = Retain {
            partition,
            taken_ms: dice.due_time(),
            end: look.end,
            log_start: look.log_start,
            next_ms: look.next_ms,
            after_append: limits.retention_bytes.is_some(),
        };
        both(model, engine, vec![Command::Retain(retain)]).await;
        let again = engine.retention(vec![asked[0]], now_ms).await.unwrap();
        let at_rest = RetentionLook { log_start: None, ..look };
        assert_eq!(again, [Ok(Some(at_rest))], "{context}: nothing is left that is due at {now_ms}");
    }
}

async fn both(model: &Memory, engine: &dyn Engine, commands: Vec<Command>) {
    let expected = model.commit(commands.clone(), Vec::new()).await.unwrap();
    assert_eq!(engine.commit(commands, Vec::new()).await.unwrap(), expected);
}

async fn same_look_ups(model: &Memory, engine: &dyn Engine, dice: &mut Dice, id: TopicId, context: &str) {
    let mut spec = |partition| {
        let from = match dice.roll(4) {
            0 => ReadFrom::MaxTimestamp,
            1 => ReadFrom::Offset(dice.roll(1_500) as i64),
            _ => ReadFrom::Timestamp(dice.roll(2_000) as i64 - 100),
        };
        let isolation = dice.isolation();
        ReadSpec { partition: TopicPartition { topic: id, partition }, from, bytes_max: 4_000, isolation }
    };
    let specs: Vec<ReadSpec> = [0, 1, 0, 1, 0, 1].into_iter().map(&mut spec).collect();
    for spec in specs {
        let expected = model.read(vec![spec], ReadLimits::all_now(4_000)).await.unwrap();
        assert_eq!(
            engine.read(vec![spec], ReadLimits::all_now(4_000)).await.unwrap(),
            expected,
            "{context}: {spec:?}"
        );
    }
    let partitions: Vec<_> = [0, 1].map(|partition| TopicPartition { topic: id, partition }).into();
    let sizes = model.sizes(partitions.clone()).await;
    assert_eq!(engine.sizes(partitions).await, sizes, "{context}");
}

#[tokio::test]
async fn every_engine_does_what_memory_does() {
    let all = std::env::temp_dir().join(format!("yagura-model-{}", std::process::id()));
    // A run that failed may have left one of the same number.
    let _ = std::fs::remove_dir_all(&all);
    let seeds: Option<u64> = std::env::var("YAGURA_MODEL_SEEDS").ok().and_then(|text| text.parse().ok());
    for tested in &TESTED {
        for seed in 1..=seeds.unwrap_or(tested.seeds) {
            let folder = all.join(tested.name).join(seed.to_string());
            std::fs::create_dir_all(&folder).unwrap();
            let Some(place) = (tested.place)(&folder) else { break };
            run(tested, seed, &place).await;
            let folder = folder.join("long");
            std::fs::create_dir_all(&folder).unwrap();
            let Some(place) = (tested.place)(&folder) else { break };
            run_long(tested, seed, &place).await;
        }
    }
    std::fs::remove_dir_all(&all).unwrap();
}
