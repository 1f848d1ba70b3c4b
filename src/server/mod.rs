//! From a config to a running tower.
//!
//! [`run`] starts the process and handles signals; [`process`] is the running state: listeners, towers and
//! services. [`reload`] applies another config. [`assembly`] builds towers from any kinds of layers and
//! services, [`running`] opens and closes services, [`listener`] accepts connections, [`admin`] serves HTTP,
//! [`logging`] and [`banner`] inform the operator, [`allocator`] tunes the C allocator, and [`image`] lets go of the
//! pages that only the start has used.

mod admin;
mod allocator;
mod assembly;
mod banner;
mod image;
mod listener;
mod logging;
mod process;
mod reload;
mod run;
mod running;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use config::{AdminBind, Config, Fault, Faults, Overrides};
use kernel::session::HostPort;

/// The flags of `yagura broker`, which override the shipped config.
#[derive(Debug, Clone, Default)]
pub struct BrokerArgs {
    /// The store's URL.
    pub storage: Option<String>,
    /// Where to listen.
    pub listen: Option<SocketAddr>,
    /// The address advertised to clients.
    pub advertise: Option<HostPort>,
    /// Where the admin server listens, or off.
    pub admin: Option<AdminBind>,
}

/// `yagura broker`: the shipped config, overridden by flags.
pub fn broker(args: BrokerArgs) -> ExitCode {
    let BrokerArgs { storage, listen, advertise, admin } = args;
    let overrides = Overrides { storage, listen, advertise, admin };
    let parsed = config::parse("broker.toml", config::BROKER, &|name| std::env::var(name).ok());
    match parsed.and_then(|config| config.with_overrides(overrides)) {
        Ok(config) => run::serve(config, run::Source::Flags),
        Err(faults) => report(&faults),
    }
}

/// `yagura run FILE`: any stack.
pub fn run_file(file: &Path) -> ExitCode {
    match config::load(file) {
        Ok(config) => run::serve(config, run::Source::File(PathBuf::from(file))),
        Err(faults) => report(&faults),
    }
}

/// `yagura check FILE`: every fault of a config, or a confirmation that there is none.
pub fn check(file: &Path) -> ExitCode {
    match load_and_build(file) {
        Ok(_) => {
            println!("{}: no faults", file.display());
            ExitCode::SUCCESS
        }
        Err(faults) => report(&faults),
    }
}

/// `yagura explain FILE`: the tower as it would be assembled.
pub fn explain(file: &Path) -> ExitCode {
    match load_and_build(file) {
        Ok((config, explained)) => {
            print!("{}", config::explain(&config, |listener| explained.chains(listener)));
            ExitCode::SUCCESS
        }
        Err(faults) => report(&faults),
    }
}

fn load_and_build(file: &Path) -> Result<(Config, assembly::Explained), Faults> {
    let config = config::load(file)?;
    let explained = assembly::explain(&config)
        .map_err(|message| Faults(vec![Fault::without_place(&file.display().to_string(), message)]))?;
    Ok((config, explained))
}

fn report(faults: &Faults) -> ExitCode {
    eprintln!("{}", faults.to_string().trim_end());
    ExitCode::FAILURE
}
