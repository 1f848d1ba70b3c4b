//! Output and exit codes of commands.

use std::fmt;
use std::future::Future;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use clap::ValueEnum;
use config::Faults;
use indicatif::{HumanCount, ProgressBar, ProgressState, ProgressStyle};
use tokio::io::Interest;
use tokio::net::unix::pipe;

use crate::client::Error;

/// Text for people, or JSON for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

/// Why a command fails or stops early.
#[derive(Debug)]
pub(crate) enum Failure {
    /// With a sentence for stderr and exit code 1.
    Failed(String),
    /// With a sentence for stderr and exit code 2.
    Usage(String),
    /// Silently: the reader has closed stdout.
    BrokenPipe,
}

impl Failure {
    pub(crate) fn exit(self) -> ExitCode {
        match self {
            Failure::Failed(text) => {
                print_error(text);
                ExitCode::FAILURE
            }
            Failure::Usage(text) => {
                print_error(text);
                ExitCode::from(2)
            }
            Failure::BrokenPipe => ExitCode::SUCCESS,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Failed(error.to_string())
    }
}

/// Every fault of a config is led by the program's name, as other errors are.
impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        let faults: Vec<String> = faults.0.iter().map(ToString::to_string).collect();
        Failure::Failed(faults.join("\n\nyagura: "))
    }
}

/// For errors of stdout; others are turned into sentences where they occur.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::BrokenPipe,
            _ => Failure::Failed(format!("cannot write to stdout: {error}")),
        }
    }
}

/// Reports a failure to the user.
pub(crate) fn print_error(text: impl fmt::Display) {
    // A closed stderr is ignored: there is no other output for the message.
    let _ = writeln!(io::stderr(), "yagura: {text}");
}

/// Prints a text that includes its line ends.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    Ok(stdout.flush()?)
}

/// The width that text is wrapped for: the terminal's, within what is easy to read.
pub(crate) fn columns() -> usize {
    match terminal_size::terminal_size_of(io::stdout()) {
        Some((terminal_size::Width(columns), _)) => usize::from(columns).clamp(60, 100),
        None => 80,
    }
}

/// Prints a JSON value, indented, on lines of its own.
pub(crate) fn print_json(value: &serde_json::Value) -> Result<(), Failure> {
    print(&format!("{value:#}\n"))
}

/// Returns once the reader of stdout has closed it, which a command that has nothing to write would not find out. Never if stdout
/// is a file.
pub(crate) async fn reader_gone() {
    let ready = match stdout_pipe() {
        Ok(pipe) => pipe.ready(Interest::ERROR).await,
        Err(error) => Err(error),
    };
    if !ready.is_ok_and(|ready| ready.is_error()) {
        std::future::pending().await
    }
}

/// Only to be waited for: stdout is shared with other processes, and is not made non-blocking.
fn stdout_pipe() -> io::Result<pipe::Sender> {
    pipe::Sender::from_owned_fd_unchecked(io::stdout().as_fd().try_clone_to_owned()?)
}

/// Runs a command on this thread.
pub(crate) fn block_on<T>(command: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Failure::Failed(format!("cannot start the runtime: {error}")))?;
    let done = runtime.block_on(command);
    // A pending name lookup must not delay the exit.
    runtime.shutdown_background();
    done
}

/// A progress bar on stderr if that is a terminal, else nothing. A template may show the `{rate}` too.
pub(crate) fn progress(length: u64, template: &str) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let style = style.with_key("rate", |state: &ProgressState, text: &mut dyn fmt::Write| {
        let _ = fmt::Write::write_str(text, &rate(state.per_sec()));
    });
    ProgressBar::new(length).with_style(style.progress_chars("=> "))
}

/// A rate in no more digits than it can be known to.
fn rate(per_second: f64) -> String {
    if per_second < 10.0 {
        format!("{per_second:.1}/s")
    } else {
        format!("{}/s", HumanCount(per_second.round() as u64))
    }
}

/// A row of a table.
pub(crate) fn row<T: ToString>(cells: impl IntoIterator<Item = T>) -> Vec<String> {
    cells.into_iter().map(|cell| cell.to_string()).collect()
}

/// A table, each column as wide as its widest cell; numbers are right-aligned.
pub(crate) fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| {
            let is_number = !cell.is_empty() && cell.chars().all(|c| c.is_ascii_digit() || c == '-');
            if is_number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        let line = cells.collect::<Vec<_>>().join("  ");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// A count with its noun: `1 record`, `3 records`.
pub(crate) fn count(number: u64, noun: &str) -> String {
    match number {
        1 => format!("1 {noun}"),
        _ => format!("{number} {noun}s"),
    }
}

/// A name and a value, as in `--config retention.ms=1000`.
pub(crate) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("{text:?} is not of the form NAME=VALUE")),
    }
}

/// A separator with the escapes `\t`, `\n`, `\0` and `\\`, because shells make these characters hard to type.
pub(crate) fn separator(text: &str) -> Result<String, String> {
    let mut plain = String::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            plain.push(letter);
            continue;
        }
        match letters.next() {
            Some('t') => plain.push('\t'),
            Some('n') => plain.push('\n'),
            Some('0') => plain.push('\0'),
            Some('\\') => plain.push('\\'),
            _ => return Err(format!("{text:?} has a \\ that is not followed by t, n, 0 or \\")),
        }
    }
    if plain.is_empty() { Err("a separator cannot be empty".to_owned()) } else { Ok(plain) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_line_up() {
        let rows = [["partition", "leader"], ["0", "1 a:1"], ["10", "2 long:9092"]];
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| (*cell).to_owned()).collect()).collect();
        assert_eq!(table(&rows), "partition  leader\n        0  1 a:1\n       10  2 long:9092\n");
        assert_eq!(table(&[]), "");
    }

    #[test]
    fn pairs_and_separators_are_read() {
        assert_eq!(pair("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(pair("a="), Ok(("a".to_owned(), String::new())));
        assert!(pair("a").is_err() && pair("=b").is_err());
        assert_eq!(separator(r"\t|\\"), Ok("\t|\\".to_owned()));
        assert!(separator("").is_err() && separator(r"\q").is_err() && separator("\\").is_err());
    }

    #[test]
    fn a_rate_has_few_digits() {
        assert_eq!(rate(28_176.4), "28,176/s");
        assert_eq!((rate(0.26), rate(99.6)), ("0.3/s".to_owned(), "100/s".to_owned()));
    }

    #[test]
    fn one_is_not_many() {
        assert_eq!((count(1, "record"), count(0, "record")), ("1 record".to_owned(), "0 records".to_owned()));
    }
}
