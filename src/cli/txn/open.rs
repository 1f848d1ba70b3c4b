//! `yagura txn open`: what is open in partitions, from where on, and whose it is. It is what readers of committed records wait
//! for.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use clap::Args;
use kernel::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use crate::client::Cluster;
use crate::client::groups::TopicIndex;
use crate::client::transactions::{ActiveProducer, TransactionDescription, TransactionFilter};

use super::super::connect::Connect;
use super::super::output::{self, Failure, Format, row};
use super::lasting;

/// Show which transactions are open in partitions, and so hold up readers of committed records.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  yagura txn open --topic orders")]
pub(super) struct ShowOpen {
    #[command(flatten)]
    places: Places,
    /// A table for people, or JSON.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

/// Where to look for open transactions.
#[derive(Debug, Args)]
pub(super) struct Places {
    /// Only in this topic.
    #[arg(long)]
    topic: Option<String>,
    /// Only in this partition of the topic; may be given several times.
    #[arg(long, value_name = "N", requires = "topic")]
    partition: Vec<i32>,
}

/// A transaction that is open in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    pub(super) place: TopicIndex,
    pub(super) producer: ActiveProducer,
    /// The transactional id of its producer, if that is known.
    pub(super) id: Option<TransactionDescription>,
}

impl Open {
    /// Whether its transactional id will not end it.
    pub(super) fn is_hanging(&self) -> bool {
        self.id.as_ref().is_none_or(|id| !id.partitions.contains(&self.place))
    }
}

impl ShowOpen {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let cluster = self.connect.cluster().await?;
        let mut open = self.places.open(&cluster).await?;
        find_ids(&cluster, &mut open).await?;
        print(&open, self.format, SystemClock.now_ms())?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Places {
    /// What is open in these partitions. The transactional ids are still to be found.
    pub(super) async fn open(&self, cluster: &Cluster) -> Result<Vec<Open>, Failure> {
        let topics = match &self.topic {
            Some(name) => vec![cluster.topic(name).await?],
            None => cluster.topics().await?,
        };
        let mut open = Vec::new();
        for topic in topics {
            let mut partitions = self.partition.clone();
            if partitions.is_empty() {
                partitions = topic.partitions.iter().map(|partition| partition.index).collect();
            }
            open.extend(open_in(cluster, &topic.name, &partitions).await?);
        }
        Ok(open)
    }
}

/// Prints transactions in a format.
pub(super) fn print(open: &[Open], format: Format, now_ms: i64) -> Result<(), Failure> {
    match format {
        Format::Text => output::print(&table(open, now_ms))?,
        Format::Json => output::print_json(&open.iter().map(to_json).collect())?,
    }
    Ok(())
}

/// What is open in partitions of a topic. The transactional ids are still to be found.
pub(super) async fn open_in(
    cluster: &Cluster,
    topic: &str,
    partitions: &[i32],
) -> Result<Vec<Open>, Failure> {
    let producers = cluster.producers(topic, partitions).await?;
    let mut open = Vec::new();
    for (partition, producers) in partitions.iter().zip(producers) {
        let producers = producers.into_iter().filter(|producer| producer.start_offset.is_some());
        open.extend(producers.map(|producer| Open {
            place: (topic.to_owned(), *partition),
            producer,
            id: None,
        }));
    }
    Ok(open)
}

/// Finds the transactional ids of producers.
pub(super) async fn find_ids(cluster: &Cluster, open: &mut [Open]) -> Result<(), Failure> {
    // An empty filter would list all ids.
    if open.is_empty() {
        return Ok(());
    }
    let producers: BTreeSet<i64> = open.iter().map(|open| open.producer.producer_id).collect();
    let filter =
        TransactionFilter { producer_ids: producers.into_iter().collect(), ..TransactionFilter::default() };
    let mut by_producer = BTreeMap::new();
    for listed in cluster.transactions(&filter).await? {
        // One that is gone meanwhile ends nothing.
        if let Some(described) = cluster.describe_transaction(&listed.id).await? {
            by_producer.insert(listed.producer_id, described);
        }
    }
    for open in open {
        open.id = by_producer.get(&open.producer.producer_id).cloned();
    }
    Ok(())
}

/// The transactions as a table.
pub(super) fn table(open: &[Open], now_ms: i64) -> String {
    let header =
        ["topic", "partition", "start offset", "producer", "epoch", "last written", "transactional id"];
    let mut rows = vec![row(header)];
    for Open { place: (topic, partition), producer, id } in open {
        let ago = lasting(now_ms.saturating_sub(producer.last_timestamp));
        rows.push(row([
            topic.as_str(),
            &partition.to_string(),
            &producer.start_offset.map_or("none".to_owned(), |offset| offset.to_string()),
            &producer.producer_id.to_string(),
            &producer.producer_epoch.to_string(),
            &format!("{ago} ago"),
            id.as_ref().map_or("unknown", |id| &id.id),
        ]));
    }
    output::table(&rows)
}

fn to_json(open: &Open) -> Value {
    let Open { place: (topic, partition), producer, id } = open;
    json!({
        "topic": topic,
        "partition": partition,
        "start_offset": producer.start_offset,
        "producer": producer.producer_id,
        "epoch": producer.producer_epoch,
        "coordinator_epoch": producer.coordinator_epoch,
        "last_written_ms": producer.last_timestamp,
        "transactional_id": id.as_ref().map(|id| &id.id),
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Open in partition 2 of `orders`; its transactional id, if it is known, has these partitions in its transaction.
    pub(in super::super) fn open(partitions: Option<&[i32]>) -> Open {
        let producer = ActiveProducer {
            producer_id: 7,
            producer_epoch: 3,
            last_timestamp: 1_000,
            coordinator_epoch: None,
            start_offset: Some(17),
        };
        let id = partitions.map(|partitions| TransactionDescription {
            id: "billing".to_owned(),
            producer_id: 7,
            producer_epoch: 3,
            state: "Ongoing".to_owned(),
            timeout_ms: 60_000,
            started_ms: Some(1_000),
            partitions: partitions.iter().map(|partition| ("orders".to_owned(), *partition)).collect(),
            coordinator: "a:1".to_owned(),
        });
        Open { place: ("orders".to_owned(), 2), producer, id }
    }

    #[test]
    fn what_its_transactional_id_has_not_hangs() {
        assert!(open(None).is_hanging() && open(Some(&[])).is_hanging() && open(Some(&[1])).is_hanging());
        assert!(!open(Some(&[1, 2])).is_hanging());
    }

    #[test]
    fn they_are_a_table_or_json() {
        let text = table(&[open(None), open(Some(&[]))], 901_000);
        let ends: Vec<&str> =
            text.lines().filter_map(|line| line.rsplit("  ").next()).map(str::trim).collect();
        assert_eq!(ends, ["transactional id", "unknown", "billing"]);
        let words: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(words, ["orders", "2", "17", "7", "3", "15m", "ago", "unknown"]);
        let json = to_json(&open(None));
        assert_eq!((&json["start_offset"], &json["transactional_id"]), (&json!(17), &Value::Null));
        assert_eq!(to_json(&open(Some(&[])))["transactional_id"], "billing");
    }
}
