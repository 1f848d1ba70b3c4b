//! The process: start, reload on SIGHUP, stop on SIGTERM or SIGINT, and when something has ended unexpectedly.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use config::Config;
use kernel::drain::{Drain, drain};
use kernel::panics;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, warn};

use super::allocator;
use super::image;
use super::logging::{self, LogLevel};
use super::memory;
use super::process::Process;
use super::watchdog::{EXIT_CODE, Watchdog};

/// Within this time after its start, a broker has answered whoever waited for it.
const STARTED_AFTER: Duration = Duration::from_millis(200);

/// How long work on other threads may hold up the end of a process that has failed.
const THREADS_END: Duration = Duration::from_secs(1);

/// The source of the config, which a reload reads again.
pub(super) enum Source {
    /// The shipped config and flags: nothing to read again.
    Flags,
    /// A file.
    File(PathBuf),
}

/// Runs a config until it is signalled to stop.
pub(super) fn serve(config: Config, source: Source) -> ExitCode {
    let log_level = logging::start(&config.log);
    panics::report_uncaught_to(|panic| {
        error!("a thread panicked: {panic}; this is a bug in Yagura, please report it");
    });
    raise_open_files_limit();
    allocator::set_up();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure(&format!("the runtime cannot start: {error}")),
    };
    let watchdog = Watchdog::new();
    match runtime.block_on(Server::start(config, source, log_level, watchdog.clone())) {
        Ok(server) => {
            runtime.block_on(run_to_its_end(server, &watchdog));
            if watchdog.failure().is_none() {
                return ExitCode::SUCCESS;
            }
            runtime.shutdown_timeout(THREADS_END);
            ExitCode::from(EXIT_CODE)
        }
        Err(message) => failure(&message),
    }
}

async fn run_to_its_end(server: Server, watchdog: &Watchdog) {
    if let Err(panic) = panics::catch(server.run()).await {
        watchdog
            .failed(&format!("the main task panicked: {panic}; this is a bug in Yagura, please report it"));
    }
}

fn failure(message: &str) -> ExitCode {
    eprintln!("yagura: {message}");
    ExitCode::FAILURE
}

/// Each connection is an open file; the usual soft limit of 1024 is far below the hard limit.
fn raise_open_files_limit() {
    if let Err(error) = rlimit::increase_nofile_limit(rlimit::INFINITY) {
        warn!(%error, "the limit on open files could not be raised; `ulimit -n` bounds the connections");
    }
}

struct Server {
    process: Process,
    source: Source,
    log_level: LogLevel,
    signals: Signals,
}

struct Signals {
    /// Started by SIGTERM and SIGINT, and when something has failed.
    stop: Drain,
    reload: Signal,
}

impl Signals {
    fn catch(watchdog: &Watchdog) -> std::io::Result<Self> {
        // A write past RLIMIT_FSIZE raises SIGXFSZ, which kills the process. Once caught, the write fails
        // instead, and gives a KAFKA_STORAGE_ERROR. The handler stays when the stream of signals is dropped.
        drop(signal(SignalKind::from_raw(25))?);
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let (stop_signal, stop) = drain();
        // A signal that stays set, so that a reload in progress sees it too.
        let failing = watchdog.clone();
        tokio::spawn(watchdog.guard("the task that waits for signals", async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
                () = failing.has_failed() => {}
            }
            stop_signal.start();
        }));
        Ok(Self { stop, reload: signal(SignalKind::hangup())? })
    }
}

impl Server {
    async fn start(
        config: Config,
        source: Source,
        log_level: LogLevel,
        watchdog: Watchdog,
    ) -> Result<Self, String> {
        let signals =
            Signals::catch(&watchdog).map_err(|error| format!("signals cannot be caught: {error}"))?;
        let node = &config.node;
        let bytes_max = node.request_memory.as_usize().saturating_add(node.reply_memory.as_usize());
        let process = Process::start(config, watchdog.clone()).await?;
        memory::start(bytes_max, &watchdog)
            .map_err(|error| format!("the thread that returns free memory cannot be started: {error}"))?;
        tokio::spawn(watchdog.guard("the task that follows the start", async {
            tokio::time::sleep(STARTED_AFTER).await;
            image::forget_the_start();
        }));
        Ok(Self { process, source, log_level, signals })
    }

    async fn run(mut self) {
        while !self.signals.stop.has_started() {
            tokio::select! {
                () = self.signals.stop.started() => {}
                _ = self.signals.reload.recv() => self.reload().await,
                service = self.process.drained() => self.process.send_away(&service),
            }
        }
        self.process.shut_down().await;
    }

    /// Reads the file again and applies the changes. A bad file changes nothing.
    async fn reload(&mut self) {
        let Source::File(path) = &self.source else {
            warn!("SIGHUP: this broker runs on flags, there is no file to read again; use `yagura run FILE`");
            return;
        };
        match config::load(path) {
            Err(faults) => error!("SIGHUP: {} was not taken, nothing changed:\n{faults}", path.display()),
            Ok(config) => self.process.reload(config, &self.signals.stop).await,
        }
        self.log_level.set(&self.process.config.log.level);
    }
}
