//! `yagura txn terminate`: an operator ends the transaction of a transactional id, as a new producer with the id does.

use std::process::ExitCode;

use clap::Args;
use kernel::clock::{Clock, SystemClock};

use super::super::connect::Connect;
use super::super::output::{self, Failure};
use super::{describe_text, unknown};

/// Abort the open transaction of a transactional id, and fence its producer. Shows the plan, and carries it out only with
/// --execute.
///
/// A producer that is fenced is told so with its next request, and has to begin anew.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  yagura txn terminate billing-1 --execute\n\n`yagura txn open` shows whose transactions are open."
)]
pub(super) struct Terminate {
    /// The transactional id.
    #[arg(value_name = "ID")]
    id: String,
    /// Apply the plan.
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    connect: Connect,
}

impl Terminate {
    pub(super) async fn run(self) -> Result<ExitCode, Failure> {
        let cluster = self.connect.cluster().await?;
        let id = &self.id;
        let found = cluster.describe_transaction(id).await?.ok_or_else(|| unknown(id))?;
        output::print(&describe_text(&found, SystemClock.now_ms()))?;
        if !found.is_open() {
            output::print_error("no transaction is open, so nothing has been changed");
        } else if self.execute {
            cluster.terminate_transaction(&found).await?;
            output::print(&format!(
                "aborted the transaction of transactional id {id:?}, and fenced its producer\n"
            ))?;
        } else {
            output::print_error("nothing has been changed; add --execute to carry this out");
        }
        Ok(ExitCode::SUCCESS)
    }
}
