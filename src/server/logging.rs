//! What is written to standard error.

use config::{Log, LogFormat};
use tracing::Level;
use tracing_subscriber::fmt;

/// Starts logging; once per process.
pub(super) fn start(log: &Log) {
    let level: Level = log.level.parse().unwrap_or(Level::INFO); // The config was checked.
    let builder = fmt().with_max_level(level).with_writer(std::io::stderr).with_target(false);
    // A second call, as in tests that start two servers, keeps the first.
    let _ = match log.format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
