//! The store as the APIs see it: an engine, opened or still opening, behind the connection's order.

use std::future::Future;
use std::sync::Arc;

use kernel::budget::Budget;
use kernel::ports::{BoxFuture, TopicDirectory};
use kernel::{Ticket, TopicId, TopicPartition};
use tokio::sync::watch;

use crate::engines::{Engine, Load, ReadOutcome, ReadSpec, StoreError, Subject, Watch};
use crate::rules::groups::{GroupDocument, MemberDocument, assignor};
use crate::rules::{Command, Document, Key, Outcome, Subscription, TopicDocument};

/// An engine that may still be opening. Cloning shares it.
#[derive(Clone)]
pub struct Store {
    engine: watch::Receiver<Option<Arc<dyn Engine>>>,
    queue: Budget,
}

/// The side that hands over the engine once it is open.
pub struct StoreOpener(watch::Sender<Option<Arc<dyn Engine>>>);

impl StoreOpener {
    /// Lets waiting calls in.
    pub fn opened(self, engine: Arc<dyn Engine>) {
        self.0.send_replace(Some(engine));
    }
}

impl Store {
    /// A store that is still opening. Commands that wait to be durable hold at most `queue_bytes_max` bytes.
    pub fn opening(queue_bytes_max: usize) -> (StoreOpener, Store) {
        let (sender, engine) = watch::channel(None);
        (StoreOpener(sender), Store { engine, queue: Budget::new(queue_bytes_max) })
    }

    /// The engine, if it is open.
    pub fn engine_if_open(&self) -> Option<Arc<dyn Engine>> {
        self.engine.borrow().clone()
    }

    /// The engine, once it is open. Listeners are bound before the store is opened, so that a client that comes
    /// early waits here instead of being refused.
    pub async fn engine(&self) -> Result<Arc<dyn Engine>, StoreError> {
        if let Some(engine) = self.engine_if_open() {
            return Ok(engine);
        }
        let mut receiver = self.engine.clone();
        let opened = receiver.wait_for(Option::is_some).await;
        opened
            .ok()
            .and_then(|engine| engine.clone())
            .ok_or_else(|| StoreError("the store could not be opened".to_owned()))
    }

    /// Makes a call's commands durable. They enter the engine's queue in the order of the connection's calls; later
    /// calls may enter while these are on their way to the disk.
    pub async fn commit(&self, ticket: &Ticket, commands: Vec<Command>) -> Result<Vec<Outcome>, StoreError> {
        let engine = self.engine().await?;
        ticket.turn().await;
        let bytes = commands.iter().map(Command::bytes).sum();
        let lease = self.queue.take(bytes).await;
        let pending = engine.commit(commands);
        ticket.entered();
        let outcomes = pending.await;
        drop(lease);
        outcomes
    }

    /// One command of a call that has no others.
    pub async fn commit_one(&self, ticket: &Ticket, command: Command) -> Result<Outcome, StoreError> {
        let outcomes = self.commit(ticket, vec![command]).await?;
        outcomes.into_iter().next().ok_or_else(|| StoreError("the engine gave no outcome".to_owned()))
    }

    /// Reads batches.
    pub async fn read(&self, specs: Vec<ReadSpec>, bytes_max: usize) -> Result<Vec<ReadOutcome>, StoreError> {
        self.engine().await?.read(specs, bytes_max).await
    }

    /// Watches for appends to partitions and for changes of groups.
    pub async fn watch(&self, subjects: &[Subject]) -> Result<Watch, StoreError> {
        Ok(self.engine().await?.watch(subjects))
    }

    /// A group with its members, as they are at one moment.
    pub async fn group(&self, group: &Arc<str>) -> Result<Option<GroupView>, StoreError> {
        let found = self.engine().await?.load(Load::Group(Arc::clone(group))).await?;
        Ok(GroupView::of(found))
    }

    /// All groups without their members, in the order of ids.
    pub async fn groups(&self) -> Result<Vec<(Arc<str>, Arc<GroupDocument>)>, StoreError> {
        let found = self.engine().await?.load(Load::Groups).await?;
        let group = |(key, document): (Key, Document)| match (key, document) {
            (Key::Group(name), Document::Group(group)) => Some((name, group)),
            _ => None,
        };
        Ok(found.into_iter().filter_map(group).collect())
    }

    /// The offsets that a group has committed, with the ends of their logs. Those of topics that are gone are left out.
    pub async fn committed(&self, group: &Arc<str>) -> Result<Vec<Committed>, StoreError> {
        let index = self.document(Key::OffsetIndex(Arc::clone(group))).await?;
        let Some(Document::OffsetIndex(index)) = index else { return Ok(Vec::new()) };
        let mut committed = Vec::new();
        for (topic, partitions) in &*index {
            for partition in partitions {
                let key = Key::Offset(Arc::clone(group), Arc::clone(topic), *partition);
                let Some(Document::Offset(offset)) = self.document(key).await? else { continue };
                let at = TopicPartition { topic: offset.topic_id, partition: *partition };
                let Some(Document::Partition(log)) = self.document(Key::Partition(at)).await? else {
                    continue;
                };
                committed.push(Committed {
                    topic: Arc::clone(topic),
                    partition: *partition,
                    offset: offset.offset,
                    end: log.end,
                });
            }
        }
        Ok(committed)
    }

    /// A document.
    pub async fn document(&self, key: Key) -> Result<Option<Document>, StoreError> {
        let found = self.engine().await?.load(Load::Keys(vec![key])).await?;
        Ok(found.into_iter().next().map(|(_, document)| document))
    }

    /// All subscriptions to clients' metrics, in the order of names.
    pub async fn client_metrics(&self) -> Result<Vec<(Arc<str>, Arc<Subscription>)>, StoreError> {
        let found = self.engine().await?.load(Load::ClientMetrics).await?;
        let subscription = |(key, document)| match (key, document) {
            (Key::ClientMetrics(name), Document::ClientMetrics(configs)) => Some((name, configs)),
            _ => None,
        };
        Ok(found.into_iter().filter_map(subscription).collect())
    }

    /// A topic by name.
    pub async fn topic(&self, name: &str) -> Result<Option<Arc<TopicDocument>>, StoreError> {
        let found = self.document(Key::Topic(Arc::from(name))).await?;
        Ok(found.and_then(|document| document.as_topic().cloned()))
    }

    /// A topic by id.
    pub async fn topic_by_id(&self, id: TopicId) -> Result<Option<Arc<TopicDocument>>, StoreError> {
        match self.document(Key::TopicName(id)).await? {
            Some(Document::TopicName(name)) => {
                // Between the two loads the name may have begun another life.
                Ok(self.topic(&name).await?.filter(|topic| topic.id == id))
            }
            _ => Ok(None),
        }
    }

    /// All topics, in the order of names.
    pub async fn topics(&self) -> Result<Vec<Arc<TopicDocument>>, StoreError> {
        let found = self.engine().await?.load(Load::Topics).await?;
        Ok(found.into_iter().filter_map(|(_, document)| document.as_topic().cloned()).collect())
    }
}

/// How far a group has come in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The next offset that the group reads.
    pub offset: i64,
    /// The offset after the last record.
    pub end: i64,
}

/// A group and its members, as they were at one moment.
#[derive(Debug, Clone)]
pub struct GroupView {
    /// The group.
    pub group: Arc<GroupDocument>,
    /// Its members by id, in the order in which they came.
    pub members: Vec<(Arc<str>, Arc<MemberDocument>)>,
}

impl GroupView {
    fn of(documents: Vec<(Key, Document)>) -> Option<Self> {
        let (mut group, mut members) = (None, Vec::new());
        for (key, document) in documents {
            match (key, document) {
                (Key::Group(_), Document::Group(document)) => group = Some(document),
                (Key::Member(_, id), Document::Member(document)) => members.push((id, document)),
                _ => {}
            }
        }
        Some(Self { group: group?, members })
    }

    /// The assignor in use.
    pub fn assignor(&self) -> Option<&str> {
        let votes = || self.members.iter().map(|(_, member)| member.consumer.as_ref()?.assignor.as_deref());
        match self.group.consumer.is_some() {
            true => Some(assignor(votes())),
            false => self.group.protocol.as_deref(),
        }
    }

    /// A member by its id.
    pub fn member(&self, id: &str) -> Option<&Arc<MemberDocument>> {
        self.members.iter().find(|(own, _)| **own == *id).map(|(_, member)| member)
    }
}

impl TopicDirectory for Store {
    fn topic_name(&self, id: TopicId) -> BoxFuture<'_, Option<Arc<str>>> {
        boxed(async move { self.topic_by_id(id).await.ok().flatten().map(|topic| Arc::clone(&topic.name)) })
    }
}

fn boxed<'a, T>(future: impl Future<Output = T> + Send + 'a) -> BoxFuture<'a, T> {
    Box::pin(future)
}
