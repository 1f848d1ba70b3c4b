//! From a config to a running tower.
//!
//! [`run`] starts the process and handles signals; [`process`] is the running state: listeners, towers and
//! services. [`reload`] applies another config. [`assembly`] builds towers from any kinds of layers and
//! services, [`running`] opens and closes services, [`listener`] accepts connections, [`admin`] serves HTTP,
//! [`watchdog`] ends the process when any of these cannot go on, [`logging`] and [`banner`] inform the operator,
//! [`allocator`] tunes the C allocator, [`memory`] returns what it keeps, and [`image`] lets go of the pages that only
//! the start has used.

mod admin;
mod allocator;
mod assembly;
mod banner;
mod image;
mod listener;
mod logging;
mod memory;
mod process;
mod reload;
mod run;
mod running;
mod watchdog;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use config::{AdminBind, Config, Fault, Faults, Overrides, Secret};
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
    /// The broker's id.
    pub node_id: Option<i32>,
    /// Its rack.
    pub rack: Option<String>,
    /// Where the admin server listens, or off.
    pub admin: Option<AdminBind>,
    /// What callers of the admin server have to show.
    pub admin_token: Option<Secret>,
}

/// `yagura broker`: the shipped config, overridden by flags.
///
/// # Errors
/// What is wrong with the flags.
pub fn broker(args: BrokerArgs) -> Result<ExitCode, Faults> {
    let BrokerArgs { storage, listen, advertise, node_id, rack, admin, admin_token } = args;
    let overrides = Overrides { storage, listen, advertise, node_id, rack, admin, admin_token };
    let parsed = config::parse("broker.toml", config::BROKER, &|name| std::env::var(name).ok());
    let config = parsed?.with_overrides(overrides)?;
    Ok(run::serve(config, run::Source::Flags))
}

/// `yagura run FILE`: any stack.
///
/// # Errors
/// Every fault of the config.
pub fn run_file(file: &Path) -> Result<ExitCode, Faults> {
    Ok(run::serve(config::load(file)?, run::Source::File(PathBuf::from(file))))
}

/// `yagura check FILE`: a confirmation that a config has no fault.
///
/// # Errors
/// Every fault of the config.
pub fn check(file: &Path) -> Result<String, Faults> {
    load_and_build(file)?;
    Ok(format!("{}: no faults\n", file.display()))
}

/// `yagura explain FILE`: the tower as it would be assembled, in lines of at most `columns` characters.
///
/// # Errors
/// Every fault of the config.
pub fn explain(file: &Path, columns: usize) -> Result<String, Faults> {
    let (config, explained) = load_and_build(file)?;
    Ok(config::explain(&config, columns, |listener| explained.chains(listener)))
}

fn load_and_build(file: &Path) -> Result<(Config, assembly::Explained), Faults> {
    let config = config::load(file)?;
    let explained = assembly::explain(&config)
        .map_err(|message| Faults(vec![Fault::without_place(&file.display().to_string(), message)]))?;
    Ok((config, explained))
}
