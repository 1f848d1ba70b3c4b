//! The metrics that a client must push, and how often.

use std::sync::Arc;

use rules::configs::client_metrics::{INTERVAL, INTERVAL_MS_DEFAULT, MATCH, METRICS, elements, selectors};

use super::Client;
use rules::documents::Subscription;

/// Kafka's "all metrics" in a subscription: a prefix of every name.
const ALL: &str = "";

/// The subscription of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Prefixes of metric names; none for no metrics, an empty one for all.
    pub(crate) metrics: Vec<String>,
    /// Push interval, in ms.
    pub(crate) interval_ms: i32,
    /// Subscription id: changes when the other fields do.
    pub(crate) id: i32,
}

/// The union of all subscriptions that match the client.
pub(crate) fn asked_of(client: &Client, subscriptions: &[(Arc<str>, Arc<Subscription>)]) -> Asked {
    let matching: Vec<&Subscription> = subscriptions
        .iter()
        .map(|(_, subscription)| &**subscription)
        .filter(|own| fits(client, own))
        .collect();
    let get = |own: &Subscription, name: &str| own.0.get(name).cloned().unwrap_or_default();
    let mut metrics: Vec<String> = Vec::new();
    for own in &matching {
        metrics
            .extend(elements(&get(own, METRICS)).map(|name| if name == "*" { ALL } else { name }.to_owned()));
    }
    metrics.sort();
    metrics.dedup();
    if metrics.first().is_some_and(|first| first == ALL) {
        metrics.truncate(1);
    }
    let interval = |own: &&Subscription| get(own, INTERVAL).trim().parse().ok();
    let asking = matching.iter().filter(|own| own.0.contains_key(METRICS));
    let interval_ms = asking.map(|own| interval(own).unwrap_or(INTERVAL_MS_DEFAULT)).min();
    let interval_ms = interval_ms.unwrap_or(INTERVAL_MS_DEFAULT);
    // A checksum, so that all brokers compute the same id.
    let text = format!("{interval_ms} {}", metrics.join(","));
    let id = crc32c::crc32c(text.as_bytes()) as i32;
    Asked { metrics, interval_ms, id }
}

fn fits(client: &Client, subscription: &Subscription) -> bool {
    let text = subscription.0.get(MATCH).map(String::as_str).unwrap_or_default();
    // Stored selectors have been validated.
    let Ok(selectors) = selectors(text) else { return false };
    selectors.iter().all(|(name, pattern)| pattern.is_match(&value(client, name)))
}

fn value(client: &Client, selector: &str) -> String {
    match selector {
        "client_instance_id" => client.instance.to_string(),
        "client_id" => client.id.to_string(),
        "client_software_name" => client.software.0.clone(),
        "client_software_version" => client.software.1.clone(),
        "client_source_address" => client.source.0.clone(),
        _ => client.source.1.to_string(),
    }
}
