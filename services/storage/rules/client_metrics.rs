//! Subscriptions to clients' metrics: made, changed and unmade by their configs alone (KIP-714).

use std::collections::BTreeMap;
use std::sync::Arc;

use super::command::{Done, NewConfigs, Outcome};
use super::configs::{self, client_metrics};
use super::documents::{Document, Key};
use super::working_set::WorkingSet;

/// The configs of a subscription, as clients wrote them.
pub type Subscription = BTreeMap<String, String>;

/// A subscription without configs is none.
pub(super) fn alter(set: &mut WorkingSet<'_>, name: &Arc<str>, change: NewConfigs) -> Outcome {
    let configs = match change {
        NewConfigs::Replace(configs) => configs,
        NewConfigs::Incremental(operations) => {
            let before = set.client_metrics(name).cloned().unwrap_or_default();
            // Kafka does not take the lists among them for lists here.
            configs::apply(before, operations, |_| None)?
        }
    };
    client_metrics::check(&configs)?;
    let key = Key::ClientMetrics(Arc::clone(name));
    match configs.is_empty() {
        true => set.delete(key),
        false => set.put(key, Document::ClientMetrics(Arc::new(configs))),
    }
    Ok(Done::Changed)
}
