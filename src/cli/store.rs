//! `yagura store`: verification of a store, also while a broker has it open; a copy of it, on another engine too; backup of a
//! SQLite store's file, and what to do if it is damaged; the end of an upgrade of brokers that share one.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use storage::engines::{self, sqlite};
use storage::nodes::{self, Finalized};

use super::output::{self, Failure};

const BAR: &str = "{msg} [{bar:40}] {percent}% {eta} left";

/// Verify or copy a store; back up or salvage the file of a SQLite store; finalize one that brokers share. To salvage or copy it,
/// the broker must be stopped.
#[derive(Debug, Args)]
pub(crate) struct Store {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Backup(Backup),
    Verify(Verify),
    Salvage(Salvage),
    Copy(Copy),
    Finalize(Finalize),
}

/// Copy a consistent snapshot of a store.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  yagura store backup yagura.db /backup/yagura.db")]
struct Backup {
    /// The store's file, or its URL.
    #[arg(value_parser = store_file)]
    source: PathBuf,
    /// The file to create.
    #[arg(value_parser = store_file)]
    target: PathBuf,
}

/// Read a whole store and check that nothing in it is damaged, all records of every batch included. Exits with 1 if anything
/// is.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  yagura store verify /backup/yagura.db\n  yagura store verify postgres://yagura@db/kafka"
)]
struct Verify {
    /// The store's URL, or the file of a SQLite store.
    store: String,
}

/// Copy what can be read of a damaged store, which no broker may have open, into a new one. The damaged one is not changed.
///
/// Topics, records, producers, groups and their offsets are copied, around what is damaged. Records keep their offsets:
/// consumers skip those that are lost. Prints what was lost, and exits with 1 if anything was.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  yagura store salvage yagura.db salvaged.db; yagura store verify salvaged.db"
)]
struct Salvage {
    /// The damaged store's file, or its URL.
    #[arg(value_parser = store_file)]
    source: PathBuf,
    /// The file to create.
    #[arg(value_parser = store_file)]
    target: PathBuf,
}

/// Copy a whole store into a new one, of another engine if you like. Brokers of either must be stopped, and are refused until it
/// has ended.
///
/// Topics, records, groups with their offsets, producers and transactions are copied as they are; records keep their offsets.
/// Prints what was copied, and what was not: how far readers by SQL are, for one. If it is cut off, remove the new store (drop its
/// schema, or delete its file with those beside it) and begin again.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  yagura store copy yagura.db postgres://yagura@db/kafka\n  yagura store copy postgres://yagura@db/kafka yagura.db"
)]
struct Copy {
    /// The store's URL, or the file of a SQLite store.
    source: String,
    /// The new store's URL, or the file of a SQLite store.
    target: String,
}

/// End the upgrade of the brokers that share a store. Releases before this one cannot use it any more; there is no way back.
///
/// Brokers of two releases in a row may share a store, so that they are replaced one after the other. Until it is finalized, the
/// newer ones write nothing that the older ones cannot read. Refused while a broker of the older release has the store.
#[derive(Debug, Args)]
#[command(after_help = "Example:
  yagura store finalize postgres://yagura@db/kafka")]
struct Finalize {
    /// The store's URL, as the brokers have it.
    store: String,
}

/// The file of a store, which may be written as the URL that a broker has.
fn store_file(text: &str) -> Result<PathBuf, String> {
    match text.split_once("://") {
        None if !text.is_empty() => Ok(PathBuf::from(text)),
        Some(("sqlite", file)) if !file.is_empty() => Ok(PathBuf::from(file)),
        _ => Err("name the file of a SQLite store, such as yagura.db or sqlite://yagura.db".to_owned()),
    }
}

/// The URL of a store, which may be written as the file of a SQLite store. It is not checked while arguments are read: what is
/// wrong there is repeated, and a URL may have a password in it.
fn store_url(text: &str) -> String {
    if text.contains("://") { text.to_owned() } else { format!("sqlite://{text}") }
}

impl Store {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self.verb {
            Verb::Backup(args) => args.run(),
            Verb::Verify(args) => args.run(),
            Verb::Salvage(args) => args.run(),
            Verb::Copy(args) => args.run(),
            Verb::Finalize(args) => args.run(),
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
        let url = store_url(&self.store);
        let verified = async { Ok(engines::verify(&url, &mut progress).await) };
        let report = output::block_on(verified);
        bar.finish_and_clear();
        let report = report?.map_err(|error| Failure::Failed(error.0))?;
        output::print(&format!("{report}\n"))?;
        Ok(if report.faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Salvage {
    fn run(self) -> Result<ExitCode, Failure> {
        let bar = output::progress(0, BAR).with_message("copying");
        let mut progress = |done: u64, total: u64| {
            bar.set_length(total);
            bar.set_position(done);
        };
        let report = sqlite::salvage(&self.source, &self.target, &mut progress);
        bar.finish_and_clear();
        let report = report.map_err(Failure::Failed)?;
        output::print(&format!("{report}\n"))?;
        Ok(if report.lost.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

impl Copy {
    fn run(self) -> Result<ExitCode, Failure> {
        let bar = output::progress(0, BAR).with_message("copying");
        let mut progress = |done: u64, total: u64| {
            bar.set_length(total);
            bar.set_position(done);
        };
        let (source, target) = (store_url(&self.source), store_url(&self.target));
        let copied = async { Ok(storage::copy::copy(&source, &target, &mut progress).await) };
        let report = output::block_on(copied);
        bar.finish_and_clear();
        let report = report?.map_err(|error| Failure::Failed(error.0))?;
        output::print(&format!("{report}\n"))?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Finalize {
    fn run(self) -> Result<ExitCode, Failure> {
        let url = store_url(&self.store);
        let finalized = output::block_on(async { Ok(nodes::finalize(&url).await) })?;
        output::print(&match finalized.map_err(|error| Failure::Failed(error.0))? {
            Finalized::Now(level) => {
                format!(
                    "the store is of level {level} now: releases before this one cannot use it any more\n"
                )
            }
            Finalized::Already(level) => {
                format!("the store is of level {level} already, this release's own\n")
            }
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_named_by_its_file_or_its_url() {
        let file = |text| store_file(text).map(|path| path.display().to_string());
        for (text, path) in [("y.db", "y.db"), ("sqlite://y.db", "y.db"), ("sqlite:///var/y.db", "/var/y.db")]
        {
            assert_eq!(file(text).as_deref(), Ok(path));
        }
        for text in ["", "sqlite://", "memory://", "postgres://host/y"] {
            assert!(file(text).unwrap_err().contains("sqlite://yagura.db"), "{text}");
        }
    }
}
