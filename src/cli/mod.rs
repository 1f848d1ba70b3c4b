//! The command line of the `yagura` binary: parsing and dispatch.
//!
//! Commands that serve use [`crate::server`]; the others are clients of a running broker ([`crate::client`]),
//! except `store`, which works on a file. Exit codes: 0 success, 1 failure (the reason is on stderr), 2 wrong
//! command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use config::{AdminBind, Secret};
use kernel::session::HostPort;

use crate::server;

mod completions;
mod connect;
mod consume;
mod group;
mod json;
mod node;
mod output;
mod perf;
mod produce;
mod start;
mod store;
mod topic;
mod txn;

use output::Failure;

/// The environment variable with the token of the admin server.
const ADMIN_TOKEN: &str = "YAGURA_ADMIN_TOKEN";

/// A Kafka-compatible broker, and the tools to work with one.
///
/// Without a command: a broker on sqlite://yagura.db that listens on 127.0.0.1:9092.
#[derive(Debug, Parser)]
#[command(
    name = "yagura",
    version,
    max_term_width = 110,
    after_help = "Example: start a broker, then from another shell send it a line and read it back.\n\n  \
                  yagura\n  yagura topic create greetings\n  echo hello | yagura produce greetings\n  \
                  yagura consume greetings"
)]
pub struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    Broker(Broker),
    Run(Run),
    Check(Check),
    Explain(Explain),
    Topic(topic::Topic),
    Group(group::GroupArgs),
    Txn(txn::Txn),
    Produce(produce::Produce),
    Consume(consume::Consume),
    Perf(perf::Perf),
    Store(store::Store),
    Node(node::NodeArgs),
    Completions(completions::Completions),
}

/// Serve topics from one store.
#[derive(Debug, Clone, Default, Args)]
#[command(
    after_help = "Example:\n  yagura broker --storage sqlite:///var/lib/yagura/yagura.db --listen 0.0.0.0:9092"
)]
pub struct Broker {
    /// Where topics are kept; memory:// keeps nothing [default: sqlite://yagura.db].
    #[arg(long, value_name = "URL")]
    pub storage: Option<String>,
    /// The address to listen on [default: 127.0.0.1:9092].
    #[arg(long, value_name = "HOST:PORT", value_parser = config::bind_address)]
    pub listen: Option<SocketAddr>,
    /// The address advertised to clients [default: the address they connected to; of several brokers on one store each needs its
    /// own, or that of the load balancer].
    #[arg(long, value_name = "HOST:PORT", value_parser = config::host_port)]
    pub advertise: Option<HostPort>,
    /// This broker's id, as clients see it [default: 1, or the lowest free one of a store that brokers share].
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i32).range(0..))]
    pub node_id: Option<i32>,
    /// The rack, or the zone, of this broker, as clients see it [default: none].
    #[arg(long, value_name = "NAME")]
    pub rack: Option<String>,
    /// Where metrics and health are served over HTTP, or "off" [default: 127.0.0.1:9464].
    #[arg(long, value_name = "HOST:PORT|off")]
    pub admin: Option<AdminBind>,
    /// A file with the token that callers of the admin server have to show [default: $YAGURA_ADMIN_TOKEN, or else
    /// none].
    #[arg(long, value_name = "FILE")]
    pub admin_token_file: Option<String>,
}

/// Serve the stack that a TOML file describes.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:\n  yagura run yagura.toml")]
pub struct Run {
    /// The config file.
    pub file: PathBuf,
}

/// Check a config file and report every fault in it.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:\n  yagura check yagura.toml && systemctl reload yagura")]
pub struct Check {
    /// The config file.
    pub file: PathBuf,
}

/// Draw the stack that a config file describes.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:\n  yagura explain yagura.toml")]
pub struct Explain {
    /// The config file.
    pub file: PathBuf,
}

/// Parses the process' command line and runs the command.
pub fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => cli.run(),
        Err(error) => {
            let text = error.render().to_string();
            match text.strip_prefix("error: ") {
                Some(wrong) => output::print_error(wrong.trim_end()),
                // Writing help to a closed pager is not a failure, and there is no output left to report it on.
                None => drop(error.print()),
            }
            match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
                _ => ExitCode::from(2),
            }
        }
    }
}

impl Broker {
    fn run(self) -> Result<ExitCode, Failure> {
        let admin_token = self.admin_token()?;
        let Broker { storage, listen, advertise, node_id, rack, admin, .. } = self;
        let args = server::BrokerArgs { storage, listen, advertise, node_id, rack, admin, admin_token };
        Ok(server::broker(args)?)
    }

    /// Never from the command line itself, which every user of the machine can read.
    fn admin_token(&self) -> Result<Option<Secret>, Failure> {
        match &self.admin_token_file {
            Some(file) => Secret::from_file(file)
                .map(Some)
                .map_err(|error| Failure::Failed(format!("--admin-token-file: {error}"))),
            None => Ok(std::env::var(ADMIN_TOKEN).ok().filter(|token| !token.is_empty()).map(Secret::new)),
        }
    }
}

impl Check {
    fn run(&self) -> Result<ExitCode, Failure> {
        output::print(&server::check(&self.file)?)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Explain {
    fn run(&self) -> Result<ExitCode, Failure> {
        output::print(&server::explain(&self.file, output::columns())?)?;
        Ok(ExitCode::SUCCESS)
    }
}

impl Cli {
    fn run(self) -> ExitCode {
        let done = match self.command {
            None => Broker::default().run(),
            Some(Command::Broker(args)) => args.run(),
            Some(Command::Run(args)) => server::run_file(&args.file).map_err(Failure::from),
            Some(Command::Check(args)) => args.run(),
            Some(Command::Explain(args)) => args.run(),
            Some(Command::Topic(args)) => output::block_on(args.run()),
            Some(Command::Group(args)) => output::block_on(args.run()),
            Some(Command::Txn(args)) => output::block_on(args.run()),
            Some(Command::Produce(args)) => output::block_on(args.run()),
            Some(Command::Consume(args)) => output::block_on(args.run()),
            Some(Command::Perf(args)) => output::block_on(args.run()),
            Some(Command::Store(args)) => args.run(),
            Some(Command::Node(args)) => args.run(),
            Some(Command::Completions(args)) => args.run(),
        };
        done.unwrap_or_else(Failure::exit)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound_and_every_command_has_an_example() {
        Cli::command().debug_assert();
        let mut commands = vec![Cli::command()];
        while let Some(command) = commands.pop() {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name} says what it is for");
            let is_group = command.has_subcommands();
            let example = command.get_after_help().map(|help| help.to_string()).unwrap_or_default();
            assert!(is_group || example.contains("yagura "), "{name} has an example");
            commands.extend(command.get_subcommands().cloned());
        }
    }

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split_whitespace())
    }

    #[test]
    fn command_lines_are_read() {
        for line in [
            "yagura",
            "yagura broker --storage memory:// --listen 0.0.0.0:9092 --advertise a:1 --admin off",
            "yagura broker --listen localhost:9092 --admin localhost:9464",
            "yagura broker --storage postgres://y@db/kafka --node-id 0 --rack eu-1a",
            "yagura node list postgres://y@db/kafka --format json",
            "yagura node drain postgres://y@db/kafka 2 --undo",
            "yagura broker --admin 0.0.0.0:9464 --admin-token-file /run/secrets/token",
            "yagura run f.toml",
            "yagura topic create t --partitions 3 --config a=b --config c=d --if-not-exists",
            "yagura topic list --format json --bootstrap a:1,b:2 --timeout 5s",
            "yagura topic describe a b",
            "yagura topic alter t --partitions 4 --set a=b --unset c",
            "yagura topic delete a b --if-exists",
            "yagura group list --format json",
            "yagura group describe a b",
            "yagura group reset g --topic t --partition 1 --to -5 --execute",
            "yagura group delete a b",
            "yagura txn list --state Ongoing --state Empty --producer-id 7 --duration 1m --id-pattern a.* --format json",
            "yagura txn describe a b --format json",
            "yagura txn open --topic t --partition 0 --partition 1 --format json",
            "yagura txn terminate a --execute",
            "yagura txn find-hanging --topic t --partition 0 --partition 1 --max-transaction-timeout 1h",
            "yagura txn abort --topic t --partition 0 --start-offset 17 --execute",
            "yagura txn abort --topic t --partition 0 --producer-id 7",
            "yagura produce t --key-separator : --header a=b --partition 1 --acks all --compression zstd",
            "yagura produce t --format json",
            "yagura produce t --null-value NULL --quiet",
            "yagura consume t --from -5 --partition 0 --partition 1 --count 3 --follow --key-separator :",
            "yagura consume t --from @1700000000000 --format json --header",
            "yagura perf produce t --records 10 --size 1KiB --acks 1 --linger 5ms --batch 64KiB --throughput 5 --format json",
            "yagura perf consume t --records 10 --json",
            "yagura perf roundtrip t --rate 100 --size 100 --format text",
            "yagura store backup a.db b.db",
            "yagura store verify a.db",
            "yagura store verify sqlite:///var/a.db",
            "yagura store salvage a.db b.db",
            "yagura store copy a.db postgres://y@db/kafka",
            "yagura store finalize postgres://y@db/kafka",
            "yagura completions fish",
        ] {
            if let Err(error) = parse(line) {
                panic!("{line}: {error}");
            }
        }
    }

    #[test]
    fn wrong_command_lines_are_refused() {
        for line in [
            "yagura frobnicate",
            "yagura broker --listen nowhere",
            "yagura broker --listen a..b:9092",
            "yagura broker --advertise 0.0.0.0:9092",
            "yagura broker --admin on",
            "yagura broker --node-id -1",
            "yagura run",
            "yagura topic create",
            "yagura topic create t --partitions 0",
            "yagura topic create t --config novalue",
            "yagura topic list --format yaml",
            "yagura topic list --bootstrap a:notaport",
            "yagura topic list --timeout 5",
            "yagura group reset g --topic t",
            "yagura group reset g --topic t --to yesterday",
            "yagura txn list --duration 5",
            "yagura txn describe",
            "yagura txn open --partition 0",
            "yagura txn terminate",
            "yagura txn find-hanging --partition 0",
            "yagura txn abort --topic t --partition 0",
            "yagura txn abort --topic t --start-offset 17",
            "yagura perf consume t --format json --json",
            "yagura perf consume t --format value",
            "yagura produce t --acks 2",
            "yagura produce t --compression brotli",
            "yagura consume t --from yesterday",
            "yagura completions cobol",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
