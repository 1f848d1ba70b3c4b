//! One Fetch of the client: its parts are asked, and waited for until they have enough together.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use kernel::Hangup;
use kernel::split::fetch::{FetchAnswer, FetchTerms, FetchedPartition, Place};
use tokio::time::Instant;

use super::caller::Caller;
use super::share::Share;
use crate::observed_call::CallOutcome;

/// How long answers with records are held while other parts do not come that should be there by now. They may wait for
/// reply memory, which these hold: replies must never wait for each other.
const PATIENCE: Duration = Duration::from_secs(1);

/// One Fetch of the client.
pub(super) struct Round<'a> {
    caller: &'a Caller,
    terms: FetchTerms,
    deadline: Instant,
    bytes_min: usize,
    /// Whether the client would rather wait than get less than it wants.
    can_wait: bool,
    /// The answers, each with the index of its share, in the order in which they came.
    answers: Vec<(usize, FetchAnswer)>,
    bytes: usize,
    is_urgent: bool,
}

impl<'a> Round<'a> {
    pub(super) fn new(caller: &'a Caller, terms: FetchTerms) -> Self {
        let wait = Duration::from_millis(u64::try_from(terms.max_wait_ms).unwrap_or(0));
        let bytes_max = usize::try_from(terms.max_bytes).unwrap_or(0);
        let bytes_min = usize::try_from(terms.min_bytes).unwrap_or(0).min(bytes_max);
        Self {
            caller,
            terms,
            deadline: Instant::now() + wait,
            bytes_min,
            can_wait: !wait.is_zero() && bytes_min > 0,
            answers: Vec::new(),
            bytes: 0,
            is_urgent: false,
        }
    }

    /// Asks the parts. `needs_all`: the answer must have all partitions and not only what has changed.
    pub(super) async fn run(&mut self, shares: &mut [Share], needs_all: bool) -> Result<(), Hangup> {
        if let [share] = shares
            && !share.is_pending()
        {
            // The one service waits as the client wants it.
            share.ask(self.caller, &self.terms)?;
            return self.all(shares).await;
        }
        // A client may not get more than it wants of all together.
        if self.terms.max_bytes > 0 {
            let parts = i32::try_from(shares.len().max(1)).unwrap_or(i32::MAX);
            self.terms.max_bytes = (self.terms.max_bytes / parts).max(1);
        }
        if needs_all {
            for share in shares.iter_mut() {
                share.ask(self.caller, &self.at_once())?;
            }
            self.all(shares).await?;
            if !self.can_wait || self.is_enough() {
                return Ok(());
            }
        }
        for (index, share) in shares.iter_mut().enumerate() {
            // What has some bytes is held until others have the rest.
            if !share.is_pending() && self.bytes_of(index) == 0 {
                share.ask(self.caller, &self.at_first())?;
            }
        }
        self.enough(shares).await
    }

    /// The merged answer. With the places of partitions in the request it has their order, or else that in which they
    /// came. Of the answers about one partition the last counts.
    pub(super) fn into_answer(self, order: Option<&HashMap<Place, usize>>) -> FetchAnswer {
        let mut merged = FetchAnswer::default();
        let is_one = self.answers.len() == 1;
        for (_, answer) in self.answers {
            merged.join(answer);
        }
        if merged.error_code != 0 {
            return merged.without_partitions();
        }
        if !is_one {
            merged.partitions = latest(merged.partitions);
        }
        if let Some(order) = order {
            merged.partitions.sort_by_key(|partition| order.get(&partition.place).copied());
        }
        merged
    }

    /// Terms of a part that is to answer with what there is.
    fn at_once(&self) -> FetchTerms {
        self.terms.waiting(0, 0)
    }

    /// Terms of a part that is to wait for its first bytes: only all parts together know whether they are enough.
    fn at_first(&self) -> FetchTerms {
        if !self.can_wait {
            return self.at_once();
        }
        let left = self.deadline.saturating_duration_since(Instant::now()).as_millis();
        self.terms.waiting(1, i32::try_from(left).unwrap_or(i32::MAX))
    }

    fn is_enough(&self) -> bool {
        self.is_urgent || self.bytes >= self.bytes_min
    }

    fn bytes_of(&self, share: usize) -> usize {
        self.answers.iter().filter(|(index, _)| *index == share).map(|(_, answer)| answer.bytes()).sum()
    }

    /// Waits until no part is pending. Records that are there have to be asked for again if the others take too long.
    async fn all(&mut self, shares: &mut [Share]) -> Result<(), Hangup> {
        let held_until = Instant::now() + PATIENCE;
        while shares.iter().any(Share::is_pending) {
            let outcomes = tokio::select! {
                biased;
                outcomes = ready(shares) => outcomes,
                () = tokio::time::sleep_until(held_until), if self.bytes > 0 => {
                    self.answers.iter_mut().for_each(|(_, answer)| answer.release_records());
                    self.bytes = 0;
                    continue;
                }
            };
            for (index, outcome) in outcomes {
                self.take(&mut shares[index], index, outcome)?;
            }
        }
        Ok(())
    }

    /// Waits until there is enough, or no part is pending that was asked in this round. Each of those answers in time, or
    /// else it is not waited for: what changes nothing of a session, or was asked for at once before, can be left out.
    async fn enough(&mut self, shares: &mut [Share]) -> Result<(), Hangup> {
        loop {
            let has_asked = shares.iter().any(|share| share.is_pending() && !share.is_kept());
            let has_kept = shares.iter().any(Share::is_kept);
            let goes_on =
                if self.can_wait { !self.is_enough() && (has_asked || has_kept) } else { has_asked };
            if !goes_on {
                return Ok(());
            }
            let end = if has_asked { self.deadline + PATIENCE } else { self.deadline };
            let outcomes = tokio::select! {
                biased;
                outcomes = ready(shares) => outcomes,
                () = tokio::time::sleep_until(end) => return Ok(()),
            };
            for (index, outcome) in outcomes {
                self.take(&mut shares[index], index, outcome)?;
            }
        }
    }

    fn take(&mut self, share: &mut Share, index: usize, outcome: CallOutcome) -> Result<(), Hangup> {
        let was_kept = share.is_from_before();
        let Some(answer) = share.settle(self.caller.version(), outcome)? else {
            return share.ask(self.caller, &self.at_first());
        };
        let has_news = answer.bytes() > 0 || answer.is_urgent();
        self.bytes += answer.bytes();
        self.is_urgent |= answer.is_urgent();
        self.answers.push((index, answer));
        // Its time was that of an earlier round; in this one there may be some left.
        if was_kept && !has_news && self.can_wait && !self.is_enough() && Instant::now() < self.deadline {
            return share.ask(self.caller, &self.at_first());
        }
        Ok(())
    }
}

/// Waits for a part, and returns all that are ready, so that one that is always ready does not starve the others.
async fn ready(shares: &mut [Share]) -> Vec<(usize, CallOutcome)> {
    poll_fn(|context| poll_ready(shares, context)).await
}

fn poll_ready(shares: &mut [Share], context: &mut Context<'_>) -> Poll<Vec<(usize, CallOutcome)>> {
    let mut outcomes = Vec::new();
    for (index, share) in shares.iter_mut().enumerate() {
        if let Poll::Ready(outcome) = share.poll(context) {
            outcomes.push((index, outcome));
        }
    }
    if outcomes.is_empty() { Poll::Pending } else { Poll::Ready(outcomes) }
}

/// Each partition once, at its first place and as it was last.
fn latest(partitions: Vec<FetchedPartition>) -> Vec<FetchedPartition> {
    let mut places: HashMap<Place, usize> = HashMap::with_capacity(partitions.len());
    let mut kept: Vec<FetchedPartition> = Vec::with_capacity(partitions.len());
    for partition in partitions {
        match places.entry(partition.place.clone()) {
            Entry::Occupied(place) => kept[*place.get()] = partition,
            Entry::Vacant(free) => {
                free.insert(kept.len());
                kept.push(partition);
            }
        }
    }
    kept
}
