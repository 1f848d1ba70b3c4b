//! Aborts transactions that have timed out, and removes transactional ids that have expired.
//!
//! Each transactional id has an entry in an index by time ([`TransactionDue`]). A look reads the entries up to now, a page at
//! a time, so that its cost grows with what is due; if nothing is, it reads one entry. Any broker may look: the rules decide
//! by the document of the id, and a look that is repeated finds nothing to do.

use std::sync::Arc;
use std::time::Duration;

use kernel::Ticket;
use rules::commands::{Applied, Command, Expired, Outcome, TransactionCommand};
use rules::documents::{DocumentKind, TransactionDocument, TransactionDue, TransactionDueKey};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{info, warn};

use crate::broker::Broker;
use crate::engines::StoreError;
use crate::nodes::Work;

/// How often is looked. Kafka looks every 10 s; an abandoned transaction holds up those who read committed records.
const EVERY: Duration = Duration::from_secs(1);
/// The same of a store that brokers share, where each look is a query of its server.
const EVERY_SHARED: Duration = Duration::from_secs(5);
/// The same while nobody calls, unless something is due earlier: what is begun meanwhile is a call.
const EVERY_AT_REST_MS: i64 = 60_000;
/// After a start, producers that come back may end their transactions themselves.
const FIRST_AFTER: Duration = Duration::from_secs(10);
/// Transactional ids that are looked at in one commit.
const PAGE: usize = 64;
/// What the transactions of several ids in one commit may have in them: others' commits come in between.
const DOCUMENTS_MAX: usize = 256;

/// How many transactional ids are named in the log.
const NAMED: usize = 10;

/// What a look has done, for the operator's log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Looked {
    /// Transactions that had timed out, and were aborted.
    pub(crate) aborted: usize,
    /// The transactional ids of the first of them.
    pub(crate) aborted_ids: Vec<Arc<str>>,
    /// Transactional ids that had expired, and were removed.
    pub(crate) removed: usize,
    /// Transactional ids that could not be looked at.
    pub(crate) failed: usize,
    /// When the next entry of the index is due, in ms, as far as the look has seen.
    pub(crate) next_ms: Option<i64>,
}

impl Looked {
    fn add(&mut self, broker: &Broker, id: Arc<str>, outcome: &Outcome) {
        match outcome {
            Ok(Applied::TransactionExpired(Expired::Transaction)) => {
                self.aborted += 1;
                if self.aborted_ids.len() < NAMED {
                    self.aborted_ids.push(id);
                }
                broker.transaction_metrics.timed_out.add(1);
            }
            Ok(Applied::TransactionExpired(Expired::Id)) => {
                self.removed += 1;
                broker.transaction_metrics.expired_ids.add(1);
            }
            Ok(_) => {}
            Err(_) => self.failed += 1,
        }
    }
}

impl Looked {
    fn tell(&self) {
        if self.aborted > 0 {
            let (transactions, first) = (self.aborted, self.aborted_ids.join(", "));
            info!(
                transactions,
                first, "transactions were open for longer than their timeout, and were aborted"
            );
        }
        if self.removed > 0 {
            info!(ids = self.removed, "transactional ids were not used for a week, and were removed");
        }
    }
}

/// Looks again and again.
pub(crate) async fn run(broker: &Broker) {
    let Ok(engine) = broker.store.engine().await else { return std::future::pending().await };
    let every = if engine.sharing().is_some() { EVERY_SHARED } else { EVERY };
    drop(engine);
    let mut ticks = tokio::time::interval_at(Instant::now() + FIRST_AFTER, every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut is_failing, mut wake_ms) = (false, 0);
    loop {
        ticks.tick().await;
        let now_ms = broker.clock.now_ms();
        // A clock that was set back must not keep it from looking.
        if broker.nodes.rests() && (wake_ms - EVERY_AT_REST_MS..wake_ms).contains(&now_ms) {
            continue;
        }
        if broker.store.engine_if_open().is_none() || !broker.nodes.does(Work::Transactions) {
            continue;
        }
        let looked = look(broker).await;
        wake_ms = 0;
        if let Ok(looked) = &looked {
            looked.tell();
            let latest_ms = now_ms.saturating_add(EVERY_AT_REST_MS);
            if looked.failed == 0 {
                wake_ms = looked.next_ms.map_or(latest_ms, |next_ms| next_ms.min(latest_ms));
            }
        }
        // Said once: it is tried again and again.
        let has_failed = !matches!(looked, Ok(Looked { failed: 0, .. }));
        if has_failed && !is_failing {
            let error = looked.err().map_or_else(|| "the store refused to".to_owned(), |error| error.0);
            warn!(%error, "transactions that have timed out could not be aborted; it is tried again and again");
        }
        is_failing = has_failed;
    }
}

/// Looks at all transactional ids that are due.
pub(crate) async fn look(broker: &Broker) -> Result<Looked, StoreError> {
    let now_ms = broker.clock.now_ms();
    let (mut looked, mut after, mut limit) = (Looked::default(), None, 1);
    loop {
        let page = broker.store.page::<TransactionDue>(after.take(), limit).await?;
        let (mut due, mut later): (Vec<TransactionDueKey>, _) = (Vec::new(), None);
        for (key, _) in page {
            if key.at_ms > now_ms {
                later = Some(key.at_ms);
                break;
            }
            due.push(key);
        }
        looked.next_ms = later;
        let Some(last) = due.last() else { return Ok(looked) };
        let is_last = due.len() < limit;
        after = Some(TransactionDue::key(last));
        for part in parts(broker, due).await {
            expire_each(broker, part, now_ms, &mut looked).await;
        }
        if is_last {
            return Ok(looked);
        }
        limit = PAGE;
    }
}

/// Divides a page into what is committed together.
async fn parts(broker: &Broker, due: Vec<TransactionDueKey>) -> Vec<Vec<TransactionDueKey>> {
    let ids: Vec<Arc<str>> = due.iter().map(|due| Arc::clone(&due.transaction)).collect();
    // Those that cannot be read are looked at one by one.
    let Ok(documents) = broker.store.get::<TransactionDocument>(&ids).await else {
        return due.into_iter().map(|one| vec![one]).collect();
    };
    let (mut parts, mut sum) = (Vec::<Vec<TransactionDueKey>>::new(), 0);
    for (one, document) in due.into_iter().zip(documents) {
        let contents = document.map_or(0, |document| document.contents.documents as usize);
        sum += contents;
        match parts.last_mut() {
            Some(part) if sum <= DOCUMENTS_MAX => part.push(one),
            _ => {
                parts.push(vec![one]);
                sum = contents;
            }
        }
    }
    parts
}

/// Expires some of them together or, if that fails, each by itself: one holds up no other.
async fn expire_each(broker: &Broker, due: Vec<TransactionDueKey>, now_ms: i64, looked: &mut Looked) {
    let ids: Vec<Arc<str>> = due.iter().map(|due| Arc::clone(&due.transaction)).collect();
    if let Ok(outcomes) = expire(broker, due.clone(), now_ms).await {
        ids.into_iter().zip(outcomes).for_each(|(id, outcome)| looked.add(broker, id, &outcome));
        return;
    }
    for (id, one) in ids.into_iter().zip(due) {
        match expire(broker, vec![one], now_ms).await {
            Ok(outcomes) => outcomes.iter().for_each(|outcome| looked.add(broker, Arc::clone(&id), outcome)),
            Err(_) => looked.failed += 1,
        }
    }
}

async fn expire(
    broker: &Broker,
    due: Vec<TransactionDueKey>,
    now_ms: i64,
) -> Result<Vec<Outcome>, StoreError> {
    let leader_epoch = broker.store.epoch_to_append(now_ms).await?;
    let expire = |TransactionDueKey { at_ms, transaction }: TransactionDueKey| Command::Transaction {
        id: transaction,
        command: TransactionCommand::Expire { taken_ms: at_ms, now_ms, leader_epoch },
    };
    broker.store.commit(&Ticket::only(), due.into_iter().map(expire).collect()).await
}

#[cfg(test)]
mod tests {
    use rules::commands::InitTransaction;
    use rules::documents::TransactionState;

    use super::*;
    use crate::apis::testing::{NOW_MS, broker};

    async fn commit(broker: &Broker, id: &str, command: TransactionCommand) -> Applied {
        let command = Command::Transaction { id: Arc::from(id), command };
        broker.store.commit_one(&Ticket::only(), command).await.unwrap().unwrap()
    }

    /// Begins a transaction of an id at a time.
    async fn begin(broker: &Broker, id: &str, now_ms: i64, timeout_ms: i32) {
        let init =
            InitTransaction { timeout_ms, producer: None, version: 2, seed: 1, now_ms, leader_epoch: 0 };
        let applied = commit(broker, id, TransactionCommand::Init(init)).await;
        let Applied::TransactionalProducer(producer) = applied else { panic!("{applied:?}") };
        let group = Arc::from("g");
        commit(broker, id, TransactionCommand::AddGroup { producer, group, now_ms }).await;
    }

    async fn state(broker: &Broker, id: &str) -> Option<TransactionState> {
        let document = broker.store.get_one::<TransactionDocument>(&Arc::from(id)).await.unwrap();
        document.map(|document| document.state)
    }

    #[tokio::test]
    async fn what_has_timed_out_is_aborted_and_what_has_expired_is_removed() {
        let broker = broker().await;
        assert_eq!(look(&broker).await.unwrap(), Looked::default(), "nothing is there");
        let ids: Vec<String> = (0..150).map(|number| format!("id-{number}")).collect();
        for id in &ids {
            begin(&broker, id, NOW_MS - 20_000, 10_000).await;
        }
        begin(&broker, "open", NOW_MS, 60_000).await;
        begin(&broker, "old", NOW_MS - TransactionDocument::EXPIRY_MS - 30_000, 10_000).await;
        let looked = look(&broker).await.unwrap();
        assert_eq!((looked.aborted, looked.removed, looked.failed), (151, 0, 0));
        assert_eq!((looked.aborted_ids.len(), &*looked.aborted_ids[0]), (NAMED, "old"), "the first ones");
        assert_eq!(state(&broker, "id-149").await, Some(TransactionState::CompleteAbort));
        assert_eq!(state(&broker, "open").await, Some(TransactionState::Ongoing));
        let next_ms = Some(NOW_MS + 60_000);
        let nothing = Looked { next_ms, ..Looked::default() };
        assert_eq!(look(&broker).await.unwrap(), nothing, "each has another time now");
    }

    #[tokio::test]
    async fn an_id_that_was_idle_is_removed() {
        let broker = broker().await;
        let now_ms = NOW_MS - TransactionDocument::EXPIRY_MS - 2 * 60 * 60 * 1_000;
        let init = InitTransaction {
            timeout_ms: 10_000,
            producer: None,
            version: 2,
            seed: 1,
            now_ms,
            leader_epoch: 0,
        };
        commit(&broker, "x", TransactionCommand::Init(init)).await;
        assert_eq!(look(&broker).await.unwrap(), Looked { removed: 1, ..Looked::default() });
        assert_eq!(state(&broker, "x").await, None);
        assert!(broker.store.page::<TransactionDue>(None, 1).await.unwrap().is_empty());
    }
}
