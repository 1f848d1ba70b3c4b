//! Moves messages that other programs leave in the store into the log, as a producer would send them: partitioned by Kafka's
//! partitioner, checked by their topic's configs, appended by the rules. What no log takes is put aside with the reason, and
//! holds up nobody; nor does a partition that is damaged, whose messages stay where they are.
//!
//! A page of messages at a time is appended by one commit, which takes them out as well. Whatever happens between two pages,
//! each message is moved once.

mod batches;
mod headers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::kafka_name::kafka_name;
use kernel::partitioner::Partitioner;
use kernel::{ErrorCode, Ticket};
use rules::commands::Refused;
use rules::documents::{DueComplete, TopicDocument};
use tracing::{info, warn};

use crate::apis::{metadata, produce};
use crate::broker::Broker;
use crate::engines::StoreError;
use crate::engines::outbox::{Message, Move, Outbox, Rejection};
use crate::nodes::Work;
use batches::{Addressed, Batch, batches};

/// The pause after the store has failed.
const PAUSE_AFTER_FAILURE: Duration = Duration::from_secs(1);
/// The pause before messages are tried again that stay where they are. All of them are read again then.
const PAUSE_AFTER_DAMAGE: Duration = Duration::from_secs(10);
/// How often is looked whether this broker moves messages by now.
const PAUSE_WHILE_ANOTHER_DOES: Duration = Duration::from_secs(1);
/// Bytes without keys that go to one partition before another follows, as in Kafka's producer.
const STICKY_BYTES: usize = 16 << 10;

type Topics = HashMap<Arc<str>, Arc<TopicDocument>>;
type Failures = HashMap<Arc<str>, ErrorCode>;

/// Runs as long as the process; for ever without a thing to do if the engine has no outbox.
pub(crate) async fn run(broker: &Broker) {
    let outbox = broker.store.engine().await.ok().and_then(|engine| engine.outbox());
    let Some(outbox) = outbox else { return std::future::pending().await };
    let mut mover = Mover::new(broker, outbox);
    let mut is_failing = false;
    loop {
        if !broker.nodes.does(Work::Outbox) {
            mover.outbox.begin_anew().await;
            tokio::time::sleep(PAUSE_WHILE_ANOTHER_DOES).await;
            continue;
        }
        match mover.drain().await {
            Ok(()) => {
                if std::mem::take(&mut is_failing) {
                    info!("messages of the outbox are moved again");
                }
                mover.rest().await;
            }
            Err(error) => {
                // Said once: it is tried each second.
                if !std::mem::replace(&mut is_failing, true) {
                    warn!(%error, "messages of the outbox cannot be moved; it is tried again and again");
                }
                mover.outbox.begin_anew().await;
                tokio::time::sleep(PAUSE_AFTER_FAILURE).await;
            }
        }
    }
}

struct Mover<'a> {
    broker: &'a Broker,
    outbox: Arc<dyn Outbox>,
    partitioner: Partitioner,
    left: Left,
}

/// Whose messages stay where they are: those of a partition that cannot be written, or of a topic that cannot be read.
#[derive(Default)]
struct Left {
    places: BTreeSet<Place>,
    since: Option<Instant>,
    /// What the log tells of already.
    said: BTreeSet<Place>,
}

type Place = (Arc<str>, Option<i32>);

impl Left {
    fn add(&mut self, place: Place, error: &StoreError) {
        self.since.get_or_insert_with(Instant::now);
        if self.said.insert(place.clone()) {
            let (topic, partition) = &place;
            warn!(%topic, partition, %error, "messages stay in the outbox, because where they belong cannot be used; others are moved");
        }
        self.places.insert(place);
    }

    fn has_topic(&self, topic: &Arc<str>) -> bool {
        self.places.contains(&(Arc::clone(topic), None))
    }

    fn has_partition(&self, topic: &Arc<str>, partition: i32) -> bool {
        self.places.contains(&(Arc::clone(topic), Some(partition)))
    }
}

/// What becomes of the messages of a page.
#[derive(Default)]
struct Page {
    moves: Vec<Move>,
    rejected: Vec<Rejection>,
}

impl Page {
    fn reject(&mut self, ids: impl IntoIterator<Item = i64>, why: &Refused) {
        self.rejected.extend(ids.into_iter().map(|id| Rejection { id, why: why.clone() }));
    }
}

impl<'a> Mover<'a> {
    fn new(broker: &'a Broker, outbox: Arc<dyn Outbox>) -> Self {
        Self { broker, outbox, partitioner: Partitioner::new(STICKY_BYTES), left: Left::default() }
    }

    /// Waits for messages; after a while, those are seen again that were left.
    async fn rest(&mut self) {
        let Some(since) = self.left.since else {
            self.left.said.clear();
            return self.outbox.woken().await;
        };
        let pause = PAUSE_AFTER_DAMAGE.saturating_sub(since.elapsed());
        // Others are moved meanwhile, as soon as they come.
        if tokio::time::timeout(pause, self.outbox.woken()).await.is_err() {
            self.left.places.clear();
            self.left.since = None;
            self.outbox.begin_anew().await;
        }
    }

    /// Returns an error as it is, unless the store can be read: then something fails by itself.
    async fn unless_alone(&self, error: StoreError) -> Result<StoreError, StoreError> {
        match self.broker.store.get_one::<DueComplete>(&()).await {
            Ok(_) => Ok(error),
            Err(_) => Err(error),
        }
    }

    /// Moves all messages that are there now.
    async fn drain(&mut self) -> Result<(), StoreError> {
        loop {
            let messages = self.outbox.page(!self.left.places.is_empty()).await?;
            if messages.is_empty() {
                return Ok(());
            }
            self.move_all(messages).await?;
        }
    }

    async fn move_all(&mut self, messages: Vec<Message>) -> Result<(), StoreError> {
        let (topics, failures) = self.topics(&messages).await?;
        let mut page = Page::default();
        let mut addressed = Vec::with_capacity(messages.len());
        for message in messages {
            if self.left.has_topic(&message.topic) {
                continue;
            }
            match self.address(&topics, &failures, message) {
                Ok(one) if self.left.has_partition(&one.topic.name, one.partition) => {}
                Ok(one) => addressed.push(one),
                Err((id, why)) => page.reject([id], &why),
            }
        }
        for batch in batches(addressed) {
            self.prepare(batch, &mut page).await?;
        }
        self.settle(page).await
    }

    /// The topics of messages, which are made if they may be, and why some could not be.
    async fn topics(&mut self, messages: &[Message]) -> Result<(Topics, Failures), StoreError> {
        let names: HashSet<Arc<str>> = messages.iter().map(|message| Arc::clone(&message.topic)).collect();
        let names = self.readable(names.into_iter().collect()).await?;
        let mut topics = self.broker.store.topics_by_name(names.clone()).await?;
        let mut failures = Failures::new();
        // One call makes so many at most.
        while self.broker.settings.auto_create_topics && topics.len() + failures.len() < names.len() {
            let is_missing = |name: &&Arc<str>| !topics.contains_key(*name) && !failures.contains_key(*name);
            let missing: Vec<_> = names.iter().filter(is_missing).cloned().collect();
            let failed = metadata::create_missing(self.broker, &Ticket::only(), &missing).await?;
            if failed.values().any(|error| is_passing(*error)) {
                return Err(StoreError("the topics of messages cannot be made now".to_owned()));
            }
            let found = self.broker.store.topics_by_name(names.clone()).await?;
            let has_stopped = failed.is_empty() && found.len() == topics.len();
            topics = found;
            failures.extend(failed);
            if has_stopped {
                break;
            }
        }
        Ok((topics, failures))
    }

    /// Without the names of topics that cannot be read.
    async fn readable(&mut self, mut names: Vec<Arc<str>>) -> Result<Vec<Arc<str>>, StoreError> {
        match self.broker.store.get_each::<TopicDocument>(&names).await {
            Ok(found) => {
                for (name, found) in names.iter().zip(found) {
                    if let Err(error) = found {
                        self.left.add((Arc::clone(name), None), &error);
                    }
                }
            }
            // None can be.
            Err(error) => {
                let error = self.unless_alone(error).await?;
                names.iter().for_each(|name| self.left.add((Arc::clone(name), None), &error));
            }
        }
        names.retain(|name| !self.left.has_topic(name));
        Ok(names)
    }

    /// Finds the partition of a message.
    fn address(
        &mut self,
        topics: &Topics,
        failures: &Failures,
        message: Message,
    ) -> Result<Addressed, (i64, Refused)> {
        let refuse = |error: ErrorCode, why: String| Err((message.id, Refused::new(error, why)));
        let Some(topic) = topics.get(&message.topic) else {
            let name = &message.topic;
            return match failures.get(name).copied() {
                None => refuse(ErrorCode::UnknownTopicOrPartition, format!("there is no topic {name}")),
                // Mostly: another one differs from it in nothing but "." and "_".
                Some(error) => refuse(error, format!("topic {name} cannot be made: {}", kafka_name(error))),
            };
        };
        let headers = match headers::parse(message.headers.as_deref()) {
            Ok(headers) => headers,
            Err(why) => return refuse(ErrorCode::InvalidRecord, why),
        };
        let bytes = batches::bytes_at_most(&message, &headers);
        let partition = match message.partition {
            Some(partition) if (0..topic.partitions).contains(&partition) => partition,
            Some(partition) => {
                let why = format!(
                    "there is no partition {partition} of {}: it has {}",
                    topic.name, topic.partitions
                );
                return refuse(ErrorCode::UnknownTopicOrPartition, why);
            }
            None => {
                let count = usize::try_from(topic.partitions).unwrap_or(1).max(1);
                self.partitioner.choose(message.key.as_deref(), bytes, count) as i32
            }
        };
        Ok(Addressed { topic: Arc::clone(topic), partition, message, headers, bytes })
    }

    /// Checks a batch. If it is refused, each of its records is checked alone, so that those go on that nothing is wrong with.
    async fn prepare(&self, batch: Batch, page: &mut Page) -> Result<(), StoreError> {
        let refused = match self.checked(&batch).await {
            Ok(one) => {
                page.moves.push(one);
                return Ok(());
            }
            Err(refused) => refused,
        };
        if is_passing(refused.error) {
            return Err(StoreError(refused.message));
        }
        if batch.messages.len() == 1 {
            page.reject(batch.ids(), &refused);
            return Ok(());
        }
        for single in batch.divide() {
            match self.checked(&single).await {
                Ok(one) => page.moves.push(one),
                Err(refused) if is_passing(refused.error) => return Err(StoreError(refused.message)),
                Err(refused) => page.reject(single.ids(), &refused),
            }
        }
        Ok(())
    }

    async fn checked(&self, batch: &Batch) -> Result<Move, Refused> {
        let records = batch.records()?;
        let append = produce::checked(self.broker, &batch.topic, batch.at(), records).await?;
        Ok(Move { ids: batch.ids().collect(), topic: Arc::clone(&batch.topic.name), append })
    }

    /// Commits what becomes of a page: all of it together or, if that fails, each partition by itself.
    async fn settle(&mut self, page: Page) -> Result<(), StoreError> {
        let Page { moves, mut rejected } = page;
        match self.commit(moves.clone()).await {
            Ok(refused) => rejected.extend(refused),
            Err(error) => {
                self.unless_alone(error).await?;
                let mut partitions: BTreeMap<(Arc<str>, i32), Vec<Move>> = BTreeMap::new();
                for one in moves {
                    let at = (Arc::clone(&one.topic), one.append.partition.partition);
                    partitions.entry(at).or_default().push(one);
                }
                for ((topic, partition), moves) in partitions {
                    match self.commit(moves).await {
                        Ok(refused) => rejected.extend(refused),
                        Err(error) => {
                            let error = self.unless_alone(error).await?;
                            self.left.add((topic, Some(partition)), &error);
                        }
                    }
                }
            }
        }
        self.reject(rejected).await
    }

    /// Appends messages; returns those whose topic takes them no more.
    async fn commit(&self, moves: Vec<Move>) -> Result<Vec<Rejection>, StoreError> {
        if moves.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<Vec<i64>> = moves.iter().map(|one| one.ids.clone()).collect();
        let outcomes = self.outbox.settle(moves).await?;
        let (mut rejected, mut failure) = (Vec::new(), None);
        for (ids, outcome) in ids.into_iter().zip(outcomes) {
            match outcome {
                Ok(_) => {}
                Err(refused) if is_passing(refused.error) => failure = Some(StoreError(refused.message)),
                // Its topic was deleted meanwhile.
                Err(why) => rejected.extend(ids.into_iter().map(|id| Rejection { id, why: why.clone() })),
            }
        }
        failure.map_or(Ok(rejected), Err)
    }

    async fn reject(&self, rejected: Vec<Rejection>) -> Result<(), StoreError> {
        if rejected.is_empty() {
            return Ok(());
        }
        let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
        rejected.iter().for_each(|one| *reasons.entry(one.why.message.clone()).or_default() += 1);
        let (count, first) = (rejected.len(), rejected.iter().map(|one| one.id).min());
        self.outbox.reject(rejected).await?;
        let most = reasons.into_iter().max_by_key(|(_, count)| *count);
        warn!(
            count,
            first_id = first,
            reason = most.map(|(reason, _)| reason),
            "messages of the outbox were rejected; they are in the table outbox_rejected"
        );
        Ok(())
    }
}

/// Whether what an error tells of will pass, so that it is tried again.
fn is_passing(error: ErrorCode) -> bool {
    error == ErrorCode::KafkaStorageError
}
