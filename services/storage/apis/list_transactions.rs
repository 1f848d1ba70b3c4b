//! ListTransactions (KIP-664): the transactional ids whose coordinator this is, all or those that filters leave, by state,
//! producer, duration (KIP-994) and a pattern of ids (KIP-1152).

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use kafka_protocol::messages::list_transactions_response::TransactionState as Listed;
use kafka_protocol::messages::{ListTransactionsRequest, ListTransactionsResponse, TransactionalId};
use kafka_protocol::protocol::StrBytes;
use kernel::budget::Lease;
use kernel::{Call, ErrorCode};
use rules::documents::TransactionDocument;
use tracing::warn;

use crate::apis::common::answer::Answer;
use crate::apis::common::listing::{Found, Listing, holding, rows};
use crate::apis::common::text::{str_bytes, to_wire};
use crate::apis::common::yielding::each;
use crate::broker::Broker;
use crate::nodes::{Cluster, Coordinates};
use crate::regexes::RegexError;

/// Kafka's states. Most transactional ids are never in some of them here.
const STATES: [&str; 8] = [
    "Empty",
    "Ongoing",
    "PrepareCommit",
    "PrepareAbort",
    "CompleteCommit",
    "CompleteAbort",
    "Dead",
    "PrepareEpochFence",
];

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: ListTransactionsRequest = call.decode()?;
    call.ticket.after_writes().await;
    let (response, lease) = match list(broker, call, &request).await {
        Ok((listed, lease)) => {
            let response = ListTransactionsResponse::default()
                .with_unknown_state_filters(unknown_states(&request.state_filters).await)
                .with_transaction_states(listed);
            (response, lease)
        }
        Err(error) => (ListTransactionsResponse::default().with_error_code(error.code()), Lease::default()),
    };
    Ok(Some(holding(call.reply(&response)?, lease)))
}

/// The states of a filter that do not exist, each once.
async fn unknown_states(filter: &[StrBytes]) -> Vec<StrBytes> {
    let mut seen = HashSet::with_capacity(filter.len());
    let unknown = each(filter, |state| {
        let is_unknown = !STATES.contains(&state.as_str()) && seen.insert(state.as_str());
        is_unknown.then(|| state.clone())
    });
    unknown.await.into_iter().flatten().collect()
}

async fn list(
    broker: &Broker,
    call: &Call,
    request: &ListTransactionsRequest,
) -> Result<(Vec<Listed>, Lease), ErrorCode> {
    let filter = Filter::new(request, broker.clock.now_ms());
    let pattern = request.transactional_id_pattern.as_ref().filter(|pattern| !pattern.is_empty());
    let cluster = broker.nodes.cluster(&call.session);
    let wanted = Wanted { broker, call, cluster, filter, pattern };
    // A wrong pattern is refused, also if there are no ids.
    wanted.matching(Vec::new()).await?;
    rows(broker, call, &wanted).await
}

/// The transactional ids that filters leave.
struct Wanted<'a> {
    broker: &'a Broker,
    call: &'a Call,
    cluster: Cluster,
    filter: Filter<'a>,
    pattern: Option<&'a StrBytes>,
}

impl Listing for Wanted<'_> {
    type Document = TransactionDocument;
    type Row = Listed;

    async fn rows(
        &self,
        mut found: Vec<Found<TransactionDocument>>,
    ) -> Result<Vec<(Listed, usize)>, ErrorCode> {
        let is_here = |id: &str| self.cluster.coordinates(Coordinates::Transaction, id);
        found.retain(|(id, document)| self.filter.wants(document) && is_here(id));
        let ids = found.iter().map(|(id, _)| Arc::clone(id)).collect();
        if let Some(matching) = self.matching(ids).await? {
            found.retain(|(id, _)| matching.contains(id));
        }
        Ok(found.iter().map(|(id, document)| (listed(id, document), id.len())).collect())
    }
}

impl Wanted<'_> {
    /// Those of some ids that the pattern matches, if there is one.
    async fn matching(&self, ids: Vec<Arc<str>>) -> Result<Option<Arc<BTreeSet<Arc<str>>>>, ErrorCode> {
        let Some(pattern) = self.pattern else { return Ok(None) };
        let matching = self.broker.regexes.filter(pattern, ids).await;
        matching.map(Some).map_err(|error| pattern_failed(self.call, error))
    }
}

fn pattern_failed(call: &Call, error: RegexError) -> ErrorCode {
    match error {
        RegexError::Refused(refused) => {
            // The response has no message.
            warn!(api = %call.header.api, "a pattern was refused: {}", refused.message);
            refused.error
        }
        RegexError::Failed(cause) => {
            warn!(api = %call.header.api, "a pattern could not be matched: {cause}");
            ErrorCode::CoordinatorNotAvailable
        }
    }
}

fn listed(id: &Arc<str>, document: &TransactionDocument) -> Listed {
    Listed::default()
        .with_transactional_id(TransactionalId(to_wire(id)))
        .with_producer_id(document.producer_id.0.into())
        .with_transaction_state(str_bytes(document.state.name()))
}

/// The filters that need only the document of an id. An empty one leaves all.
struct Filter<'a> {
    states: HashSet<&'a str>,
    producers: HashSet<i64>,
    /// Transactions that run for longer, in ms; negative for all.
    longer_than_ms: i64,
    now_ms: i64,
}

impl<'a> Filter<'a> {
    fn new(request: &'a ListTransactionsRequest, now_ms: i64) -> Self {
        Self {
            states: request.state_filters.iter().map(|state| state.as_str()).collect(),
            producers: request.producer_id_filters.iter().map(|id| id.0).collect(),
            longer_than_ms: request.duration_filter,
            now_ms,
        }
    }

    fn wants(&self, document: &TransactionDocument) -> bool {
        let is_long = || self.now_ms.saturating_sub(since_ms(document)) > self.longer_than_ms;
        (self.states.is_empty() || self.states.contains(document.state.name()))
            && (self.producers.is_empty() || self.producers.contains(&document.producer_id.0))
            && (self.longer_than_ms < 0 || is_long())
    }
}

/// Since when a transaction runs. As in Kafka, one that was never begun runs for ever, and one that has ended counts still.
fn since_ms(document: &TransactionDocument) -> i64 {
    document.started_ms.unwrap_or(-1)
}

#[cfg(test)]
mod tests {
    use kernel::Api;
    use kernel::clock::ManualClock;

    use super::*;
    use crate::apis::testing::{
        NOW_MS, ask, broker, broker_over, end_transaction, open_transaction, transactional_producer, versions,
    };
    use crate::engines::memory::Memory;

    async fn answer(
        broker: &Arc<Broker>,
        version: i16,
        request: &ListTransactionsRequest,
    ) -> ListTransactionsResponse {
        ask(broker, Api::LIST_TRANSACTIONS, version, request).await
    }

    /// Ids and states.
    async fn list(broker: &Arc<Broker>, version: i16, request: &ListTransactionsRequest) -> Vec<String> {
        let response = answer(broker, version, request).await;
        assert_eq!(response.error_code, 0);
        let row = |state: &Listed| {
            format!("{} {}", state.transactional_id.as_str(), state.transaction_state.as_str())
        };
        response.transaction_states.iter().map(row).collect()
    }

    fn states(states: &[&str]) -> ListTransactionsRequest {
        ListTransactionsRequest::default()
            .with_state_filters(states.iter().map(|state| str_bytes(state)).collect())
    }

    fn pattern(pattern: &str) -> ListTransactionsRequest {
        ListTransactionsRequest::default().with_transactional_id_pattern(Some(str_bytes(pattern)))
    }

    /// `a` is empty, `b` is open, `c` is committed.
    async fn with_three(broker: &Broker) {
        transactional_producer(broker, "a").await;
        open_transaction(broker, "b").await;
        let producer = open_transaction(broker, "c").await;
        end_transaction(broker, "c", producer, true).await;
    }

    #[tokio::test]
    async fn filters_leave_those_that_match_all_of_them() {
        let broker = broker().await;
        with_three(&broker).await;
        let id = transactional_producer(&broker, "d").await.id.0;
        for version in versions(Api::LIST_TRANSACTIONS) {
            let all = list(&broker, version, &ListTransactionsRequest::default()).await;
            assert_eq!(all, ["a Empty", "b Ongoing", "c CompleteCommit", "d Empty"]);
            let some = list(&broker, version, &states(&["Ongoing", "CompleteCommit", "Dead"])).await;
            assert_eq!(some, ["b Ongoing", "c CompleteCommit"]);
            let of_producer = ListTransactionsRequest::default().with_producer_id_filters(vec![id.into()]);
            assert_eq!(list(&broker, version, &of_producer).await, ["d Empty"]);
            let neither = of_producer.with_state_filters(vec![str_bytes("Ongoing")]);
            assert!(list(&broker, version, &neither).await.is_empty());
        }
    }

    #[tokio::test]
    async fn unknown_states_are_told_and_match_nothing() {
        let broker = broker().await;
        with_three(&broker).await;
        let response = answer(&broker, 0, &states(&["ongoing", "Empty", "Gone", "ongoing"])).await;
        let unknown: Vec<&str> = response.unknown_state_filters.iter().map(|state| state.as_str()).collect();
        assert_eq!((response.error_code, unknown), (0, vec!["ongoing", "Gone"]));
        assert_eq!(response.transaction_states.len(), 1);
        assert!(list(&broker, 0, &states(&["Gone"])).await.is_empty());
    }

    #[tokio::test]
    async fn a_duration_leaves_those_that_run_for_longer() {
        let clock = Arc::new(ManualClock::at(NOW_MS + 5_000));
        let broker = broker_over(Arc::new(Memory::new()), clock, 64 << 20);
        with_three(&broker).await;
        let longer = |ms| ListTransactionsRequest::default().with_duration_filter(ms);
        for version in [1, 2] {
            let all = ["a Empty", "b Ongoing", "c CompleteCommit"];
            for ms in [-1, 0, 4_999] {
                assert_eq!(list(&broker, version, &longer(ms)).await, all);
            }
            assert_eq!(list(&broker, version, &longer(5_000)).await, ["a Empty"]);
        }
    }

    #[tokio::test]
    async fn a_pattern_matches_whole_ids() {
        let broker = broker().await;
        with_three(&broker).await;
        transactional_producer(&broker, "ab").await;
        assert_eq!(list(&broker, 2, &pattern("a|c")).await, ["a Empty", "c CompleteCommit"]);
        assert_eq!(list(&broker, 2, &pattern("a.+")).await, ["ab Empty"]);
        assert_eq!(list(&broker, 2, &pattern("")).await.len(), 4);
        for wrong in ["(", &*"x".repeat(2_000)] {
            let response = answer(&broker, 2, &pattern(wrong)).await;
            assert_eq!((response.error_code, response.transaction_states.len()), (128, 0));
        }
    }
}
