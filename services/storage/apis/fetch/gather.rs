//! Waits until a fetch has `min_bytes` to answer with, or `max_wait_ms` has passed.
//!
//! The call subscribes to its partitions before it reads them, so that no append is missed. Appends and
//! deletions wake it. It holds neither request nor reply memory while it waits.

use std::sync::Arc;

use kernel::budget::Lease;
use kernel::{ErrorCode, Session};
use tokio::time::Instant;

use super::FetchTerms;
use super::partition::{FetchResult, Fetched, PartitionRef, Position};
use super::read::{self, KnownPartition};
use super::sessions::FetchSessions;
use crate::broker::Broker;
use crate::engines::{StoreError, Subject, Watch};
use crate::store::Topics;

/// The session of a call, if its answer is incremental.
#[derive(Clone, Copy)]
pub(super) struct InSession<'a> {
    pub(super) sessions: &'a FetchSessions,
    pub(super) id: i32,
}

/// Reads the partitions, and waits if there are too few bytes. Unknown partitions come last, as in Kafka.
///
/// In a session these are the partitions that do not rest. The others are watched, and read once they have changed.
pub(super) async fn gather(
    broker: &Broker,
    wanted: &[(PartitionRef, Position)],
    terms: FetchTerms,
    connection: &Session,
    session: Option<InSession<'_>>,
) -> Result<(Vec<Fetched>, Lease), StoreError> {
    let deadline = Instant::now() + terms.wait;
    let topics =
        broker.store.find_topics(wanted.iter().map(|(place, _)| place.topic.clone()).collect()).await?;
    let (mut known, unknown) = find(wanted, &topics);
    let watch = watch(broker, &known, terms, session).await?;
    let bytes_seen = watch.as_ref().map_or(0, |watch| watch.bytes());
    let mut parking = Parking { watch, bytes_seen, deadline, connection };
    loop {
        let pass = read::pass(broker, &known, terms).await?;
        if parking.is_over() || pass.is_enough(terms.bytes_min) {
            return Ok((pass.fetched.into_iter().chain(unknown).collect(), pass.lease));
        }
        // A marker of a few bytes lets a reader of committed records see all that its transaction has written.
        let missing = if pass.has_unstable { 1 } else { terms.bytes_min as u64 - pass.bytes };
        // The partitions are read again after the wait; the reply memory is released until then.
        drop(pass);
        parking.wait(missing).await;
        known.extend(session.into_iter().flat_map(|session| session.sessions.woken(session.id)));
    }
}

/// Subscribes to what the call may wait for; `None` if it does not wait.
async fn watch(
    broker: &Broker,
    known: &[KnownPartition],
    terms: FetchTerms,
    session: Option<InSession<'_>>,
) -> Result<Option<Arc<Watch>>, StoreError> {
    let may_park = !terms.wait.is_zero() && terms.bytes_min > 0;
    match session {
        // The session is watched even if the call does not wait: its partitions rest until they change.
        Some(InSession { sessions, id }) => {
            let engine = broker.store.engine().await?;
            Ok(sessions.watch(id, known, &*engine).filter(|_| may_park))
        }
        None if may_park && !known.is_empty() => {
            Ok(Some(Arc::new(broker.store.watch(&subjects(known)).await?)))
        }
        None => Ok(None),
    }
}

fn subjects(known: &[KnownPartition]) -> Vec<Subject> {
    known.iter().map(|known| Subject::Partition(known.at)).collect()
}

fn find(wanted: &[(PartitionRef, Position)], topics: &Topics) -> (Vec<KnownPartition>, Vec<Fetched>) {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for (place, position) in wanted {
        let (place, position) = (place.clone(), *position);
        match topics.partition(&place.topic, place.partition) {
            Ok((_, at)) => known.push(KnownPartition { place, position, at }),
            Err(error) => unknown.push(Fetched { place, position, found: FetchResult::Unknown(error) }),
        }
    }
    // Unknown topic ids come first, as in Kafka.
    unknown.sort_by_key(|fetched| fetched.found.error() != Some(ErrorCode::UnknownTopicId));
    (known, unknown)
}

/// A call's wait; `watch` is `None` once it is over.
struct Parking<'a> {
    watch: Option<Arc<Watch>>,
    bytes_seen: u64,
    deadline: Instant,
    connection: &'a Session,
}

impl Parking<'_> {
    fn is_over(&self) -> bool {
        self.watch.is_none()
    }

    /// Waits until the partitions have grown by `missing` bytes, one is deleted, or the deadline has passed.
    async fn wait(&mut self, missing: u64) {
        let Some(watch) = &self.watch else { return };
        let bytes_seen = tokio::select! {
            bytes = grown(watch, self.bytes_seen, missing) => Some(bytes),
            () = tokio::time::sleep_until(self.deadline) => None,
            () = self.connection.drain.started() => None,
            () = self.connection.ended() => None,
        };
        match bytes_seen {
            Some(bytes) => self.bytes_seen = bytes,
            None => self.watch = None,
        }
    }
}

async fn grown(watch: &Watch, bytes_before: u64, missing: u64) -> u64 {
    let mut bytes_last = bytes_before;
    loop {
        let bytes = watch.changed().await;
        // A change without bytes: a partition was deleted, and the client must be told.
        if bytes == bytes_last || bytes - bytes_before >= missing {
            return bytes;
        }
        bytes_last = bytes;
    }
}
