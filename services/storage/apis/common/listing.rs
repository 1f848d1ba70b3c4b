//! Lists of all documents of a kind, in bounded memory: what a reply has of them is drawn for before it is made.

use std::sync::Arc;

use kernel::budget::Lease;
use kernel::{Call, ErrorCode, Reply};
use rules::documents::{DocumentKind, Key};
use tracing::warn;

use super::groups::store_failed;
use crate::broker::Broker;
use crate::effort::LARGE_BYTES;

/// Documents that are looked at together.
const PAGE: usize = 128;
/// How much memory a row of the reply takes for each of its bytes: as a value, and encoded into what doubles as it grows.
const COPIES: usize = 4;
/// And beside them.
const ROW_BYTES: usize = 128;

/// What a reply has a row of for each document that is wanted.
pub(crate) trait Listing: Sync {
    type Document: DocumentKind;
    type Row: Send;

    /// The rows of some documents, each with the bytes of its texts.
    fn rows(
        &self,
        found: Vec<Found<Self::Document>>,
    ) -> impl Future<Output = Result<Vec<(Self::Row, usize)>, ErrorCode>> + Send;
}

/// A document and its key.
pub(crate) type Found<T> = (<T as DocumentKind>::Key, Arc<T>);

/// The rows of a reply, and the memory for it. If it is large, all documents are looked at twice: the first time to know how
/// much is to be drawn. If they have become many more meanwhile, the client is to ask again. What there is no memory for at all is refused.
pub(crate) async fn rows<L: Listing>(
    broker: &Broker,
    call: &Call,
    listing: &L,
) -> Result<(Vec<L::Row>, Lease), ErrorCode> {
    let (mut bytes, mut all, mut after) = (0, Vec::new(), None);
    while let Some(rows) = page(broker, call, &mut after, listing).await? {
        for (row, size) in rows {
            bytes += taken(size);
            if bytes <= LARGE_BYTES {
                all.push(row);
            }
        }
    }
    if bytes <= LARGE_BYTES {
        return Ok((all, Lease::default()));
    }
    drop(all);
    let bytes_max = broker.replies.bytes_max();
    if bytes > bytes_max {
        warn!(api = %call.header.api, bytes, bytes_max, "a list was refused, because it is larger than `reply_memory`: raise that, or have clients filter");
        return Err(ErrorCode::UnknownServerError);
    }
    let mut lease = Lease::default();
    if !call.ticket.is_part() {
        call.ticket.front().await;
        lease = broker.replies.take(bytes).await;
    }
    let (mut left, mut all, mut after) = (bytes + LARGE_BYTES, Vec::new(), None);
    while let Some(rows) = page(broker, call, &mut after, listing).await? {
        for (row, bytes) in rows {
            left = left.checked_sub(taken(bytes)).ok_or(ErrorCode::CoordinatorLoadInProgress)?;
            all.push(row);
        }
    }
    Ok((all, lease))
}

fn taken(bytes: usize) -> usize {
    ROW_BYTES + COPIES * bytes
}

/// The rows of the page after a key; `None` if there are no more.
async fn page<L: Listing>(
    broker: &Broker,
    call: &Call,
    after: &mut Option<Key>,
    listing: &L,
) -> Result<Option<Vec<(L::Row, usize)>>, ErrorCode> {
    tokio::task::consume_budget().await;
    let found = broker.store.page::<L::Document>(after.take(), PAGE).await;
    let found = found.map_err(|error| store_failed(call, &error))?;
    let Some((last, _)) = found.last() else { return Ok(None) };
    *after = Some(L::Document::key(last));
    listing.rows(found).await.map(Some)
}

/// The reply, which keeps what it needs of the memory.
pub(crate) fn holding(mut reply: Reply, mut lease: Lease) -> Reply {
    if !lease.is_empty() {
        lease.shrink(reply.body.len());
        reply.lease = lease;
    }
    reply
}
