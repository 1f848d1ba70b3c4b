//! `yagura node`: the brokers that share a store.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use kernel::NodeId;
use kernel::units::Span;
use serde_json::{Value, json};
use storage::nodes::{self, Node};

use super::output::{self, Failure, Format, row};

/// Show the brokers that share a store, and send the clients of one elsewhere.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(List),
    Drain(Drain),
}

/// List the brokers of a store: those that are there, and those that have died or hang, for an hour. One that is stopped in good
/// order is not listed any more.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  yagura node list postgres://yagura@db/kafka")]
struct List {
    /// The store's URL, as the brokers have it.
    store: String,
    /// A table for people, or JSON.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// Send the clients of a broker elsewhere, before it is stopped. Their connections end once their calls are answered, and they ask
/// the other brokers where to go; /readyz answers 503, so that a load balancer sends nobody. It serves those that come all the
/// same. A broker that is started again is not drained any more.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  yagura node drain postgres://yagura@db/kafka 2\n  yagura node drain postgres://yagura@db/kafka 2 --undo"
)]
struct Drain {
    /// The store's URL, as the brokers have it.
    store: String,
    /// The broker's id.
    id: i32,
    /// Send clients to it again.
    #[arg(long)]
    undo: bool,
}

impl NodeArgs {
    pub(crate) fn run(self) -> Result<ExitCode, Failure> {
        match self.verb {
            Verb::List(list) => list.run(),
            Verb::Drain(drain) => drain.run(),
        }
    }
}

impl List {
    fn run(self) -> Result<ExitCode, Failure> {
        let listed = output::block_on(async { Ok(nodes::list(&self.store).await) })?;
        let listed = listed.map_err(|error| Failure::Failed(error.0))?;
        match self.format {
            Format::Json => output::print_json(&Value::from(listed.iter().map(as_json).collect::<Vec<_>>()))?,
            Format::Text => {
                let mut rows = vec![row(["id", "state", "addresses", "rack", "release", "since"])];
                rows.extend(listed.iter().map(as_row));
                output::print(&output::table(&rows))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn state(node: &Node) -> &'static str {
    match (node.is_live(), node.document.is_drained) {
        (false, _) => "gone",
        (true, true) => "drained",
        (true, false) => "live",
    }
}

fn addresses(node: &Node) -> Vec<(String, String)> {
    let all = node.document.facts.addresses.iter();
    all.map(|(listener, at)| (listener.to_string(), format!("{}:{}", at.host, at.port))).collect()
}

/// How long it has been there, or gone.
fn since(node: &Node) -> Option<String> {
    let since_ms = if node.is_live() { node.document.since_ms } else { node.document.lease_ms };
    let seconds = u64::try_from(node.now_ms - since_ms).ok()? / 1_000;
    // In the largest unit of which there are two: nobody needs the seconds of a day.
    let unit = [86_400, 3_600, 60].into_iter().find(|unit| seconds >= 2 * unit).unwrap_or(1);
    Some(Span(Duration::from_secs(seconds - seconds % unit)).to_string())
}

fn as_row(node: &Node) -> Vec<String> {
    let none = || "-".to_owned();
    let addresses: Vec<String> =
        addresses(node).into_iter().map(|(listener, at)| format!("{listener}={at}")).collect();
    vec![
        node.id.0.to_string(),
        state(node).to_owned(),
        if addresses.is_empty() { none() } else { addresses.join(",") },
        node.document.facts.rack.as_ref().map_or_else(none, ToString::to_string),
        node.document.facts.release.to_string(),
        since(node).unwrap_or_else(none),
    ]
}

fn as_json(node: &Node) -> Value {
    json!({
        "id": node.id.0,
        "state": state(node),
        "addresses": addresses(node).into_iter().collect::<std::collections::BTreeMap<_, _>>(),
        "rack": node.document.facts.rack,
        "release": node.document.facts.release,
        "level": node.document.facts.level,
        "sinceMs": node.document.since_ms,
        "leaseMs": node.document.lease_ms,
    })
}

impl Drain {
    fn run(self) -> Result<ExitCode, Failure> {
        let Drain { store, id, undo } = self;
        let drained = output::block_on(async { Ok(nodes::drain(&store, NodeId(id), !undo).await) })?;
        let others = drained.map_err(|error| Failure::Failed(error.0))?;
        output::print(&match (undo, others) {
            (true, _) => format!("clients are sent to broker {id} again\n"),
            (false, 0) => format!(
                "broker {id} is drained, but no other broker takes clients: they stay until there is one\n"
            ),
            (false, _) => format!(
                "the connections of broker {id} end, and clients go to the others; stop it once yagura_connections_open on its /metrics is 0\n"
            ),
        })?;
        Ok(ExitCode::SUCCESS)
    }
}
