//! What is due, over each engine and a clock of the test's.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, GroupId};
use kafka_protocol::protocol::StrBytes;
use kernel::clock::ManualClock;
use kernel::metrics::Page;
use kernel::ports::BoxFuture;
use kernel::records::{Batch, Codec};
use kernel::units::{ByteSize, Span};
use kernel::{Api, ProducerId, Ticket, TopicId, TopicPartition};
use parking_lot::Mutex;
use rules::commands::{
    Append, Applied, Command, CommittedOffset, ConfigOperation, DueCommand, GroupCommand, MemberIdentity,
    NewConfigs, Outcome,
};
use rules::documents::{
    AbortedTransaction, Document, DocumentKind, Due, DueComplete, DueKey, DueSubject, GroupDocument, Key,
    OffsetDocument, Prefix, ProducerKey, TopicDocument,
};
use tokio::sync::watch;
use uuid::Uuid;

use super::{AT_THE_END, DueRuns, Maintained, OF_PAGE, put};
use crate::apis::common::text::topic_name;
use crate::apis::testing::{NOW_MS, ask, batch, broker_over, idempotent_batch, topic};
use crate::apis::testing_transactions::Transactional;
use crate::broker::Broker;
use crate::cleaner::clean_all;
use crate::coordinator::timeouts::Timeouts;
use crate::engines::memory::Memory;
use crate::engines::sqlite::{Sqlite, verify};
use crate::engines::{
    DirtyLook, Engine, Gauges, Holds, Pending, ReadFrom, ReadLimits, ReadOutcome, ReadSpec, RetentionLimits,
    RetentionOutcome, StoreError, Subject, Watch, WhyFull,
};
use crate::settings::Settings;

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;

/// An engine whose calls are counted, and the documents that they return.
struct Spy {
    inner: Arc<dyn Engine>,
    calls: AtomicUsize,
    documents: Arc<AtomicUsize>,
    /// A partition that cannot be read.
    damaged: Mutex<Option<TopicPartition>>,
    /// What is committed while logs are looked at, after they were read.
    meanwhile: Mutex<Vec<Command>>,
    /// What is committed before the next step of compaction.
    before_clean: Mutex<Vec<Command>>,
}

impl Spy {
    fn called(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    /// The calls and documents since the last time.
    fn cost(&self) -> (usize, usize) {
        (self.calls.swap(0, Ordering::Relaxed), self.documents.swap(0, Ordering::Relaxed))
    }
}

impl Engine for Spy {
    fn commit(&self, commands: Vec<Command>, holds: Holds) -> Pending<Vec<Outcome>> {
        self.called();
        let cleans = commands.iter().any(|command| matches!(command, Command::Clean(_)));
        let before = if cleans { std::mem::take(&mut *self.before_clean.lock()) } else { Vec::new() };
        let inner = Arc::clone(&self.inner);
        Box::pin(async move {
            inner.commit(before, Vec::new()).await?;
            inner.commit(commands, holds).await
        })
    }

    fn read(&self, specs: Vec<ReadSpec>, limits: ReadLimits) -> Pending<Vec<ReadOutcome>> {
        self.called();
        self.inner.read(specs, limits)
    }

    fn get(&self, keys: Vec<Key>) -> Pending<Vec<Option<Document>>> {
        self.called();
        let (found, documents) = (self.inner.get(keys), Arc::clone(&self.documents));
        Box::pin(async move {
            let found = found.await?;
            documents.fetch_add(found.iter().flatten().count(), Ordering::Relaxed);
            Ok(found)
        })
    }

    fn scan(&self, prefix: Prefix, after: Option<Key>, limit: usize) -> Pending<Vec<(Key, Document)>> {
        self.called();
        let (found, documents) = (self.inner.scan(prefix, after, limit), Arc::clone(&self.documents));
        Box::pin(async move {
            let found = found.await?;
            documents.fetch_add(found.len(), Ordering::Relaxed);
            Ok(found)
        })
    }

    fn sizes(&self, partitions: Vec<TopicPartition>) -> Pending<Vec<u64>> {
        self.called();
        self.inner.sizes(partitions)
    }

    fn watch(&self, subjects: &[Subject]) -> Watch {
        self.inner.watch(subjects)
    }

    fn full(&self) -> watch::Receiver<WhyFull> {
        self.inner.full()
    }

    fn topics_version(&self) -> u64 {
        self.inner.topics_version()
    }

    fn retention(
        &self,
        partitions: Vec<(TopicPartition, RetentionLimits)>,
        now_ms: i64,
    ) -> Pending<Vec<RetentionOutcome>> {
        self.called();
        let damaged = *self.damaged.lock();
        let meanwhile = std::mem::take(&mut *self.meanwhile.lock());
        let asked: Vec<TopicPartition> = partitions.iter().map(|(partition, _)| *partition).collect();
        let (found, inner) = (self.inner.retention(partitions, now_ms), Arc::clone(&self.inner));
        Box::pin(async move {
            let mut found = found.await?;
            for (partition, outcome) in asked.iter().zip(&mut found) {
                if Some(*partition) == damaged {
                    *outcome = Err(StoreError("damaged".to_owned()));
                }
            }
            inner.commit(meanwhile, Vec::new()).await?;
            Ok(found)
        })
    }

    fn dirty(&self, partition: TopicPartition, young_after_ms: Option<i64>) -> Pending<Option<DirtyLook>> {
        self.called();
        self.inner.dirty(partition, young_after_ms)
    }

    fn maintain(&self, now_ms: i64) -> Pending<u64> {
        self.called();
        self.inner.maintain(now_ms)
    }

    fn collect(&self, page: &mut Page) {
        self.inner.collect(page);
    }

    fn gauges(&self) -> Pending<Gauges> {
        self.inner.gauges()
    }

    fn failed(&self) -> BoxFuture<'static, StoreError> {
        self.inner.failed()
    }

    fn close(&self) -> Pending<()> {
        self.inner.close()
    }
}

/// A broker over an engine.
struct World {
    engine: Arc<Spy>,
    clock: Arc<ManualClock>,
    broker: Arc<Broker>,
    runs: DueRuns,
    /// Where the engine has its file.
    folder: Option<PathBuf>,
}

impl World {
    /// A world for each engine.
    fn all(name: &str) -> [World; 2] {
        let folder = std::env::temp_dir().join(format!("yagura-due-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        let settings = Settings { disk_reserve: ByteSize(0), ..Settings::at("") };
        let sqlite = Sqlite::open(&folder.join("y.db"), &settings).unwrap();
        [World::over(Arc::new(Memory::new()), None), World::over(Arc::new(sqlite), Some(folder))]
    }

    fn over(inner: Arc<dyn Engine>, folder: Option<PathBuf>) -> World {
        let engine = Arc::new(Spy {
            inner,
            calls: AtomicUsize::new(0),
            documents: Arc::default(),
            damaged: Mutex::default(),
            meanwhile: Mutex::default(),
            before_clean: Mutex::default(),
        });
        let clock = Arc::new(ManualClock::at(NOW_MS));
        let broker = broker_over(Arc::clone(&engine), Arc::clone(&clock), 1 << 20);
        World { engine, clock, broker, runs: DueRuns::default(), folder }
    }

    /// Closes the store, which must be sound.
    async fn end(self) {
        self.engine.inner.close().await.unwrap();
        let Some(folder) = self.folder else { return };
        let report = verify(&folder.join("y.db"), &mut |_, _| {}).unwrap();
        assert_eq!(report.faults, Vec::<String>::new());
        std::fs::remove_dir_all(&folder).unwrap();
    }

    async fn run(&mut self) -> Maintained {
        let (done, result) = self.runs.run(&self.broker).await;
        result.unwrap();
        done
    }

    /// A run after some time.
    async fn pass(&mut self, ms: i64) -> Maintained {
        self.clock.advance(ms);
        self.run().await
    }

    async fn commit(&self, command: Command) -> Applied {
        self.broker.store.commit_one(&Ticket::only(), command).await.unwrap().unwrap()
    }

    fn append(&self, partition: TopicPartition, batch: Bytes) -> Command {
        let batch = Batch::check(batch).unwrap();
        Command::Append(Append::new(partition, &batch, self.broker.clock.now_ms()))
    }

    /// Appends a batch of one record.
    async fn produce(&self, partition: TopicPartition, timestamp: i64) {
        self.commit(self.append(partition, batch(Codec::None, &[timestamp]))).await;
    }

    async fn alter(&self, topic: &str, name: &str, value: &str) {
        let operation = ConfigOperation::Set(value.to_owned());
        let configs = NewConfigs::Incremental(vec![(name.to_owned(), operation)]);
        self.commit(Command::AlterConfigs { name: Arc::from(topic), configs }).await;
    }

    /// Commits an offset of a topic's first partition.
    async fn commit_offset(&self, group: &str, topic: &TopicDocument, member: MemberIdentity) {
        let now_ms = self.broker.clock.now_ms();
        let document = OffsetDocument {
            topic_id: topic.id,
            offset: 1,
            leader_epoch: -1,
            metadata: Arc::from(""),
            committed_ms: now_ms,
            expires_ms: None,
            revision: 0,
            sent_after: None,
            sent_as: 0,
        };
        let offsets = vec![CommittedOffset { topic: Arc::clone(&topic.name), partition: 0, document }];
        let command = GroupCommand::CommitOffsets { member, offsets, knows_epochs: true, now_ms };
        self.commit(Command::Group { group: Arc::from(group), command }).await;
    }

    /// A heartbeat of the only member of group `g`, which subscribes to topic `t`; its member epoch.
    async fn heartbeat(&self, epoch: i32) -> i32 {
        let mut request = ConsumerGroupHeartbeatRequest::default()
            .with_group_id(GroupId(StrBytes::from_static_str("g")))
            .with_member_id(StrBytes::from_static_str("m"))
            .with_member_epoch(epoch)
            .with_rebalance_timeout_ms(-1);
        if epoch == 0 {
            request = request
                .with_rebalance_timeout_ms(1_000)
                .with_subscribed_topic_names(Some(vec![topic_name("t")]))
                .with_topic_partitions(Some(Vec::new()));
        }
        let response: ConsumerGroupHeartbeatResponse =
            ask(&self.broker, Api::CONSUMER_GROUP_HEARTBEAT, 1, &request).await;
        assert_eq!(response.error_code, 0, "{response:?}");
        response.member_epoch
    }

    /// The topics of a group's offsets; `None` if there is no such group.
    async fn offsets(&self, group: &str) -> Option<Vec<Arc<str>>> {
        let group = Arc::from(group);
        self.broker.store.get_one::<GroupDocument>(&group).await.unwrap()?;
        let offsets = self.broker.store.offsets(&group).await.unwrap();
        Some(offsets.into_iter().map(|(key, _)| key.topic).collect())
    }

    /// Log start offset and log end offset.
    async fn log(&self, partition: TopicPartition) -> (i64, i64) {
        let logs = self.broker.store.logs(vec![partition]).await.unwrap();
        let log = logs.get(partition).unwrap();
        (log.log_start, log.end)
    }

    /// All entries of the index.
    async fn due(&self) -> Vec<DueKey> {
        let all = self.broker.store.scan::<Due>(Due::prefix()).await.unwrap();
        all.into_iter().map(|(key, _)| key).collect()
    }

    /// The kinds of their subjects.
    async fn kinds_due(&self) -> BTreeSet<&'static str> {
        self.due().await.iter().map(|key| key.subject.kind()).collect()
    }
}

/// A consumer that joins no group.
fn simple() -> MemberIdentity {
    MemberIdentity { generation: -1, ..MemberIdentity::default() }
}

fn trimmed(partitions_trimmed: usize) -> Maintained {
    Maintained { partitions_trimmed, ..Maintained::default() }
}

#[test]
fn every_kind_of_subject_is_looked_at() {
    let partition = TopicPartition { topic: TopicId(Uuid::nil()), partition: 0 };
    let subjects = [
        DueSubject::Partition(partition),
        DueSubject::Cleaning(partition),
        DueSubject::Topic(Arc::from("t")),
        DueSubject::Producer(ProducerKey { partition, producer: ProducerId(1), origin: None }),
        DueSubject::Offsets(Arc::from("g")),
        DueSubject::DeletedTopic(partition.topic),
    ];
    for subject in subjects {
        let rows = OF_PAGE.iter().chain(&AT_THE_END).filter(|kind| kind.name == subject.kind());
        assert_eq!(rows.count(), 1, "{subject:?}");
    }
}

#[tokio::test]
async fn records_are_deleted_when_they_are_too_old() {
    for mut world in World::all("age") {
        let at = topic(&world.broker, "t", 1, &[("retention.ms", "3600000")]).await.partition(0).unwrap();
        world.produce(at, NOW_MS).await;
        world.produce(at, NOW_MS + 10 * MINUTE_MS).await;
        assert_eq!(world.run().await, Maintained::default());
        let due = world.due().await;
        assert!(matches!(due[..], [DueKey { subject: DueSubject::Partition(_), .. }]), "{due:?}");
        assert!((1..=MINUTE_MS).contains(&(due[0].at_ms - NOW_MS - HOUR_MS)), "{due:?}");
        assert_eq!(world.pass(HOUR_MS).await, Maintained::default());
        assert_eq!(world.pass(MINUTE_MS).await, trimmed(1));
        assert_eq!(world.log(at).await, (1, 2), "the later one stays");
        assert_eq!(world.pass(8 * MINUTE_MS).await, Maintained::default());
        assert_eq!(world.pass(MINUTE_MS + 2 * SECOND_MS).await, trimmed(1));
        assert_eq!((world.log(at).await, world.due().await.len()), ((2, 2), 0), "nothing is left to look at");
        world.end().await;
    }
}

#[tokio::test]
async fn a_record_from_the_future_holds_up_those_after_it_until_it_is_deleted() {
    for mut world in World::all("future") {
        let at = topic(&world.broker, "t", 1, &[("retention.ms", "1000")]).await.partition(0).unwrap();
        world.produce(at, i64::MAX - 5).await;
        world.produce(at, NOW_MS - DAY_MS).await;
        assert_eq!(world.pass(DAY_MS).await, Maintained::default());
        world.commit(Command::AdvanceLogStart { partition: at, offset: 1 }).await;
        assert_eq!(world.run().await, trimmed(1));
        assert_eq!(world.log(at).await, (2, 2));
        world.end().await;
    }
}

#[tokio::test]
async fn records_beyond_the_size_of_a_partition_are_deleted_after_the_next_append() {
    for mut world in World::all("size") {
        let limits = [("retention.bytes", "1"), ("retention.ms", "-1")];
        let at = topic(&world.broker, "t", 1, &limits).await.partition(0).unwrap();
        world.produce(at, NOW_MS).await;
        assert_eq!(world.run().await, Maintained::default());
        assert_eq!(world.due().await.len(), 0, "only an append can make something due");
        world.produce(at, NOW_MS).await;
        world.produce(at, NOW_MS).await;
        assert_eq!(world.run().await, trimmed(1));
        assert_eq!((world.log(at).await, world.due().await.len()), ((2, 3), 0));
        world.produce(at, NOW_MS).await;
        // One more comes after the log was read.
        *world.engine.meanwhile.lock() = vec![world.append(at, batch(Codec::None, &[NOW_MS]))];
        assert_eq!(world.run().await, trimmed(1));
        assert_eq!(world.log(at).await, (3, 5));
        assert_eq!(world.run().await, trimmed(1), "it was not lost");
        assert_eq!((world.log(at).await, world.due().await.len()), ((4, 5), 0));
        world.end().await;
    }
}

#[tokio::test]
async fn aborted_transactions_go_with_their_records_however_many_they_are() {
    for mut world in World::all("aborted") {
        let at = topic(&world.broker, "t", 1, &[]).await.partition(0).unwrap();
        let mut producer = Transactional::new(&world.broker, "x").await;
        for _ in 0..700 {
            producer.append(at, 1).await;
            producer.end(false).await;
        }
        world.commit(Command::AdvanceLogStart { partition: at, offset: -1 }).await;
        let aborted = AbortedTransaction::of_partition(at);
        assert!(!world.engine.scan(aborted.clone(), None, 1).await.unwrap().is_empty());
        world.run().await;
        assert!(world.engine.scan(aborted, None, 1).await.unwrap().is_empty(), "a run takes all");
        world.end().await;
    }
}

#[tokio::test]
async fn a_log_that_is_appended_to_while_all_of_it_expires_is_looked_at_again() {
    for mut world in World::all("meanwhile") {
        let at = topic(&world.broker, "t", 1, &[("retention.ms", "1000")]).await.partition(0).unwrap();
        world.produce(at, NOW_MS).await;
        world.clock.advance(DAY_MS);
        *world.engine.meanwhile.lock() = vec![world.append(at, batch(Codec::None, &[NOW_MS + DAY_MS]))];
        assert_eq!(world.run().await, trimmed(1));
        assert_eq!(world.log(at).await, (1, 2));
        assert_eq!(world.pass(3 * SECOND_MS).await, trimmed(1));
        assert_eq!(world.log(at).await, (2, 2));
        world.end().await;
    }
}

#[tokio::test]
async fn a_shorter_retention_is_applied_to_all_partitions_of_a_topic() {
    for mut world in World::all("alter") {
        let orders = topic(&world.broker, "t", 300, &[]).await;
        for at in orders.all_partitions() {
            world.produce(at, NOW_MS).await;
        }
        assert_eq!(world.run().await, Maintained::default());
        assert_eq!(world.due().await.len(), 300);
        world.alter("t", "retention.ms", "1000").await;
        assert_eq!(world.due().await.len(), 301);
        assert_eq!(world.pass(2 * SECOND_MS).await, trimmed(300));
        assert_eq!(world.pass(8 * DAY_MS).await, Maintained::default());
        assert_eq!(world.due().await.len(), 0, "the entries for seven days were looked at, too");
        world.end().await;
    }
}

#[tokio::test]
async fn producers_expire_a_day_after_their_last_batch() {
    for mut world in World::all("producers") {
        let at = topic(&world.broker, "t", 1, &[("retention.ms", "-1")]).await.partition(0).unwrap();
        world.commit(world.append(at, idempotent_batch(7, 0, 0, 1))).await;
        assert_eq!(world.run().await, Maintained::default());
        assert_eq!(world.kinds_due().await, BTreeSet::from([DueSubject::PRODUCER]));
        world.clock.advance(12 * HOUR_MS);
        world.commit(world.append(at, idempotent_batch(7, 0, 1, 1))).await;
        assert_eq!(world.pass(13 * HOUR_MS).await, Maintained::default(), "it has produced since");
        assert_eq!(world.broker.store.producers(at).await.unwrap().len(), 1);
        let expired = Maintained { producers_expired: 1, ..Maintained::default() };
        assert_eq!(world.pass(11 * HOUR_MS + MINUTE_MS).await, expired);
        assert_eq!(world.broker.store.producers(at).await.unwrap().len(), 0);
        assert_eq!(world.due().await.len(), 0);
        world.end().await;
    }
}

#[tokio::test]
async fn offsets_of_a_consumer_without_a_group_expire() {
    for mut world in World::all("offsets") {
        let orders = topic(&world.broker, "t", 1, &[]).await;
        world.commit_offset("s", &orders, simple()).await;
        world.run().await;
        world.pass(6 * DAY_MS).await;
        // Another commit of the same offset puts no entry; the look finds its time.
        world.commit_offset("s", &orders, simple()).await;
        world.pass(DAY_MS + HOUR_MS).await;
        assert_eq!(world.offsets("s").await, Some(vec![Arc::from("t")]));
        world.pass(6 * DAY_MS).await;
        assert_eq!((world.offsets("s").await, world.due().await.len()), (None, 0));
        world.end().await;
    }
}

#[tokio::test]
async fn offsets_of_a_group_in_use_stay_and_expire_with_its_last_member() {
    for mut world in World::all("live") {
        let orders = topic(&world.broker, "t", 1, &[]).await;
        let generation = world.heartbeat(0).await;
        let member = MemberIdentity { id: Arc::from("m"), instance_id: None, generation };
        world.commit_offset("g", &orders, member).await;
        world.run().await;
        for passed_ms in [8 * DAY_MS, HOUR_MS + MINUTE_MS, HOUR_MS + MINUTE_MS] {
            world.pass(passed_ms).await;
            assert_eq!(world.offsets("g").await, Some(vec![Arc::from("t")]));
            let (due, now_ms) = (world.due().await, world.broker.clock.now_ms());
            assert!(due.iter().any(|key| key.at_ms - now_ms <= HOUR_MS + MINUTE_MS), "{due:?}");
        }
        world.heartbeat(-1).await;
        world.run().await;
        assert_eq!(world.offsets("g").await, None);
        world.pass(2 * HOUR_MS).await;
        assert_eq!(world.due().await.len(), 0);
        world.end().await;
    }
}

#[tokio::test]
async fn a_group_whose_members_have_committed_nothing_goes_with_them() {
    for mut world in World::all("nothing") {
        topic(&world.broker, "t", 1, &[]).await;
        world.heartbeat(0).await;
        world.run().await;
        assert_eq!(world.offsets("g").await, Some(Vec::new()));
        world.heartbeat(-1).await;
        world.run().await;
        assert_eq!((world.offsets("g").await, world.due().await.len()), (None, 0));
        world.end().await;
    }
}

#[tokio::test]
async fn offsets_of_deleted_topics_go_at_once() {
    for mut world in World::all("deleted") {
        let (gone, kept) =
            (topic(&world.broker, "gone", 1, &[]).await, topic(&world.broker, "kept", 1, &[]).await);
        for group in ["both", "one"] {
            world.commit_offset(group, &gone, simple()).await;
        }
        world.commit_offset("both", &kept, simple()).await;
        world.run().await;
        assert_eq!(world.offsets("both").await.unwrap().len(), 2);
        world.commit(Command::DeleteTopic { id: gone.id }).await;
        world.run().await;
        assert_eq!(world.offsets("both").await, Some(vec![Arc::from("kept")]));
        assert_eq!(world.offsets("one").await, None);
        assert_eq!(world.kinds_due().await, BTreeSet::from([DueSubject::OFFSETS]));
        // Of a topic that no service has, such as one that was deleted in another.
        let unknown = TopicDocument::new(Arc::from("x"), TopicId(Uuid::from_u128(5)), 1, BTreeMap::default());
        world.commit_offset("other", &unknown, simple()).await;
        world.run().await;
        assert_eq!(world.offsets("other").await, None);
        world.end().await;
    }
}

#[tokio::test]
async fn a_store_of_the_release_before_gets_its_entries_once() {
    for mut world in World::all("earlier") {
        let orders = topic(&world.broker, "t", 1, &[("retention.ms", "3600000")]).await;
        let at = orders.partition(0).unwrap();
        world.commit(world.append(at, idempotent_batch(7, 0, 0, 1))).await;
        world.commit_offset("s", &orders, simple()).await;
        for DueKey { at_ms, subject } in world.due().await {
            let from_ms = vec![at_ms];
            world.commit(Command::Due(DueCommand::Move { subject, from_ms, to_ms: None })).await;
        }
        assert_eq!(world.due().await.len(), 0);
        assert_eq!(world.run().await, Maintained::default());
        let all = BTreeSet::from([DueSubject::PARTITION, DueSubject::PRODUCER, DueSubject::OFFSETS]);
        assert_eq!(world.kinds_due().await, all);
        let known = world.broker.store.get_one::<DueComplete>(&()).await.unwrap();
        assert_eq!(known.unwrap().offsets_retention_ms, 7 * DAY_MS);

        world.runs = DueRuns::default();
        world.engine.cost();
        world.run().await;
        assert_eq!(world.engine.cost(), (2, 2), "after a restart, that it is complete, and the first entry");

        let broker = Arc::get_mut(&mut world.broker).unwrap();
        broker.settings.offsets_retention = Span(Duration::from_secs(3_600));
        world.runs = DueRuns::default();
        world.run().await;
        assert_eq!(world.pass(HOUR_MS + MINUTE_MS).await, trimmed(1));
        assert_eq!(world.offsets("s").await, None, "a shorter time for offsets is kept to");
        world.end().await;
    }
}

#[tokio::test]
async fn entries_of_one_subject_become_one() {
    for mut world in World::all("merge") {
        let at = topic(&world.broker, "t", 1, &[]).await.partition(0).unwrap();
        world.produce(at, NOW_MS).await;
        world.run().await;
        let before = world.due().await;
        assert_eq!(before.len(), 1);
        for days in [1, 2] {
            let at_ms = NOW_MS + days * DAY_MS;
            world.commit(put(DueKey { at_ms, subject: DueSubject::Partition(at) })).await;
        }
        assert_eq!(world.pass(3 * DAY_MS).await, Maintained::default());
        assert_eq!(world.due().await, before);
        world.end().await;
    }
}

#[tokio::test]
async fn a_partition_that_cannot_be_read_holds_up_no_other() {
    for mut world in World::all("damaged") {
        let orders = topic(&world.broker, "t", 2, &[("retention.ms", "1000")]).await;
        let [damaged, sound] = [0, 1].map(|index| orders.partition(index).unwrap());
        world.run().await;
        world.produce(damaged, NOW_MS).await;
        world.produce(sound, NOW_MS).await;
        *world.engine.damaged.lock() = Some(damaged);
        let failed = Maintained { partitions_failed: 1, ..trimmed(1) };
        assert_eq!(world.pass(2 * SECOND_MS).await, failed);
        assert_eq!(world.pass(SECOND_MS).await, Maintained::default(), "it is not tried all the time");
        // A topic's look leaves an entry for it, too.
        world.alter("t", "retention.ms", "1500").await;
        let failed = Maintained { partitions_failed: 1, ..Maintained::default() };
        assert_eq!(world.run().await, failed);
        *world.engine.damaged.lock() = None;
        assert_eq!(world.pass(6 * MINUTE_MS).await, trimmed(1));
        assert_eq!((world.log(damaged).await, world.due().await.len()), ((1, 1), 0));
        world.end().await;
    }
}

#[tokio::test]
async fn what_rests_costs_a_run_and_a_start_nothing() {
    for count in [10, 100] {
        for mut world in World::all(&format!("rest-{count}")) {
            for number in 0..count {
                let made = topic(&world.broker, &format!("t{number}"), 1, &[]).await;
                let at = made.partition(0).unwrap();
                world.commit(world.append(at, idempotent_batch(number, 0, 0, 1))).await;
                world.commit_offset(&format!("g{number}"), &made, simple()).await;
            }
            world.run().await;
            assert_eq!(world.due().await.len() as i64, 3 * count);
            world.engine.cost();
            assert_eq!(world.pass(HOUR_MS).await, Maintained::default());
            assert_eq!(world.engine.cost(), (1, 1), "a run beside {count} of each");
            Timeouts::default().find_all(&world.broker).await.unwrap();
            assert_eq!(world.engine.cost(), (2, 1), "a start beside {count} of each");
            world.end().await;
        }
    }
}

#[tokio::test]
async fn a_start_finds_the_groups_with_timeouts() {
    for mut world in World::all("start") {
        let orders = topic(&world.broker, "t", 1, &[]).await;
        world.commit_offset("s", &orders, simple()).await;
        world.heartbeat(0).await;
        for is_complete in [false, true] {
            let mut timeouts = Timeouts::default();
            timeouts.find_all(&world.broker).await.unwrap();
            let next_ms = timeouts.step(&world.broker).await.unwrap();
            assert!(next_ms.is_some_and(|next_ms| next_ms > NOW_MS), "{is_complete}: {next_ms:?}");
            world.run().await;
        }
        world.heartbeat(-1).await;
        world.engine.cost();
        Timeouts::default().find_all(&world.broker).await.unwrap();
        assert_eq!(world.engine.cost(), (2, 1), "no group has any");
        world.end().await;
    }
}

/// The log is not any more as a step of compaction has read it.
#[tokio::test]
async fn a_step_of_compaction_survives_what_was_done_meanwhile() {
    let configs = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0")];
    for trim_to in [Some(0), Some(1), Some(33), Some(60), None] {
        for mut world in World::all("step") {
            let document = topic(&world.broker, "t", 1, &configs).await;
            let at = document.partition(0).unwrap();
            for _ in 0..60 {
                world.produce(at, NOW_MS).await;
            }
            *world.engine.before_clean.lock() = vec![match trim_to {
                Some(offset) => Command::AdvanceLogStart { partition: at, offset },
                None => Command::DeleteTopic { id: document.id },
            }];
            for _ in 0..4 {
                world.clock.advance(10 * MINUTE_MS);
                world.run().await;
                clean_all(&world.broker).await;
            }
            assert!(world.engine.before_clean.lock().is_empty(), "a step was made");
            if let Some(log_start) = trim_to {
                assert_eq!(world.log(at).await, (log_start, 60));
                let spec = ReadSpec::uncommitted(at, ReadFrom::Offset(log_start), 1 << 20);
                let read = world.broker.store.read(vec![spec], ReadLimits::all_now(1 << 20)).await.unwrap();
                let Some(ReadOutcome::Read { batches, .. }) = read.into_iter().next() else { panic!() };
                let count = |mut bytes: Bytes| Batch::split_first(&mut bytes).unwrap().record_count();
                let left: i32 = batches.into_iter().map(count).sum();
                assert_eq!(left, i32::from(log_start < 60), "trimmed to {log_start}");
            }
            world.end().await;
        }
    }
}
