//! How the records of a Fetch response travel beside its encoded body. This file alone knows.

use bytes::Bytes;

use crate::records_later::Records;
use crate::reply::Reply;

/// Takes the body of a reply, and the records that are beside it: none, or some for each partition of the response.
pub(super) fn open(reply: &mut Reply) -> (Bytes, Vec<Records>) {
    (std::mem::take(&mut reply.body), std::mem::take(&mut reply.records))
}

/// Puts a body whose records are empty into a reply, with the records of each of its partitions.
pub(super) fn close(reply: &mut Reply, body: Bytes, records: Vec<Records>) {
    reply.body = body;
    if records.iter().any(|records| records.bytes() > 0) {
        reply.records = records;
    }
}
