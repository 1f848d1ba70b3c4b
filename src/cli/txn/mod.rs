//! `yagura txn`: list and describe transactions, show where they are open, find those that hang, and end them.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use kernel::clock::{Clock, SystemClock};
use kernel::units::Span;
use serde_json::{Value, json};

use crate::client::transactions::{ListedTransaction, TransactionDescription, TransactionFilter};

use super::connect::Connect;
use super::output::{self, Failure, Format, row};

mod abort;
mod hanging;
mod open;
mod terminate;

/// List and describe transactions, show where they are open, find those that hang, and end them.
#[derive(Debug, Args)]
pub(crate) struct Txn {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(List),
    Describe(Describe),
    Open(open::ShowOpen),
    Terminate(terminate::Terminate),
    FindHanging(hanging::FindHanging),
    Abort(abort::Abort),
}

/// List transactional ids with their producers and states.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  yagura txn list\n  yagura txn list --state Ongoing --duration 1m\n  yagura txn list --id-pattern 'billing-.*'"
)]
struct List {
    /// Only ids in this state, such as Ongoing or CompleteAbort; may be given several times.
    #[arg(long, value_name = "STATE")]
    state: Vec<String>,
    /// Only the id of this producer; may be given several times.
    #[arg(long, value_name = "ID")]
    producer_id: Vec<i64>,
    /// Only transactions that have been running for longer than this; those that have ended count too, unless --state
    /// leaves them out.
    #[arg(long, value_name = "TIME")]
    duration: Option<Span>,
    /// Only ids that match this regular expression as a whole.
    #[arg(long, value_name = "REGEX")]
    id_pattern: Option<String>,
    /// A table for people, or JSON.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

/// Show the producer of a transactional id, and what is in its open transaction.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  yagura txn describe billing-1")]
struct Describe {
    /// The transactional ids.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<String>,
    /// A table for people, or JSON.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

impl Txn {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        match self.verb {
            Verb::List(args) => args.run().await,
            Verb::Describe(args) => args.run().await,
            Verb::Open(args) => args.run().await,
            Verb::Terminate(args) => args.run().await,
            Verb::FindHanging(args) => args.run().await,
            Verb::Abort(args) => args.run().await,
        }
    }
}

/// A time in ms for people, in whole seconds if it has any.
fn lasting(ms: i64) -> String {
    let ms = u64::try_from(ms).unwrap_or(0);
    Span(if ms < 1_000 { Duration::from_millis(ms) } else { Duration::from_secs(ms / 1_000) }).to_string()
}

fn ms(span: Span) -> i64 {
    i64::try_from(span.0.as_millis()).unwrap_or(i64::MAX)
}

impl List {
    async fn run(self) -> Result<ExitCode, Failure> {
        let cluster = self.connect.cluster().await?;
        let filter = TransactionFilter {
            states: self.state,
            producer_ids: self.producer_id,
            longer_than_ms: self.duration.map(ms),
            id_pattern: self.id_pattern,
        };
        let listed = cluster.transactions(&filter).await?;
        match self.format {
            Format::Text => output::print(&list_text(&listed))?,
            Format::Json => output::print_json(&list_json(&listed))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list_text(listed: &[ListedTransaction]) -> String {
    let mut rows = vec![row(["transactional id", "state", "producer", "coordinator"])];
    rows.extend(listed.iter().map(|listed| {
        row([&listed.id, &listed.state, &listed.producer_id.to_string(), &listed.coordinator])
    }));
    output::table(&rows)
}

fn list_json(listed: &[ListedTransaction]) -> Value {
    let transaction = |listed: &ListedTransaction| {
        json!({
            "transactional_id": listed.id,
            "state": listed.state,
            "producer": listed.producer_id,
            "coordinator": listed.coordinator,
        })
    };
    listed.iter().map(transaction).collect()
}

impl Describe {
    async fn run(self) -> Result<ExitCode, Failure> {
        let cluster = self.connect.cluster().await?;
        let (mut described, mut missing) = (Vec::with_capacity(self.ids.len()), None);
        for id in &self.ids {
            match cluster.describe_transaction(id).await? {
                Some(found) => described.push(found),
                None => missing = missing.or(Some(unknown(id))),
            }
        }
        let now_ms = SystemClock.now_ms();
        match self.format {
            Format::Text => {
                let texts: Vec<String> =
                    described.iter().map(|described| describe_text(described, now_ms)).collect();
                output::print(&texts.join("\n"))?;
            }
            Format::Json => output::print_json(&described.iter().map(describe_json).collect())?,
        }
        missing.map_or(Ok(ExitCode::SUCCESS), Err)
    }
}

fn unknown(id: &str) -> Failure {
    Failure::Failed(format!("there is no transactional id {id:?}; `yagura txn list` shows those there are"))
}

fn describe_text(described: &TransactionDescription, now_ms: i64) -> String {
    let TransactionDescription { id, producer_id, producer_epoch, state, timeout_ms, coordinator, .. } =
        described;
    let timeout = lasting(i64::from(*timeout_ms));
    let mut text = format!(
        "transactional id {id}: {state}, producer {producer_id} epoch {producer_epoch}, timeout {timeout}, coordinator {coordinator}\n"
    );
    if let Some(started_ms) = described.started_ms {
        let open = lasting(now_ms.saturating_sub(started_ms));
        text.push_str(&format!("open for {open}, since @{started_ms}\n"));
    }
    if !described.partitions.is_empty() {
        let mut rows = vec![row(["topic", "partition"])];
        let places = described.partitions.iter();
        rows.extend(places.map(|(topic, partition)| row([topic, &partition.to_string()])));
        text.push_str(&output::table(&rows));
    }
    text
}

fn describe_json(described: &TransactionDescription) -> Value {
    let place = |(topic, partition): &(String, i32)| json!({ "topic": topic, "partition": partition });
    json!({
        "transactional_id": described.id,
        "state": described.state,
        "producer": described.producer_id,
        "epoch": described.producer_epoch,
        "timeout_ms": described.timeout_ms,
        "started_ms": described.started_ms,
        "coordinator": described.coordinator,
        "partitions": described.partitions.iter().map(place).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_a_table_or_json() {
        let listed = [ListedTransaction {
            id: "billing".to_owned(),
            producer_id: 7,
            state: "Ongoing".to_owned(),
            coordinator: "a:1".to_owned(),
        }];
        assert_eq!(
            list_text(&listed),
            "transactional id  state    producer  coordinator\n\
             billing           Ongoing         7  a:1\n"
        );
        let expected =
            json!([{"transactional_id": "billing", "state": "Ongoing", "producer": 7, "coordinator": "a:1"}]);
        assert_eq!(list_json(&listed), expected);
    }

    #[test]
    fn a_description_says_what_is_open_and_for_how_long() {
        let open = open::tests::open(Some(&[2])).id.unwrap();
        let first = "producer 7 epoch 3, timeout 1m, coordinator a:1\n";
        assert_eq!(
            describe_text(&open, 6_500),
            format!(
                "transactional id billing: Ongoing, {first}open for 5s, since @1000\n\
                 topic   partition\norders          2\n"
            )
        );
        let json = describe_json(&open);
        assert_eq!(json["partitions"], json!([{"topic": "orders", "partition": 2}]));
        assert_eq!((&json["epoch"], &json["started_ms"]), (&json!(3), &json!(1_000)));
        let at_rest = TransactionDescription {
            state: "Empty".to_owned(),
            started_ms: None,
            partitions: Vec::new(),
            ..open
        };
        assert_eq!(describe_text(&at_rest, 6_500), format!("transactional id billing: Empty, {first}"));
        assert_eq!(describe_json(&at_rest)["started_ms"], Value::Null);
    }

    #[test]
    fn times_have_few_digits() {
        assert_eq!([-1, 999, 65_432, 120_999].map(lasting), ["0ms", "999ms", "65s", "2m"]);
    }
}
