//! `yagura topic`: create, list, describe, alter and delete topics.

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use kernel::ErrorCode;
use serde_json::json;

use crate::client::admin::Config;
use crate::client::cluster;
use crate::client::error::ErrorKind;
use crate::client::transactions::ActiveProducer;
use crate::client::{Cluster, Error, Isolation};

use super::connect::Connect;
use super::output::{self, Failure, Format};

/// Create, list, describe, alter and delete topics.
#[derive(Debug, Args)]
pub(crate) struct Topic {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Create(Create),
    List(List),
    Describe(Describe),
    Alter(Alter),
    Delete(Delete),
}

/// Create a topic.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  yagura topic create orders --partitions 6 --config retention.ms=86400000"
)]
struct Create {
    /// The topic's name.
    name: String,
    /// How many partitions it has [default: the broker's default].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// A config of the topic; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = output::pair)]
    config: Vec<(String, String)>,
    /// Accept a topic of this name that exists already, as it is.
    #[arg(long)]
    if_not_exists: bool,
    #[command(flatten)]
    connect: Connect,
}

/// List the names of all topics.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  yagura topic list --format json")]
struct List {
    /// Names for people, or JSON with the number of partitions.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

/// Show partitions, leaders, offsets, open transactions, and the configs that were set.
#[derive(Debug, Args)]
#[command(
    after_help = "Readers of committed records get what is before the last stable offset; `yagura txn list` and `yagura txn find-hanging` tell what holds it up. What compaction has done is in the broker's metrics (yagura_cleaner_*, yagura_partition_clean_end_offset).\n\n\
    Example:\n  yagura topic describe orders"
)]
struct Describe {
    /// The topics.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// A table for people, or JSON.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

/// Add partitions to a topic, or change its configs.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  yagura topic alter orders --partitions 12 --set retention.ms=3600000 --unset max.message.bytes"
)]
struct Alter {
    /// The topic.
    name: String,
    /// The new number of partitions; it cannot be lowered.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(1..))]
    partitions: Option<i32>,
    /// A config to set; may be given several times.
    #[arg(long, value_name = "NAME=VALUE", value_parser = output::pair)]
    set: Vec<(String, String)>,
    /// A config to set back to the broker's value; may be given several times.
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,
    #[command(flatten)]
    connect: Connect,
}

/// Delete topics and all that they hold.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  yagura topic delete orders --if-exists")]
struct Delete {
    /// The topics.
    #[arg(required = true, value_name = "NAME")]
    names: Vec<String>,
    /// Accept that a topic does not exist.
    #[arg(long)]
    if_exists: bool,
    #[command(flatten)]
    connect: Connect,
}

impl Topic {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        match self.verb {
            Verb::Create(args) => args.run().await,
            Verb::List(args) => args.run().await,
            Verb::Describe(args) => args.run().await,
            Verb::Alter(args) => args.run().await,
            Verb::Delete(args) => args.run().await,
        }
    }
}

impl Create {
    async fn run(self) -> Result<ExitCode, Failure> {
        let cluster = self.connect.cluster().await?;
        let name = &self.name;
        match cluster.create_topic(name, self.partitions, &self.config).await {
            Ok(()) => {
                let partitions = cluster.topic(name).await?.partitions.len() as u64;
                output::print(&format!(
                    "created topic {name:?} with {}\n",
                    output::count(partitions, "partition")
                ))?;
            }
            Err(error) if self.if_not_exists && error.code() == Some(ErrorCode::TopicAlreadyExists) => {
                output::print(&format!("topic {name:?} exists already\n"))?;
            }
            Err(error) => return Err(error.into()),
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl List {
    async fn run(self) -> Result<ExitCode, Failure> {
        let cluster = self.connect.cluster().await?;
        let topics = cluster.topics().await?;
        match self.format {
            Format::Text => {
                output::print(&topics.iter().map(|topic| format!("{}\n", topic.name)).collect::<String>())?;
            }
            Format::Json => {
                let topics = topics.iter().map(|topic| {
                    json!({
                        "name": topic.name,
                        "id": topic.id.to_string(),
                        "partitions": topic.partitions.len(),
                        "internal": topic.is_internal,
                    })
                });
                output::print_json(&topics.collect())?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Describe {
    async fn run(self) -> Result<ExitCode, Failure> {
        let cluster = self.connect.cluster().await?;
        let mut described = Vec::with_capacity(self.names.len());
        for name in &self.names {
            described.push(Description::of(&cluster, name).await?);
        }
        match self.format {
            Format::Text => {
                let texts: Vec<String> = described.iter().map(Description::text).collect();
                output::print(&texts.join("\n"))?;
            }
            Format::Json => output::print_json(&described.iter().map(Description::json).collect())?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Where a partition is, and its offsets.
struct Place {
    /// The address of its leader.
    address: String,
    /// Log start offset.
    earliest: i64,
    /// Log end offset.
    latest: i64,
    /// Last stable offset: before the log end offset while a transaction is open.
    last_stable: i64,
    /// Transactions that are open here; `None` if the broker does not tell.
    open: Option<usize>,
}

/// The description of a topic.
struct Description {
    topic: Arc<cluster::Topic>,
    /// For each partition.
    places: Vec<Place>,
    configs: Vec<Config>,
}

/// How many transactions are open in each partition. A broker before Kafka 2.8 does not tell, nor does one that does not let
/// this user read the topic.
async fn open_transactions(
    cluster: &Cluster,
    topic: &str,
    partitions: &[i32],
) -> Result<Vec<Option<usize>>, Error> {
    let is_open = |producer: &&ActiveProducer| producer.start_offset.is_some();
    match cluster.producers(topic, partitions).await {
        Ok(all) => Ok(all.iter().map(|producers| Some(producers.iter().filter(is_open).count())).collect()),
        Err(error)
            if error.kind() == ErrorKind::Unsupported
                || error.code() == Some(ErrorCode::TopicAuthorizationFailed) =>
        {
            Ok(vec![None; partitions.len()])
        }
        Err(error) => Err(error),
    }
}

impl Description {
    async fn of(cluster: &Cluster, name: &str) -> Result<Description, Failure> {
        let topic = cluster.topic(name).await?;
        let partitions: Vec<i32> = topic.partitions.iter().map(|at| at.index).collect();
        let ends = cluster.ends(name, &partitions).await?;
        // After them, so that without transactions it is not before them, whatever is appended meanwhile.
        let stable = cluster.ends_as(name, &partitions, Isolation::ReadCommitted).await?;
        let open = open_transactions(cluster, name, &partitions).await?;
        let mut places = Vec::with_capacity(partitions.len());
        let ends = ends.into_iter().zip(stable).zip(open);
        for (at, (((earliest, latest), (_, last_stable)), open)) in topic.partitions.iter().zip(ends) {
            let address = cluster.address(at.leader).map_or("none".to_owned(), |address| address.to_string());
            places.push(Place { address, earliest, latest, last_stable: last_stable.min(latest), open });
        }
        let mut configs = cluster.topic_configs(name).await?;
        configs.retain(|config| config.is_of_topic);
        Ok(Description { topic, places, configs })
    }

    fn text(&self) -> String {
        let header =
            ["partition", "leader", "address", "earliest", "last stable", "latest", "offsets", "open txns"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        for (at, place) in self.topic.partitions.iter().zip(&self.places) {
            let Place { address, earliest, latest, last_stable, open } = place;
            rows.push(vec![
                at.index.to_string(),
                at.leader.to_string(),
                address.clone(),
                earliest.to_string(),
                last_stable.to_string(),
                latest.to_string(),
                (latest - earliest).to_string(),
                open.map_or("unknown".to_owned(), |open| open.to_string()),
            ]);
        }
        let configs = self.configs.iter().map(|config| {
            let value = config.value.as_deref().unwrap_or("(secret)");
            let mark = config.no_effect.as_ref().map(|why| format!("  (no effect here, because {why})"));
            format!("config {}={value}{}\n", config.name, mark.unwrap_or_default())
        });
        let partitions = output::count(self.topic.partitions.len() as u64, "partition");
        let (name, id) = (&self.topic.name, self.topic.id);
        format!(
            "topic {name}  id {id}  {partitions}\n{}{}",
            configs.collect::<String>(),
            output::table(&rows)
        )
    }

    fn json(&self) -> serde_json::Value {
        let partitions = self.topic.partitions.iter().zip(&self.places).map(|(at, place)| {
            json!({
                "partition": at.index,
                "leader": at.leader,
                "address": place.address,
                "replicas": at.replicas,
                "in_sync_replicas": at.in_sync_replicas,
                "earliest": place.earliest,
                "latest": place.latest,
                "last_stable": place.last_stable,
                "open_transactions": place.open,
            })
        });
        let configs = self.configs.iter().map(|config| (config.name.clone(), json!(config.value)));
        let configs: serde_json::Map<String, serde_json::Value> = configs.collect();
        let without = self.configs.iter().filter_map(|config| Some((config, config.no_effect.as_ref()?)));
        let without = without.map(|(config, why)| (config.name.clone(), json!(why)));
        let without: serde_json::Map<String, serde_json::Value> = without.collect();
        let partitions: Vec<serde_json::Value> = partitions.collect();
        json!({
            "name": self.topic.name,
            "id": self.topic.id.to_string(),
            "internal": self.topic.is_internal,
            "configs": configs,
            "no_effect": without,
            "partitions": partitions,
        })
    }
}

impl Alter {
    async fn run(self) -> Result<ExitCode, Failure> {
        if self.partitions.is_none() && self.set.is_empty() && self.unset.is_empty() {
            return Err(Failure::Usage("nothing to alter; give --partitions, --set or --unset".to_owned()));
        }
        let cluster = self.connect.cluster().await?;
        let name = &self.name;
        let unset = if self.unset.is_empty() {
            Vec::new()
        } else {
            let (unset, absent) = split_unset(name, &self.unset, &cluster.topic_configs(name).await?)?;
            output::print(&absent)?;
            unset
        };
        if !self.set.is_empty() || !unset.is_empty() {
            cluster.alter_topic_configs(name, &self.set, &unset).await?;
            let changes = output::count((self.set.len() + unset.len()) as u64, "config");
            output::print(&format!("changed {changes} of topic {name:?}\n"))?;
        }
        if let Some(partitions) = self.partitions {
            cluster.create_partitions(name, partitions).await?;
            let partitions = output::count(u64::from(partitions.unsigned_abs()), "partition");
            output::print(&format!("topic {name:?} has {partitions} now\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The configs that are set and can be unset, and a line for each that is not set: a broker accepts any name, so it would not
/// tell.
fn split_unset(topic: &str, unset: &[String], configs: &[Config]) -> Result<(Vec<String>, String), Failure> {
    let (mut set, mut absent) = (Vec::new(), String::new());
    for name in unset {
        match configs.iter().find(|config| config.name == *name) {
            Some(config) if config.is_of_topic => set.push(name.clone()),
            Some(_) => absent.push_str(&format!("config {name} of topic {topic:?} is not set\n")),
            None => {
                return Err(Failure::Failed(format!(
                    "topics have no config {name:?}, so nothing has been changed"
                )));
            }
        }
    }
    Ok((set, absent))
}

impl Delete {
    async fn run(self) -> Result<ExitCode, Failure> {
        let cluster = self.connect.cluster().await?;
        let mut code = ExitCode::SUCCESS;
        for name in &self.names {
            match cluster.delete_topic(name).await {
                Ok(()) => output::print(&format!("deleted topic {name:?}\n"))?,
                Err(error) if self.if_exists && error.code() == Some(ErrorCode::UnknownTopicOrPartition) => {
                    output::print(&format!("topic {name:?} does not exist\n"))?;
                }
                // The other topics are still deleted.
                Err(error) => {
                    match error.code() {
                        Some(ErrorCode::UnknownTopicOrPartition) => output::print_error(format!(
                            "topic {name:?} does not exist; `yagura topic list` shows those there are, --if-exists accepts that"
                        )),
                        _ => output::print_error(error),
                    }
                    code = ExitCode::FAILURE;
                }
            }
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use kernel::TopicId;

    use super::*;

    fn place(earliest: i64, latest: i64) -> Place {
        Place { address: "localhost:9092".to_owned(), earliest, latest, last_stable: latest, open: Some(0) }
    }

    fn description() -> Description {
        let partitions = (0..2).map(|index| cluster::Partition {
            index,
            leader: 1,
            replicas: vec![1],
            in_sync_replicas: vec![1],
        });
        let topic = cluster::Topic {
            name: "orders".to_owned(),
            id: TopicId::ZERO,
            is_internal: false,
            partitions: partitions.collect(),
        };
        let config = |name: &str, value: &str, no_effect: Option<&str>| Config {
            name: name.to_owned(),
            value: Some(value.to_owned()),
            is_of_topic: true,
            is_default: false,
            no_effect: no_effect.map(str::to_owned),
        };
        Description {
            topic: Arc::new(topic),
            places: vec![place(0, 120), place(5, 5)],
            configs: vec![
                config("retention.ms", "1000", None),
                config("segment.ms", "5", Some("there are no segments")),
            ],
        }
    }

    #[test]
    fn a_description_is_a_table_for_people() {
        assert_eq!(
            description().text(),
            "topic orders  id AAAAAAAAAAAAAAAAAAAAAA  2 partitions\n\
             config retention.ms=1000\n\
             config segment.ms=5  (no effect here, because there are no segments)\n\
             partition  leader  address         earliest  last stable  latest  offsets  open txns\n        \
             0       1  localhost:9092         0          120     120      120          0\n        \
             1       1  localhost:9092         5            5       5        0          0\n"
        );
    }

    #[test]
    fn what_holds_the_last_stable_offset_up_is_shown_if_it_is_known() {
        let mut description = description();
        description.places[0].last_stable = 90;
        description.places[0].open = Some(2);
        description.places[1].open = None;
        let text = description.text();
        let rows: Vec<Vec<&str>> =
            text.lines().skip(4).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(rows[0][4..], ["90", "120", "120", "2"]);
        assert_eq!(rows[1][4..], ["5", "5", "0", "unknown"]);
        let json = description.json();
        let first = &json["partitions"][0];
        assert_eq!((&first["last_stable"], &first["open_transactions"]), (&json!(90), &json!(2)));
        assert!(json["partitions"][1]["open_transactions"].is_null());
    }

    #[test]
    fn only_what_is_set_can_be_unset() {
        let mut configs = description().configs;
        configs.push(Config {
            name: "max.message.bytes".to_owned(),
            is_of_topic: false,
            ..configs[0].clone()
        });
        let split = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            split_unset("orders", &names, &configs)
        };
        let (unset, absent) = split(&["retention.ms", "max.message.bytes"]).unwrap();
        assert_eq!(unset, ["retention.ms"]);
        assert_eq!(absent, "config max.message.bytes of topic \"orders\" is not set\n");
        assert!(
            matches!(split(&["retention.ms", "foo"]), Err(Failure::Failed(text)) if text.contains("\"foo\""))
        );
    }

    #[test]
    fn and_json_for_programs() {
        let json = description().json();
        assert_eq!(json["configs"]["retention.ms"], "1000");
        assert_eq!(json["no_effect"], json!({ "segment.ms": "there are no segments" }));
        assert_eq!(json["partitions"][1]["earliest"], 5);
        assert_eq!(json["partitions"][0]["latest"], 120);
    }
}
