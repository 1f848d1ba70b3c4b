//! `yagura txn abort`: an operator ends a transaction that hangs, in one partition.

use std::process::ExitCode;

use clap::Args;
use kernel::clock::{Clock, SystemClock};

use super::super::connect::Connect;
use super::super::output::{self, Failure};
use super::lasting;
use super::open::{Open, find_ids, open_in, table};

/// Abort a transaction that hangs in a partition. Shows the plan, and carries it out only with --execute.
///
/// What its transactional id will still end is left to that: `yagura txn terminate` or a new producer with the id aborts it at
/// once, and its timeout does in any case.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  yagura txn abort --topic orders --partition 2 --start-offset 17 --execute\n\n`yagura txn find-hanging` shows what there is to abort."
)]
pub(super) struct Abort {
    /// The topic.
    #[arg(long)]
    topic: String,
    /// The partition.
    #[arg(long, value_name = "N")]
    partition: i32,
    /// The offset at which the transaction begins in the partition; or --producer-id.
    #[arg(long, value_name = "OFFSET", required_unless_present = "producer_id")]
    start_offset: Option<i64>,
    /// The producer that has the transaction open.
    #[arg(long, value_name = "ID", conflicts_with = "start_offset")]
    producer_id: Option<i64>,
    /// Apply the plan.
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    connect: Connect,
}

impl Abort {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let cluster = self.connect.cluster().await?;
        let mut open = open_in(&cluster, &self.topic, &[self.partition]).await?;
        open.retain(|open| self.is_meant(open));
        find_ids(&cluster, &mut open).await?;
        let [hanging] = open.as_slice() else { return Err(self.none()) };
        if let Some(refused) = not_hanging(hanging) {
            return Err(refused);
        }
        output::print(&table(&open, SystemClock.now_ms()))?;
        if self.execute {
            cluster.abort_in_partition(&hanging.place, &hanging.producer).await?;
            let (partition, topic) = (self.partition, &self.topic);
            output::print(&format!("aborted the transaction in partition {partition} of topic {topic:?}\n"))?;
        } else {
            output::print_error("nothing has been changed; add --execute to carry this out");
        }
        Ok(ExitCode::SUCCESS)
    }

    /// A producer has one transaction open at a time, and at an offset one begins.
    fn is_meant(&self, open: &Open) -> bool {
        let is_at = self.start_offset.is_none_or(|offset| open.producer.start_offset == Some(offset));
        is_at && self.producer_id.is_none_or(|id| open.producer.producer_id == id)
    }

    fn none(&self) -> Failure {
        let (partition, topic) = (self.partition, &self.topic);
        let which = match (self.start_offset, self.producer_id) {
            (Some(offset), _) => format!("at offset {offset}"),
            (None, Some(id)) => format!("of producer {id}"),
            (None, None) => "as named".to_owned(),
        };
        Failure::Failed(format!(
            "no transaction {which} is open in partition {partition} of topic {topic:?}; `yagura txn open --topic {topic}` shows those that are"
        ))
    }
}

/// Why a transaction is left to its transactional id.
fn not_hanging(open: &Open) -> Option<Failure> {
    let id = open.id.as_ref().filter(|_| !open.is_hanging())?;
    let timeout = lasting(i64::from(id.timeout_ms));
    Some(Failure::Failed(format!(
        "the transaction does not hang, so nothing has been changed: transactional id {:?} ends it, at its timeout of {timeout} at the latest; `yagura txn terminate {}` aborts it at once",
        id.id, id.id
    )))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::open::tests::open;
    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        abort: Abort,
    }

    fn parse(options: &str) -> Option<Abort> {
        let words = format!("abort --topic orders --partition 2 {options}");
        Some(Line::try_parse_from(words.split_whitespace()).ok()?.abort)
    }

    #[test]
    fn a_transaction_is_meant_by_its_offset_or_its_producer() {
        let is_meant = |options| parse(options).unwrap().is_meant(&open(None));
        assert!(is_meant("--start-offset 17") && is_meant("--producer-id 7"));
        assert!(!is_meant("--start-offset 18") && !is_meant("--producer-id 8"));
        assert!(parse("").is_none() && parse("--start-offset 17 --producer-id 7").is_none());
        let sentence = |options| match parse(options).unwrap().none() {
            Failure::Failed(text) => text,
            other => panic!("{other:?}"),
        };
        assert!(
            sentence("--start-offset 18").starts_with("no transaction at offset 18 is open in partition 2")
        );
        assert!(
            sentence("--producer-id 8").starts_with("no transaction of producer 8 is open in partition 2")
        );
    }

    #[test]
    fn what_its_transactional_id_ends_is_left_to_it() {
        assert!(not_hanging(&open(None)).is_none() && not_hanging(&open(Some(&[1]))).is_none());
        let refused = not_hanging(&open(Some(&[2])));
        assert!(
            matches!(&refused, Some(Failure::Failed(text)) if text.contains("\"billing\"") && text.contains("1m")),
            "{refused:?}"
        );
    }
}
