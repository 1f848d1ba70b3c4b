//! `yagura txn find-hanging`: transactions that are open in a partition, and that no transactional id will end.
//!
//! They are found as `kafka-transactions find-hanging` finds them: what is open for longer than any transaction may be, and
//! whose transactional id is not known, or has not the partition in its transaction.

use std::process::ExitCode;

use clap::Args;
use kernel::clock::{Clock, SystemClock};
use kernel::units::Span;

use super::super::connect::Connect;
use super::super::output::{self, Failure, Format};
use super::ms;
use super::open::{Open, Places, find_ids, print};

/// Find transactions that hold up readers of committed records, and that no transactional id will end.
///
/// Brokers of Kafka that lost track of a transaction leave such ones. A transaction of Yagura hangs only if its transactional
/// id was lost, as in a salvaged store. `yagura txn open` shows all that are open.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  yagura txn find-hanging --topic orders")]
pub(super) struct FindHanging {
    #[command(flatten)]
    places: Places,
    /// The longest transaction timeout that brokers allow: only producers that were silent for longer are looked at.
    #[arg(long, value_name = "TIME", default_value = "15m")]
    max_transaction_timeout: Span,
    /// A table for people, or JSON.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

impl FindHanging {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let cluster = self.connect.cluster().await?;
        let mut open = self.places.open(&cluster).await?;
        let (now_ms, longest_ms) = (SystemClock.now_ms(), ms(self.max_transaction_timeout));
        open.retain(|open| now_ms.saturating_sub(open.producer.last_timestamp) > longest_ms);
        find_ids(&cluster, &mut open).await?;
        open.retain(Open::is_hanging);
        print(&open, self.format, now_ms)?;
        if open.is_empty() {
            output::print_error("no transaction hangs; `yagura txn open` shows those that are open");
        }
        Ok(ExitCode::SUCCESS)
    }
}
