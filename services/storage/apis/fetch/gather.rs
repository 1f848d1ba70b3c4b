//! Waits until there is enough to answer a fetch with.
//!
//! The call subscribes to its partitions before it looks at them, so that no append falls between the two. It is woken
//! by appends and deletions, and holds neither request nor reply memory while it waits.

use kernel::ErrorCode;
use kernel::budget::Lease;
use kernel::drain::Drain;
use tokio::time::Instant;

use super::Terms;
use super::partition::{FetchResult, Fetched, PartitionRef, Position};
use super::read::{self, Known};
use crate::broker::Broker;
use crate::engines::{StoreError, Subject, Watch};
use crate::store::Topics;

/// Reads what is wanted, once it is enough or the time is up. Partitions that nobody knows come last, as in Kafka.
pub(super) async fn gather(
    broker: &Broker,
    wanted: &[(PartitionRef, Position)],
    terms: Terms,
    drain: &Drain,
) -> Result<(Vec<Fetched>, Lease), StoreError> {
    let deadline = Instant::now() + terms.wait;
    let topics =
        broker.store.find_topics(wanted.iter().map(|(place, _)| place.topic.clone()).collect()).await?;
    let (known, unknown) = find(wanted, &topics);
    let may_park = !terms.wait.is_zero() && terms.bytes_min > 0 && !known.is_empty();
    let watch = match may_park {
        true => Some(broker.store.watch(&subjects(&known)).await?),
        false => None,
    };
    let mut parking = Parking { watch, bytes_seen: 0, deadline, drain };
    loop {
        let pass = read::pass(broker, &known, terms).await?;
        if parking.is_over() || pass.is_enough(terms.bytes_min) {
            return Ok((pass.fetched.into_iter().chain(unknown).collect(), pass.lease));
        }
        let missing = terms.bytes_min - pass.bytes;
        // What was read is read again after the wait; until then its memory is free.
        drop(pass);
        parking.wait(missing as u64).await;
    }
}

fn subjects(known: &[Known]) -> Vec<Subject> {
    known.iter().map(|known| Subject::Partition(known.at)).collect()
}

fn find(wanted: &[(PartitionRef, Position)], topics: &Topics) -> (Vec<Known>, Vec<Fetched>) {
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for (place, position) in wanted {
        let (place, position) = (place.clone(), *position);
        match topics.partition(&place.topic, place.partition) {
            Ok((_, at)) => known.push(Known { place, position, at }),
            Err(error) => unknown.push(Fetched { place, position, found: FetchResult::Unknown(error) }),
        }
    }
    // As in Kafka, which looks for the ids first.
    unknown.sort_by_key(|fetched| fetched.found != FetchResult::Unknown(ErrorCode::UnknownTopicId));
    (known, unknown)
}

/// A call's wait; `watch` is `None` once it is over.
struct Parking<'a> {
    watch: Option<Watch>,
    bytes_seen: u64,
    deadline: Instant,
    drain: &'a Drain,
}

impl Parking<'_> {
    fn is_over(&self) -> bool {
        self.watch.is_none()
    }

    /// Waits until the partitions have grown by `missing` bytes, one of them is gone, or the time is up.
    async fn wait(&mut self, missing: u64) {
        let Some(watch) = &self.watch else { return };
        let bytes_seen = tokio::select! {
            bytes = grown(watch, self.bytes_seen, missing) => Some(bytes),
            () = tokio::time::sleep_until(self.deadline) => None,
            () = self.drain.started() => None,
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
        // A change that adds no bytes: a partition is gone, and its reader must hear of it.
        if bytes == bytes_last || bytes - bytes_before >= missing {
            return bytes;
        }
        bytes_last = bytes;
    }
}
