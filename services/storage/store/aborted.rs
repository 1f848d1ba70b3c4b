//! Aborted transactions: what a reader of committed records has to skip in what it reads (KIP-98).

use std::ops::Range;

use kernel::{ProducerId, TopicPartition};
use rules::documents::{AbortedTransaction, DocumentKind};

use super::engine::Store;
use crate::engines::{Engine, StoreError};

/// Documents that are read at first; most ranges have a few. Each time after that it is four times as many, up to the last.
const PAGE_FIRST: usize = 16;
const PAGE_MAX: usize = 1_024;

/// An aborted transaction, as a reader is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Aborted {
    /// Its producer.
    pub(crate) producer: ProducerId,
    /// Its first offset. It ends at the next marker of the producer.
    pub(crate) first_offset: i64,
}

/// The aborted transactions with records in a range of offsets that ends at the last stable offset or before, in the order
/// of their markers; `None` if there are more than `limit`.
///
/// It reads those whose markers are in the range or behind it, up to the first that tells that no later one begins in the
/// range: about as many as were aborted in the range, and while its last transactions were open.
pub(crate) async fn aborted_in(
    engine: &dyn Engine,
    at: TopicPartition,
    range: Range<i64>,
    limit: usize,
) -> Result<Option<Vec<Aborted>>, StoreError> {
    let prefix = AbortedTransaction::of_partition(at);
    let (mut after, mut page_max) = (AbortedTransaction::before(at, range.start), PAGE_FIRST);
    let mut all = Vec::new();
    loop {
        let page = engine.scan(prefix.clone(), Some(after), page_max).await?;
        for (key, document) in &page {
            let key = AbortedTransaction::parse_key(key);
            let Some((key, aborted)) = key.zip(document.get::<AbortedTransaction>()) else { continue };
            if aborted.first_offset < range.end {
                if all.len() == limit {
                    return Ok(None);
                }
                all.push(Aborted { producer: key.producer, first_offset: aborted.first_offset });
            }
            if aborted.last_stable >= range.end {
                return Ok(Some(all));
            }
        }
        let is_last = page.len() < page_max;
        match page.into_iter().next_back() {
            Some((key, _)) if !is_last => after = key,
            _ => return Ok(Some(all)),
        }
        page_max = PAGE_MAX.min(4 * page_max);
    }
}

impl Store {
    /// The aborted transactions in a range of a partition: see [`aborted_in`].
    pub(crate) async fn aborted(
        &self,
        at: TopicPartition,
        range: Range<i64>,
        limit: usize,
    ) -> Result<Option<Vec<Aborted>>, StoreError> {
        let engine = self.engine().await?;
        aborted_in(&*engine, at, range, limit).await
    }
}
