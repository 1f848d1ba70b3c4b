//! Compaction from a look at the due index to what consumers read, over each engine.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use kernel::clock::ManualClock;
use kernel::metrics::Page;
use kernel::records::{Batch, BatchBuilder, Codec, NewRecord};
use kernel::units::ByteSize;
use kernel::{Ticket, TopicPartition};
use rules::commands::{Append, Applied, Command, ConfigOperation, NewConfigs};
use rules::documents::{DocumentKind, Due, DueSubject, PartitionDocument};

use super::{Cleaner, clean_all};
use crate::apis::testing::{NOW_MS, broker_of, topic};
use crate::broker::Broker;
use crate::compaction::DirtySizes;
use crate::due::DueRuns;
use crate::engines::memory::Memory;
use crate::engines::sqlite::{Sqlite, verify};
use crate::engines::{Engine, ReadFrom, ReadLimits, ReadOutcome, ReadSpec};
use crate::settings::Settings;

const MINUTE_MS: i64 = 60_000;

/// A record: offset, key and value.
pub(super) type Found = (i64, String, Option<String>);

/// A broker over an engine, whose due index is looked at when the test says so.
pub(super) struct World {
    pub(super) broker: Arc<Broker>,
    pub(super) clock: Arc<ManualClock>,
    runs: DueRuns,
    folder: Option<PathBuf>,
}

impl World {
    fn all(name: &str) -> [World; 2] {
        Self::with(name, |_| {})
    }

    /// The same with other settings of the broker.
    pub(super) fn with(name: &str, change: impl Fn(&mut Settings)) -> [World; 2] {
        let folder = std::env::temp_dir().join(format!("yagura-cleaner-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let settings = Settings { disk_reserve: ByteSize(0), ..Settings::at("") };
        let sqlite = Sqlite::open(&folder.join("y.db"), &settings).unwrap();
        let mut settings = Settings::at("memory://");
        change(&mut settings);
        [
            World::over(settings.clone(), Arc::new(Memory::new()), None),
            World::over(settings, Arc::new(sqlite), Some(folder)),
        ]
    }

    fn over(settings: Settings, engine: Arc<impl Engine + 'static>, folder: Option<PathBuf>) -> World {
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let broker = broker_of(settings, engine, Arc::clone(&clock));
        World { broker, clock, runs: DueRuns::default(), folder }
    }

    /// Looks at what is due after a minute, and cleans what is to be cleaned.
    pub(super) async fn pass(&mut self) {
        for _ in 0..2 {
            self.clock.advance(MINUTE_MS);
            let (_, result) = self.runs.run(&self.broker).await;
            result.unwrap();
            clean_all(&self.broker).await;
        }
    }

    /// Appends a batch, and returns its base offset.
    pub(super) async fn append(&self, at: TopicPartition, records: &[(&str, Option<&str>)]) -> i64 {
        let now_ms = self.broker.clock.now_ms();
        let batch = Batch::check(keyed(BatchBuilder::new(Codec::Lz4), now_ms, records)).unwrap();
        let append = Command::Append(Append::new(at, &batch, now_ms));
        match self.broker.store.commit_one(&Ticket::only(), append).await.unwrap() {
            Ok(Applied::Appended { base_offset, .. }) => base_offset,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn batches(&self, at: TopicPartition) -> Vec<Batch> {
        let spec = ReadSpec::uncommitted(at, ReadFrom::Offset(0), 1 << 24);
        let read = self.broker.store.read(vec![spec], ReadLimits::all_now(1 << 24)).await.unwrap().remove(0);
        let ReadOutcome::Read { batches, .. } = read else { panic!("{read:?}") };
        batches.into_iter().map(|mut bytes| Batch::split_first(&mut bytes).unwrap()).collect()
    }

    async fn records(&self, at: TopicPartition) -> Vec<Found> {
        let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
        let mut all = Vec::new();
        for batch in self.batches(at).await {
            for record in batch.records(1 << 20).unwrap() {
                let record = record.unwrap();
                all.push((record.offset, text(record.key.unwrap()), record.value.map(text)));
            }
        }
        all
    }

    pub(super) async fn log(&self, at: TopicPartition) -> PartitionDocument {
        *self.broker.store.get_one::<PartitionDocument>(&at).await.unwrap().unwrap()
    }

    /// How often the partition is in the due index for compaction.
    async fn is_due(&self, at: TopicPartition) -> usize {
        let due = self.broker.store.scan::<Due>(Due::prefix()).await.unwrap();
        due.iter().filter(|(key, _)| key.subject == DueSubject::Cleaning(at)).count()
    }

    /// A metric of the cleaner.
    fn metric(&self, name: &str) -> f64 {
        let text = shown(&self.broker.cleaner);
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap().parse().unwrap()
    }

    async fn alter(&self, name: &str, value: &str) {
        let operation = ConfigOperation::Set(value.to_owned());
        let configs = NewConfigs::Incremental(vec![(name.to_owned(), operation)]);
        let alter = Command::AlterConfigs { name: Arc::from("t"), configs };
        self.broker.store.commit_one(&Ticket::only(), alter).await.unwrap().unwrap();
    }

    pub(super) async fn end(self) {
        self.broker.store.engine().await.unwrap().close().await.unwrap();
        let Some(folder) = self.folder else { return };
        let report = verify(&folder.join("y.db"), &mut |_, _| {}).unwrap();
        assert_eq!(report.faults, Vec::<String>::new());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

fn shown(cleaner: &Cleaner) -> String {
    let mut page = Page::default();
    cleaner.collect(&mut page);
    page.into_text()
}

/// A batch of these records.
pub(super) fn keyed(mut builder: BatchBuilder, timestamp: i64, records: &[(&str, Option<&str>)]) -> Bytes {
    for (key, value) in records {
        builder.push(NewRecord {
            timestamp,
            key: Some(key.as_bytes()),
            value: value.map(str::as_bytes),
            headers: &[],
        });
    }
    builder.build().unwrap()
}

fn found(offset: i64, key: &str, value: Option<&str>) -> Found {
    (offset, key.to_owned(), value.map(str::to_owned))
}

#[tokio::test]
async fn the_newest_of_each_key_stays_at_its_offset() {
    for mut world in World::all("newest") {
        let configs = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0")];
        let at = topic(&world.broker, "t", 1, &configs).await.partition(0).unwrap();
        for round in 0..50 {
            let value = format!("v{round}");
            world.append(at, &[("a", Some(value.as_str())), ("b", Some(value.as_str()))]).await;
        }
        world.append(at, &[("c", Some("x"))]).await;
        world.pass().await;
        let expected = [found(98, "a", Some("v49")), found(99, "b", Some("v49")), found(100, "c", Some("x"))];
        assert_eq!(world.records(at).await, expected);
        let log = world.log(at).await;
        assert_eq!((log.log_start, log.end, log.cleaning.unwrap().clean_end), (0, 101, 101));
        let batches = world.batches(at).await;
        let spans: Vec<_> = batches.iter().map(|batch| (batch.base_offset(), batch.next_offset())).collect();
        assert_eq!(spans, [(0, 98), (98, 100), (100, 101)], "what is gone is one batch without records");
        assert!(shown(&world.broker.cleaner).contains("yagura_cleaner_removed_records_total 98\n"));
        // At rest it is in no index; an append has it looked at once.
        world.pass().await;
        assert_eq!(world.is_due(at).await, 0);
        world.append(at, &[("a", Some("new"))]).await;
        world.append(at, &[("a", Some("newer"))]).await;
        assert_eq!(world.is_due(at).await, 1);
        world.pass().await;
        let expected =
            [found(99, "b", Some("v49")), found(100, "c", Some("x")), found(102, "a", Some("newer"))];
        assert_eq!(world.records(at).await, expected);
        world.end().await;
    }
}

#[tokio::test]
async fn tombstones_go_once_their_time_has_passed() {
    for mut world in World::all("tombstones") {
        let configs = [
            ("cleanup.policy", "compact"),
            ("min.cleanable.dirty.ratio", "0"),
            ("delete.retention.ms", "600000"),
        ];
        let at = topic(&world.broker, "t", 1, &configs).await.partition(0).unwrap();
        world.append(at, &[("a", Some("1")), ("b", Some("1"))]).await;
        world.append(at, &[("a", None)]).await;
        world.pass().await;
        assert_eq!(world.records(at).await, [found(1, "b", Some("1")), found(2, "a", None)]);
        world.append(at, &[("c", Some("1"))]).await;
        world.pass().await;
        assert_eq!(world.records(at).await.len(), 3, "its time has not passed");
        world.clock.advance(15 * MINUTE_MS);
        world.append(at, &[("d", Some("1"))]).await;
        world.pass().await;
        let expected = [found(1, "b", Some("1")), found(3, "c", Some("1")), found(4, "d", Some("1"))];
        assert_eq!(world.records(at).await, expected);
        world.end().await;
    }
}

#[tokio::test]
async fn a_partition_waits_until_it_is_dirty_or_old_enough() {
    for mut world in World::all("waits") {
        let configs = [("cleanup.policy", "compact"), ("min.compaction.lag.ms", "1800000")];
        let at = topic(&world.broker, "t", 1, &configs).await.partition(0).unwrap();
        world.append(at, &[("a", Some("1"))]).await;
        world.append(at, &[("a", Some("2"))]).await;
        world.pass().await;
        assert_eq!((world.records(at).await.len(), world.is_due(at).await), (2, 1), "too young");
        world.clock.advance(40 * MINUTE_MS);
        world.pass().await;
        assert_eq!(world.records(at).await, [found(1, "a", Some("2"))]);
        world.alter("min.compaction.lag.ms", "0").await;
        world.alter("min.cleanable.dirty.ratio", "0.99").await;
        world.append(at, &[("a", Some("3"))]).await;
        world.pass().await;
        assert_eq!(world.records(at).await.len(), 2, "too little is dirty");
        assert!(world.metric("yagura_cleaner_dirty_ratio") > 0.0, "and shown");
        world.alter("max.compaction.lag.ms", "3600000").await;
        world.pass().await;
        assert_eq!(world.records(at).await.len(), 2, "not overdue yet");
        world.clock.advance(90 * MINUTE_MS);
        world.pass().await;
        assert_eq!(world.records(at).await, [found(2, "a", Some("3"))], "overdue");
        assert!(world.metric("yagura_cleaner_dirty_ratio") < f64::EPSILON, "and clean");
        world.end().await;
    }
}

#[tokio::test]
async fn a_change_of_the_policy_begins_and_ends_it() {
    for mut world in World::all("policy") {
        let at =
            topic(&world.broker, "t", 1, &[("min.cleanable.dirty.ratio", "0")]).await.partition(0).unwrap();
        world.append(at, &[("a", Some("1"))]).await;
        world.append(at, &[("a", Some("2"))]).await;
        world.pass().await;
        assert_eq!(world.records(at).await.len(), 2, "only retention applies");
        world.alter("cleanup.policy", "compact,delete").await;
        world.pass().await;
        assert_eq!(world.records(at).await, [found(1, "a", Some("2"))]);
        world.alter("cleanup.policy", "delete").await;
        world.append(at, &[("a", Some("3"))]).await;
        world.pass().await;
        assert_eq!(world.records(at).await.len(), 2, "it is not compacted any more");
        assert_eq!(world.is_due(at).await, 0);
        world.end().await;
    }
}

#[tokio::test]
async fn little_memory_makes_it_read_several_times() {
    for mut world in World::with("memory", |settings| settings.compaction_memory = ByteSize(240)) {
        let configs = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0")];
        let at = topic(&world.broker, "t", 1, &configs).await.partition(0).unwrap();
        for value in ["1", "2"] {
            for key in 0..100 {
                let key = format!("k{key}");
                world.append(at, &[(key.as_str(), Some(value))]).await;
            }
        }
        let before: usize = world.batches(at).await.iter().map(|batch| batch.bytes().len()).sum();
        world.pass().await;
        let records = world.records(at).await;
        assert_eq!(records.len(), 100);
        assert!(records.iter().all(|(offset, _, value)| *offset >= 100 && value.as_deref() == Some("2")));
        let read = world.broker.cleaner.stats.bytes_read.get();
        assert!(read > 5 * before as u64, "ten keys at a time: {read} of {before} bytes were read");
        world.end().await;
    }
}

#[tokio::test]
async fn what_is_gone_does_not_fail_any_more() {
    for mut world in World::all("failing") {
        let configs = [("cleanup.policy", "compact")];
        let kept = topic(&world.broker, "kept", 1, &configs).await.partition(0).unwrap();
        let gone = topic(&world.broker, "gone", 1, &configs).await.partition(0).unwrap();
        world.broker.cleaner.failed(kept);
        world.broker.cleaner.failed(gone);
        assert_eq!(world.metric("yagura_cleaner_uncleanable_partitions") as i64, 2);
        let delete = Command::DeleteTopic { id: gone.topic };
        world.broker.store.commit_one(&Ticket::only(), delete).await.unwrap().unwrap();
        world.pass().await;
        assert_eq!(world.metric("yagura_cleaner_uncleanable_partitions") as i64, 1);
        world.end().await;
    }
}

#[tokio::test]
async fn what_was_trimmed_is_not_cleaned() {
    for mut world in World::all("trim") {
        let configs = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0")];
        let at = topic(&world.broker, "t", 1, &configs).await.partition(0).unwrap();
        for value in 0..20 {
            let value = format!("{value}");
            world.append(at, &[("a", Some(value.as_str())), ("b", Some("x"))]).await;
        }
        let trim = Command::AdvanceLogStart { partition: at, offset: 7 };
        world.broker.store.commit_one(&Ticket::only(), trim).await.unwrap().unwrap();
        world.pass().await;
        let spec = ReadSpec::uncommitted(at, ReadFrom::Offset(7), 1 << 20);
        let read = world.broker.store.read(vec![spec], ReadLimits::all_now(1 << 20)).await.unwrap().remove(0);
        let ReadOutcome::Read { batches, log_start, .. } = read else { panic!("{read:?}") };
        let counts = |mut bytes: Bytes| Batch::split_first(&mut bytes).unwrap().record_count();
        assert_eq!((log_start, batches.into_iter().map(counts).collect::<Vec<_>>()), (7, vec![0, 2]));
        world.end().await;
    }
}

#[test]
fn what_is_dirty_is_shown_of_a_whole_run() {
    let sizes = |clean_bytes, dirty_bytes| DirtySizes { clean_bytes, dirty_bytes, oldest_dirty_ms: None };
    let assert_shows = |cleaner: &Cleaner, ratio: &str| {
        let text = shown(cleaner);
        assert!(
            text.contains(&format!("\nyagura_cleaner_dirty_ratio {ratio}\n")),
            "{ratio} is not in {text}"
        );
    };
    let cleaner = Cleaner::default();
    cleaner.found_dirty(&sizes(10, 30));
    cleaner.found_dirty(&sizes(90, 10));
    assert_shows(&cleaner, "0");
    cleaner.run_has_ended();
    assert_shows(&cleaner, "0.75");
    cleaner.run_has_ended();
    assert_shows(&cleaner, "0.75");
    cleaner.found_dirty(&sizes(40, 0));
    cleaner.run_has_ended();
    assert_shows(&cleaner, "0");
}
