//! Logging to standard error.

use config::{Log, LogFormat};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Registry, fmt, reload};

/// The log level, which a reload may change.
pub(super) struct LogLevel(reload::Handle<LevelFilter, Registry>);

impl LogLevel {
    /// Sets the log level.
    pub(super) fn set(&self, level: &str) {
        // It fails only when the subscriber has been dropped, and then nothing is logged.
        let _ = self.0.reload(parse(level));
    }
}

/// Starts logging; once per process.
pub(super) fn start(log: &Log) -> LogLevel {
    let (filter, handle) = reload::Layer::new(parse(&log.level));
    let lines = fmt::layer().with_writer(std::io::stderr).with_target(false).with_ansi(false);
    let registry = tracing_subscriber::registry().with(filter);
    // A second call, as in tests that start two servers, keeps the first.
    let _ = match log.format {
        LogFormat::Text => registry.with(lines).try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    LogLevel(handle)
}

fn parse(level: &str) -> LevelFilter {
    level.parse().unwrap_or(LevelFilter::INFO) // The config was checked.
}
