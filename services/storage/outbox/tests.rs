use std::collections::VecDeque;
use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};

use bytes::Bytes;
use kernel::clock::ManualClock;
use kernel::ports::BoxFuture;
use kernel::records::Batch as RecordBatch;
use kernel::{TopicId, TopicPartition};
use parking_lot::Mutex;
use rules::commands::{Command, Outcome};

use super::*;
use crate::apis::testing::{NOW_MS, broker_of, topic};
use crate::engines::memory::Memory;
use crate::engines::{Engine, Pending, ReadFrom, ReadLimits, ReadOutcome, ReadSpec};
use crate::settings::Settings;

/// Messages in memory, beside a store in memory.
#[derive(Clone)]
struct Waiting {
    store: Arc<Memory>,
    messages: Arc<Mutex<VecDeque<Message>>>,
    rejected: Arc<Mutex<Vec<Rejection>>>,
    /// The id of the last message of a page.
    seen: Arc<AtomicI64>,
    /// The partition that cannot be written.
    damaged: Arc<AtomicI32>,
}

impl Outbox for Waiting {
    fn page(&self, _: bool) -> Pending<Vec<Message>> {
        let seen = self.seen.load(Ordering::Relaxed);
        let messages = self.messages.lock();
        let page: Vec<Message> = messages.iter().filter(|one| one.id > seen).take(100).cloned().collect();
        page.last().inspect(|last| self.seen.store(last.id, Ordering::Relaxed));
        Box::pin(std::future::ready(Ok(page)))
    }

    fn begin_anew(&self) -> BoxFuture<'static, ()> {
        self.seen.store(0, Ordering::Relaxed);
        Box::pin(std::future::ready(()))
    }

    fn settle(&self, moves: Vec<Move>) -> Pending<Vec<Outcome>> {
        let damaged = self.damaged.load(Ordering::Relaxed);
        if moves.iter().any(|one| one.append.partition.partition == damaged) {
            return Box::pin(std::future::ready(Err(StoreError("a page is damaged".to_owned()))));
        }
        let ids: Vec<Vec<i64>> = moves.iter().map(|one| one.ids.clone()).collect();
        let commands = moves.into_iter().map(|one| Command::Append(one.append)).collect();
        let (committed, messages) = (self.store.commit(commands, Vec::new()), Arc::clone(&self.messages));
        Box::pin(async move {
            let outcomes = committed.await?;
            let moved = ids.into_iter().zip(&outcomes).filter(|(_, outcome)| outcome.is_ok());
            let moved: HashSet<i64> = moved.flat_map(|(ids, _)| ids).collect();
            messages.lock().retain(|message| !moved.contains(&message.id));
            Ok(outcomes)
        })
    }

    fn reject(&self, rejected: Vec<Rejection>) -> Pending<()> {
        let gone: HashSet<i64> = rejected.iter().map(|one| one.id).collect();
        self.messages.lock().retain(|message| !gone.contains(&message.id));
        self.rejected.lock().extend(rejected);
        Box::pin(std::future::ready(Ok(())))
    }

    fn woken(&self) -> BoxFuture<'static, ()> {
        Box::pin(std::future::pending())
    }
}

struct World {
    broker: Arc<Broker>,
    waiting: Waiting,
}

impl World {
    fn new(change: impl FnOnce(&mut Settings)) -> Self {
        let store = Arc::new(Memory::new());
        let mut settings = Settings::at("memory://");
        change(&mut settings);
        let broker = broker_of(settings, Arc::clone(&store), Arc::new(ManualClock::at(NOW_MS)));
        let waiting = Waiting {
            store,
            messages: Arc::default(),
            rejected: Arc::default(),
            seen: Arc::default(),
            damaged: Arc::new(AtomicI32::new(-1)),
        };
        Self { broker, waiting }
    }

    fn send(&self, topic: &str, change: impl FnOnce(&mut Message)) {
        let mut messages = self.waiting.messages.lock();
        let seen = self.waiting.seen.load(Ordering::Relaxed);
        let id = messages.back().map_or(0, |last| last.id).max(seen) + 1;
        let value = Some(Bytes::from(id.to_string()));
        let mut message = Message {
            id,
            topic: Arc::from(topic),
            partition: None,
            key: None,
            value,
            headers: None,
            timestamp_ms: NOW_MS,
        };
        change(&mut message);
        messages.push_back(message);
    }

    async fn move_all(&self) -> Result<(), StoreError> {
        Mover::new(&self.broker, Arc::new(self.waiting.clone())).drain().await
    }

    fn rejected(&self) -> Vec<(i64, ErrorCode)> {
        self.waiting.rejected.lock().iter().map(|one| (one.id, one.why.error)).collect()
    }

    /// The values of a partition.
    async fn values(&self, topic: TopicId, partition: i32) -> Vec<String> {
        let at = TopicPartition { topic, partition };
        let spec = ReadSpec::uncommitted(at, ReadFrom::Offset(0), usize::MAX);
        let read = self.waiting.store.read(vec![spec], ReadLimits::all_now(usize::MAX)).await.unwrap();
        let [ReadOutcome::Read { batches, .. }] = &read[..] else { panic!("{read:?}") };
        let mut values = Vec::new();
        for bytes in batches {
            let mut bytes = bytes.clone();
            while let Some(batch) = RecordBatch::split_first(&mut bytes) {
                let records: Vec<_> = batch.records(usize::MAX).unwrap().map(Result::unwrap).collect();
                let text =
                    |value: &Option<Bytes>| String::from_utf8(value.clone().unwrap().to_vec()).unwrap();
                values.extend(records.iter().map(|record| text(&record.value)));
            }
        }
        values
    }
}

fn numbers(range: std::ops::RangeInclusive<i64>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

#[tokio::test]
async fn messages_are_appended_in_their_order_where_kafka_puts_them() {
    let world = World::new(|_| {});
    let id = topic(&world.broker, "t", 10, &[]).await.id;
    for _ in 1..=250 {
        world.send("t", |message| message.key = Some(Bytes::from_static(b"foobar")));
    }
    world.send("t", |message| message.partition = Some(3));
    world.move_all().await.unwrap();
    // Kafka's partitioner puts this key there.
    assert_eq!(world.values(id, 6).await, numbers(1..=250));
    assert_eq!(world.values(id, 3).await, numbers(251..=251));
    assert_eq!(world.rejected(), []);
}

#[tokio::test]
async fn one_that_no_log_takes_holds_up_nobody() {
    let world = World::new(|_| {});
    let configs = [("max.message.bytes", "1000"), ("cleanup.policy", "compact")];
    let id = topic(&world.broker, "t", 1, &configs).await.id;
    let key = |message: &mut Message| message.key = Some(Bytes::from_static(b"k"));
    world.send("t", key);
    world.send("t", |_| {});
    world.send("t", key);
    world.send("t", |message| {
        key(message);
        message.value = Some(Bytes::from(vec![b'x'; 2_000]));
    });
    world.send("t", |message| {
        key(message);
        message.timestamp_ms = NOW_MS + 7_200_000;
    });
    world.send("t", |message| {
        key(message);
        message.headers = Some("7".to_owned());
    });
    world.send("t", |message| message.partition = Some(1));
    world.send("t", key);
    world.move_all().await.unwrap();
    assert_eq!(world.values(id, 0).await, ["1", "3", "8"]);
    let mut rejected = world.rejected();
    rejected.sort_by_key(|(id, _)| *id);
    let expected = [
        (2, ErrorCode::InvalidRecord),
        (4, ErrorCode::MessageTooLarge),
        (5, ErrorCode::InvalidTimestamp),
        (6, ErrorCode::InvalidRecord),
        (7, ErrorCode::UnknownTopicOrPartition),
    ];
    assert_eq!(rejected, expected);
}

#[tokio::test]
async fn topics_are_made_if_they_may_be() {
    let world = World::new(|settings| settings.default_partitions = 9_000);
    for name in ["a", "b", "not a topic", "c"] {
        world.send(name, |message| message.partition = Some(0));
    }
    world.move_all().await.unwrap();
    for (name, number) in [("a", 1), ("b", 2), ("c", 4)] {
        let id = crate::apis::testing::stored(&world.broker, name).await.id;
        assert_eq!(world.values(id, 0).await, numbers(number..=number));
    }
    assert_eq!(world.rejected(), [(3, ErrorCode::UnknownTopicOrPartition)]);
    let world = World::new(|settings| settings.auto_create_topics = false);
    world.send("a", |_| {});
    world.move_all().await.unwrap();
    assert_eq!(world.rejected(), [(1, ErrorCode::UnknownTopicOrPartition)]);
}

#[tokio::test]
async fn batches_are_as_large_as_their_topic_allows() {
    let world = World::new(|_| {});
    let id = topic(&world.broker, "t", 1, &[("max.message.bytes", "1000")]).await.id;
    for _ in 1..=100 {
        world.send("t", |message| {
            message.value = Some(Bytes::from(format!("{:0>300}", message.id)));
        });
    }
    world.move_all().await.unwrap();
    let values = world.values(id, 0).await;
    let found: Vec<String> = values.iter().map(|value| value.trim_start_matches('0').to_owned()).collect();
    assert_eq!((found, world.rejected()), (numbers(1..=100), Vec::new()));
}

#[tokio::test(start_paused = true)]
async fn a_partition_that_is_damaged_holds_up_no_other() {
    let world = World::new(|_| {});
    let id = topic(&world.broker, "t", 3, &[]).await.id;
    world.waiting.damaged.store(1, Ordering::Relaxed);
    for number in 0..300 {
        world.send("t", |message| message.partition = Some(number % 3));
    }
    let mut mover = Mover::new(&world.broker, Arc::new(world.waiting.clone()));
    mover.drain().await.unwrap();
    let every_third = |first: i64| (0..100).map(|n| (first + 3 * n).to_string()).collect::<Vec<_>>();
    assert_eq!(world.values(id, 0).await, every_third(1));
    assert_eq!(world.values(id, 2).await, every_third(3));
    assert_eq!((world.values(id, 1).await.len(), world.waiting.messages.lock().len()), (0, 100));
    // What has come after them must not overtake them.
    world.waiting.damaged.store(-1, Ordering::Relaxed);
    world.send("t", |message| message.partition = Some(1));
    mover.drain().await.unwrap();
    assert_eq!(world.values(id, 1).await.len(), 0);
    mover.left.since = Instant::now().checked_sub(PAUSE_AFTER_DAMAGE);
    mover.rest().await;
    mover.drain().await.unwrap();
    let mut all = every_third(2);
    all.push("301".to_owned());
    assert_eq!((world.values(id, 1).await, world.rejected()), (all, Vec::new()));
}
