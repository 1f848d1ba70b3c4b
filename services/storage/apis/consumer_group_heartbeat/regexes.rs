//! The topics that match the regular expressions of a group.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kernel::Call;
use rules::commands::{ConsumerHeartbeat, Refused, ResolvedRegex};
use rules::documents::{GroupDocument, GroupTopics};

use super::Result;
use crate::apis::common::groups::store_failed;
use crate::broker::Broker;
use crate::coordinator::Resolved;
use crate::engines::StoreError;
use crate::regexes::{Matching, RegexError};

/// How many expressions one heartbeat matches, and after how long it begins no other: some may take long and be refused.
/// The next heartbeats go on.
const MATCHED_MAX: usize = 8;
const TIME_MAX: Duration = Duration::from_secs(1);

/// Adds the topics that match the member's expression, and those of the group's other members, to its heartbeat.
/// Returns what the group is held against once the heartbeat is applied.
pub(super) async fn resolve(
    broker: &Broker,
    call: &Call,
    group: &Arc<str>,
    heartbeat: &mut ConsumerHeartbeat,
) -> Result<Resolved> {
    let failed = |error: StoreError| Refused::new(store_failed(call, &error), error.0);
    let directory = broker.directory();
    let version = directory.version();
    let document = broker.store.get_one::<GroupDocument>(group).await.map_err(failed)?;
    let sent = heartbeat.regex.clone().filter(|regex| !regex.is_empty());
    let topics = broker.store.get_one::<GroupTopics>(group).await.map_err(failed)?;
    let topics = document.as_ref().map(|document| GroupTopics::of(document, topics)).unwrap_or_default();
    let all = regexes(&topics, heartbeat);
    let stored = |regex: &Arc<str>| topics.regexes.get(regex);
    let is_done =
        |regex: &Arc<str>| stored(regex).is_some() && broker.coordinator.has_matched(group, regex, version);
    let mut resolved = Resolved { version, ..Resolved::default() };
    // After an upgrade the expressions of a group are known only once its members have been counted.
    let mut is_current = document.as_ref().is_none_or(|document| document.tally.is_some());
    let started = Instant::now();
    // What the member sends now comes first, and it waits for it.
    let others = all.iter().filter(|regex| Some(*regex) != sent.as_ref() && !is_done(regex)).cloned();
    for regex in sent.iter().cloned().chain(others) {
        let is_sent = sent.as_ref() == Some(&regex);
        if resolved.matched.len() == MATCHED_MAX || (!is_sent && started.elapsed() > TIME_MAX) {
            is_current = false;
            break;
        }
        match broker.regexes.matching(&*directory, &regex, is_sent).await {
            Ok(Some(Matching { topics, version: matched })) => {
                is_current &= matched == version;
                if is_sent || stored(&regex) != Some(&*topics) {
                    let regex = Arc::clone(&regex);
                    heartbeat.resolved_regexes.push(ResolvedRegex { regex, topics: (*topics).clone() });
                }
                resolved.matched.push((regex, matched));
            }
            // What it matched before stays.
            Ok(None) => is_current = false,
            Err(RegexError::Refused(_)) if !is_sent => is_current = false,
            Err(RegexError::Refused(refused)) => return Err(refused),
            Err(RegexError::Failed(cause)) => return Err(failed(StoreError(cause))),
        }
    }
    resolved.regexes = all;
    resolved.epoch = document.map(|document| document.generation).filter(|_| is_current);
    Ok(resolved)
}

/// All expressions of the group's members, as they are with this heartbeat.
fn regexes(topics: &GroupTopics, heartbeat: &ConsumerHeartbeat) -> BTreeSet<Arc<str>> {
    topics.by_regex.keys().chain(&heartbeat.regex).filter(|regex| !regex.is_empty()).cloned().collect()
}
