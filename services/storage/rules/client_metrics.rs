//! Client metrics subscriptions: created, altered and deleted through their configs alone (KIP-714).

use std::sync::Arc;

use crate::commands::{Applied, NewConfigs, Outcome};
use crate::configs::{self, client_metrics};
use crate::documents::Subscription;
use crate::working_set::WorkingSet;

/// A subscription without configs is deleted.
pub(crate) fn alter(set: &mut WorkingSet<'_>, name: &Arc<str>, change: &NewConfigs) -> Outcome {
    let configs = match change {
        NewConfigs::Replace(configs) => configs.clone(),
        NewConfigs::Incremental(operations) => {
            let before = set.get::<Subscription>(name).cloned().unwrap_or_default();
            // Kafka does not treat its list configs as lists here.
            configs::apply(before.0, operations, |_| None)?
        }
    };
    client_metrics::check(&configs)?;
    if configs.is_empty() {
        set.delete::<Subscription>(name);
    } else {
        set.put::<Subscription>(name, Subscription(configs));
    }
    Ok(Applied::Changed)
}
