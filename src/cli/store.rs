//! `yagura store`: backup and verification of a SQLite store's file, also while a broker has it open.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use storage::engines::sqlite;

use super::output::{self, Failure};

const BAR: &str = "{msg} [{bar:40}] {percent}% {eta} left";

/// Back up or verify the file of a SQLite store; the broker may be running.
#[derive(Debug, Args)]
pub(crate) struct Store {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Backup(Backup),
    Verify(Verify),
}

/// Copy a consistent snapshot of a store.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  yagura store backup yagura.db /backup/yagura.db")]
struct Backup {
    /// The store's file.
    source: PathBuf,
    /// The file to create.
    target: PathBuf,
}

/// Read a whole store and check that nothing in it is damaged. Exits with 1 if anything is.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  yagura store verify /backup/yagura.db")]
struct Verify {
    /// The store's file.
    file: PathBuf,
}

impl Store {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self.verb {
            Verb::Backup(args) => args.run(),
            Verb::Verify(args) => args.run(),
        }
    }
}

impl Backup {
    fn run(self) -> Result<ExitCode, Failure> {
        let bar = output::progress(0, BAR).with_message("copying");
        let mut progress = |done: u64, total: u64| {
            bar.set_length(total);
            bar.set_position(done);
        };
        let report = sqlite::backup(&self.source, &self.target, &mut progress);
        bar.finish_and_clear();
        output::print(&format!("{}\n", report.map_err(Failure::Failed)?))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Verify {
    fn run(self) -> Result<ExitCode, Failure> {
        let bar = output::progress(0, BAR).with_message("reading");
        let mut progress = |done: u64, total: u64| {
            bar.set_length(total);
            bar.set_position(done);
        };
        let report = sqlite::verify(&self.file, &mut progress);
        bar.finish_and_clear();
        let report = report.map_err(Failure::Failed)?;
        output::print(&format!("{report}\n"))?;
        Ok(if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
