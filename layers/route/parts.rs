//! A call of several services: divided, sent to each, and the replies merged.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use kernel::split::{self, Division, ItemKey, Splitter, Whole};
use kernel::{Call, ErrorCode, Hangup, Malformed, Reply};

use super::choose::Named;
use super::owners::IdOwners;
use super::rules::Candidates;
use super::table::Table;
use crate::observed_call::CallOutcome;

/// The error message for a call that cannot be split.
const NO_SPLIT: &str = "the topics of this request belong to different services, and Yagura does not split requests \
                        of this API: ask for the topics of each service apart";

/// Looks up the names of the call's topic ids, and sends the call to the service or services of its topics.
pub(super) async fn enter(table: Arc<Table>, mut named: Named, call: Call) -> CallOutcome {
    let (listener, api) = (Arc::clone(&call.session.listener), call.header.api);
    let mut ids = IdOwners::default();
    if !named.ids.is_empty() {
        match table.directory.find_ids(std::mem::take(&mut named.ids)).await {
            Ok(topics) => ids = IdOwners::new(&table.rules.candidates(&listener, api), &topics),
            Err(cause) => return table.refuse_without_names(&call, &cause),
        }
    }
    ids.services().for_each(|service| named.add(service));
    if !named.is_for_all
        && let [] | [_] = named.services.as_slice()
    {
        let service = named.services.first().copied();
        let service = service.unwrap_or_else(|| table.rules.candidates(&listener, api).otherwise);
        return table.enter(service, call).await;
    }
    match split::find(api) {
        Some(splitter) => enter_parts(table, splitter, named.is_for_all, ids, call).await,
        None => call.refuse(ErrorCode::InvalidRequest, NO_SPLIT),
    }
}

async fn enter_parts(
    table: Arc<Table>,
    splitter: &'static Splitter,
    is_for_all: bool,
    ids: IdOwners,
    call: Call,
) -> CallOutcome {
    let (listener, api) = (Arc::clone(&call.session.listener), call.header.api);
    let divided = divide(&table.rules.candidates(&listener, api), splitter, is_for_all, &ids, &call);
    let Division { parts, merger } = divided.map_err(unreadable)?;
    let (services, bodies): (Vec<usize>, Vec<Bytes>) =
        parts.into_iter().map(|part| (part.owner, part.body)).unzip();
    let calls = services.into_iter().zip(call.into_parts(bodies));
    let replies = join_all(calls.map(|(service, part)| table.enter(service, part))).await;
    // All parts have been done, so a part that fails does not keep the others from what they were to do.
    let replies: Vec<Option<Reply>> = replies.into_iter().collect::<Result<_, Hangup>>()?;
    if replies.iter().all(Option::is_none) {
        return Ok(None);
    }
    let replies: Option<Vec<Reply>> = replies.into_iter().collect();
    let replies = replies.ok_or(Hangup(Cow::Borrowed("a service did not answer its part of a call")))?;
    let candidates = table.rules.candidates(&listener, api);
    merger.merge(replies, &|key: &ItemKey| ids.of(&candidates, key)).map(Some).map_err(unreadable)
}

fn divide(
    candidates: &Candidates<'_>,
    splitter: &Splitter,
    is_for_all: bool,
    ids: &IdOwners,
    call: &Call,
) -> Result<Division, Malformed> {
    let whole = Whole {
        version: call.header.version,
        body: call.body.raw(),
        is_for_all,
        owner: &|key: &ItemKey| ids.of(candidates, key),
        owners: &candidates.services(),
    };
    splitter.divide(&whole)
}

fn unreadable(malformed: Malformed) -> Hangup {
    Hangup::because(malformed.to_string())
}
