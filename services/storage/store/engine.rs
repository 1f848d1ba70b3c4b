//! An engine, open or still opening, called in the order of each connection.

use std::sync::Arc;

use kernel::Ticket;
use kernel::budget::{Budget, Lease};
use parking_lot::Mutex;
use rules::commands::{Command, Outcome};
use rules::documents::{DocumentKind, Key, Prefix};
use tokio::sync::watch;

use super::epochs::Epoch;
use crate::engines::{Engine, Holds, ReadLimits, ReadOutcome, ReadSpec, StoreError, Subject, Watch};

/// An engine that may still be opening. Cloning shares it.
#[derive(Clone)]
pub(crate) struct Store {
    engine: watch::Receiver<Opened>,
    queue: Budget,
    /// The leader epoch that it appends with, once it has appended.
    pub(super) epoch: Arc<Mutex<Epoch>>,
    /// Which copy of a shared store it was when it was last looked at.
    pub(super) instance: Arc<Mutex<Option<Arc<str>>>>,
}

/// Whether the engine is open.
#[derive(Clone, Default)]
enum Opened {
    #[default]
    NotYet,
    Open(Arc<dyn Engine>),
    Closed,
}

/// Publishes the engine once it is open. Dropping it earlier fails the waiting calls.
pub(crate) struct StoreOpener(watch::Sender<Opened>);

impl StoreOpener {
    /// Publishes the engine to the waiting calls.
    pub(crate) fn opened(&self, engine: Arc<dyn Engine>) {
        self.0.send_replace(Opened::Open(engine));
    }

    /// Takes the engine out, to be closed; calls are refused from now on.
    pub(crate) fn close(&self) -> Option<Arc<dyn Engine>> {
        match self.0.send_replace(Opened::Closed) {
            Opened::Open(engine) => Some(engine),
            Opened::NotYet | Opened::Closed => None,
        }
    }
}

/// Documents that one scan takes from the engine at a time.
const SCAN_DOCUMENTS: usize = 4_096;

impl Store {
    /// A store that is still opening. Commands that wait to be durable hold at most `queue_bytes_max` bytes.
    pub(crate) fn opening(queue_bytes_max: usize) -> (StoreOpener, Store) {
        let (sender, engine) = watch::channel(Opened::NotYet);
        let (queue, epoch) = (Budget::new(queue_bytes_max, 0), Arc::default());
        (StoreOpener(sender), Store { engine, queue, epoch, instance: Arc::default() })
    }

    /// The engine, if it is open.
    pub(crate) fn engine_if_open(&self) -> Option<Arc<dyn Engine>> {
        match &*self.engine.borrow() {
            Opened::Open(engine) => Some(Arc::clone(engine)),
            Opened::NotYet | Opened::Closed => None,
        }
    }

    /// The engine, once it is open. Listeners are bound before the store is opened, so that an early client
    /// waits here instead of being refused.
    pub(crate) async fn engine(&self) -> Result<Arc<dyn Engine>, StoreError> {
        if let Some(engine) = self.engine_if_open() {
            return Ok(engine);
        }
        let mut receiver = self.engine.clone();
        let opened = receiver.wait_for(|opened| !matches!(opened, Opened::NotYet)).await;
        match opened.map(|opened| opened.clone()) {
            Ok(Opened::Open(engine)) => Ok(engine),
            Ok(Opened::Closed) => Err(StoreError("the store is closed".to_owned())),
            Ok(Opened::NotYet) | Err(_) => Err(StoreError("the store could not be opened".to_owned())),
        }
    }

    /// Makes a call's commands durable. They enter the engine's queue in the order of the connection's calls;
    /// later calls may enter before these are durable.
    pub(crate) async fn commit(
        &self,
        ticket: &Ticket,
        commands: Vec<Command>,
    ) -> Result<Vec<Outcome>, StoreError> {
        self.commit_holding(ticket, commands, Holds::new()).await
    }

    /// The same for commands that are slices of request memory, which is given back once they are durable.
    pub(crate) async fn commit_holding(
        &self,
        ticket: &Ticket,
        commands: Vec<Command>,
        mut holds: Vec<Arc<Lease>>,
    ) -> Result<Vec<Outcome>, StoreError> {
        let engine = self.engine().await?;
        ticket.turn().await;
        let bytes = commands.iter().map(Command::bytes).sum();
        // The engine keeps the permit: a client that disconnects does not free room in the queue.
        holds.push(Arc::new(self.queue.take(bytes).await));
        let pending = engine.commit(commands, holds);
        ticket.entered();
        pending.await
    }

    /// Commits the only command of a call.
    pub(crate) async fn commit_one(&self, ticket: &Ticket, command: Command) -> Result<Outcome, StoreError> {
        let outcomes = self.commit(ticket, vec![command]).await?;
        outcomes.into_iter().next().ok_or_else(|| StoreError("the engine gave no outcome".to_owned()))
    }

    /// Reads batches.
    pub(crate) async fn read(
        &self,
        specs: Vec<ReadSpec>,
        limits: ReadLimits,
    ) -> Result<Vec<ReadOutcome>, StoreError> {
        self.engine().await?.read(specs, limits).await
    }

    /// Watches for appends to partitions and for changes of groups.
    pub(crate) async fn watch(&self, subjects: &[Subject]) -> Result<Watch, StoreError> {
        Ok(self.engine().await?.watch(subjects))
    }

    /// Documents of one kind, in the order of `keys`, from one snapshot.
    pub(crate) async fn get<T: DocumentKind>(
        &self,
        keys: &[T::Key],
    ) -> Result<Vec<Option<Arc<T>>>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let found = self.engine().await?.get(keys.iter().map(T::key).collect()).await?;
        Ok(found.into_iter().map(|document| document?.get_arc()).collect())
    }

    /// The same, but a document that cannot be read fails by itself. The whole fails if none can be.
    pub(crate) async fn get_each<T: DocumentKind>(
        &self,
        keys: &[T::Key],
    ) -> Result<Vec<Result<Option<Arc<T>>, StoreError>>, StoreError> {
        let failure = match self.get::<T>(keys).await {
            Ok(found) => return Ok(found.into_iter().map(Ok).collect()),
            Err(failure) => failure,
        };
        let mut each = Vec::with_capacity(keys.len());
        for key in keys {
            each.push(self.get_one::<T>(key).await);
        }
        if each.iter().all(Result::is_err) { Err(failure) } else { Ok(each) }
    }

    /// A document.
    pub(crate) async fn get_one<T: DocumentKind>(&self, key: &T::Key) -> Result<Option<Arc<T>>, StoreError> {
        let found = self.engine().await?.get(vec![T::key(key)]).await?;
        Ok(found.into_iter().next().flatten().and_then(|document| document.get_arc()))
    }

    /// The first `limit` documents of one kind after a key, in the order of keys.
    pub(crate) async fn page<T: DocumentKind>(
        &self,
        after: Option<Key>,
        limit: usize,
    ) -> Result<Vec<(T::Key, Arc<T>)>, StoreError> {
        let found = self.engine().await?.scan(T::prefix(), after, limit).await?;
        let typed = found.into_iter();
        Ok(typed.filter_map(|(key, value)| Some((T::parse_key(&key)?, value.get_arc()?))).collect())
    }

    /// All documents of a prefix, in the order of keys.
    pub(crate) async fn scan<T: DocumentKind>(
        &self,
        prefix: Prefix,
    ) -> Result<Vec<(T::Key, Arc<T>)>, StoreError> {
        let engine = self.engine().await?;
        let (mut all, mut after) = (Vec::new(), None);
        loop {
            let found = engine.scan(prefix.clone(), after.take(), SCAN_DOCUMENTS).await?;
            after = found.last().map(|(key, _)| key.clone()).filter(|_| found.len() == SCAN_DOCUMENTS);
            let typed = found.into_iter();
            all.extend(typed.filter_map(|(key, value)| Some((T::parse_key(&key)?, value.get_arc()?))));
            if after.is_none() {
                return Ok(all);
            }
        }
    }
}
