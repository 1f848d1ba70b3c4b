//! `yagura group`: list, describe, reset and delete consumer groups.

use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use kernel::ErrorCode;
use serde_json::{Value, json};

use crate::client::Cluster;
use crate::client::groups::{GroupDescription, GroupMember, ListedGroup, TopicIndex};

use super::connect::Connect;
use super::output::{self, Failure, Format, row};
use super::start::Start;

/// List, describe, reset and delete consumer groups.
#[derive(Debug, Args)]
pub(crate) struct GroupArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(List),
    Describe(Describe),
    Reset(Reset),
    Delete(Delete),
}

/// List all groups with their states.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  yagura group list")]
struct List {
    /// A table for people, or JSON.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

/// Show members, their assignments, committed offsets, and lag.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  yagura group describe billing")]
struct Describe {
    /// The groups.
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    /// A table for people, or JSON.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(flatten)]
    connect: Connect,
}

/// Set a group's offsets, forward or back. Shows the plan, and carries it out only with --execute.
///
/// The group must have no members at the moment: stop its consumers first.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  yagura group reset billing --topic orders --to earliest --execute")]
struct Reset {
    /// The group.
    group: String,
    /// The topic.
    #[arg(long)]
    topic: String,
    /// Only this partition; may be given several times [default: all].
    #[arg(long, value_name = "N")]
    partition: Vec<i32>,
    /// Where to: earliest, latest, an offset (17), the last few (-17), or a time in ms (@1700000000000).
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    to: Start,
    /// Apply the plan.
    #[arg(long)]
    execute: bool,
    #[command(flatten)]
    connect: Connect,
}

/// Delete groups that have no members, and the offsets they have committed.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  yagura group delete billing")]
struct Delete {
    /// The groups.
    #[arg(required = true, value_name = "GROUP")]
    groups: Vec<String>,
    #[command(flatten)]
    connect: Connect,
}

impl GroupArgs {
    pub(crate) async fn run(self) -> Result<ExitCode, Failure> {
        match self.verb {
            Verb::List(args) => args.run().await,
            Verb::Describe(args) => args.run().await,
            Verb::Reset(args) => args.run().await,
            Verb::Delete(args) => args.run().await,
        }
    }
}

impl List {
    async fn run(self) -> Result<ExitCode, Failure> {
        let groups = self.connect.cluster().await?.groups().await?;
        match self.format {
            Format::Text => output::print(&list_text(&groups))?,
            Format::Json => output::print_json(&list_json(&groups))?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Type and protocol are those of `kafka-groups --list`: whether the group's protocol is the classic one or the consumer
/// protocol, and what its members say they do, which is `consumer` for consumers.
fn list_text(groups: &[ListedGroup]) -> String {
    let mut rows = vec![row(["group", "state", "type", "protocol"])];
    rows.extend(groups.iter().map(|group| row([&group.id, &group.state, &group.kind, &group.protocol_type])));
    output::table(&rows)
}

fn list_json(groups: &[ListedGroup]) -> Value {
    let group = |group: &ListedGroup| {
        json!({
            "group": group.id,
            "state": group.state,
            "type": group.kind,
            "protocol": group.protocol_type,
        })
    };
    groups.iter().map(group).collect()
}

impl Describe {
    async fn run(self) -> Result<ExitCode, Failure> {
        let cluster = self.connect.cluster().await?;
        let mut described = Vec::with_capacity(self.groups.len());
        for group in &self.groups {
            described.push(Description::of(&cluster, group).await?);
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

/// The description of a group.
struct Description {
    group: GroupDescription,
    /// For each assigned or committed partition: the committed offset, and the log end offset.
    places: BTreeMap<TopicIndex, (Option<i64>, i64)>,
}

impl Description {
    async fn of(cluster: &Cluster, id: &str) -> Result<Self, Failure> {
        let group = cluster.describe_group(id).await?.ok_or_else(|| unknown(id))?;
        let committed = cluster.committed(id).await?;
        let read = group.members.iter().flat_map(|member| member.partitions.iter().cloned());
        let mut by_topic: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
        for (topic, partition) in committed.keys().cloned().chain(read) {
            by_topic.entry(topic).or_default().insert(partition);
        }
        let mut places = BTreeMap::new();
        for (topic, partitions) in by_topic {
            let partitions: Vec<i32> = partitions.into_iter().collect();
            let ends = cluster.ends(&topic, &partitions).await?;
            for (partition, (_, end)) in partitions.into_iter().zip(ends) {
                let place = (topic.clone(), partition);
                let offset = committed.get(&place).copied();
                places.insert(place, (offset, end));
            }
        }
        Ok(Self { group, places })
    }

    fn reader(&self, place: &TopicIndex) -> Option<&GroupMember> {
        self.group.members.iter().find(|member| member.partitions.contains(place))
    }

    fn text(&self) -> String {
        let GroupDescription { id, state, assignor, members } = &self.group;
        let assignor = if assignor.is_empty() { String::new() } else { format!(", assignor {assignor}") };
        let members = output::count(members.len() as u64, "member");
        let mut rows = vec![row(["topic", "partition", "committed", "end", "lag", "member", "host"])];
        for (place, (offset, end)) in &self.places {
            let (topic, partition) = place;
            let offset_text = offset.map_or("none".to_owned(), |offset| offset.to_string());
            let lag = offset.map_or("unknown".to_owned(), |offset| (end - offset).to_string());
            let reader = self.reader(place);
            let member = reader.map_or("none", |member| &member.id);
            let host = reader.map_or("", |member| &member.host);
            rows.push(row([
                topic,
                &partition.to_string(),
                &offset_text,
                &end.to_string(),
                &lag,
                member,
                host,
            ]));
        }
        format!("group {id}: {state}, {members}{assignor}\n{}", output::table(&rows))
    }

    fn json(&self) -> Value {
        let member = |member: &GroupMember| {
            json!({
                "member": member.id,
                "instance": member.instance_id,
                "client": member.client_id,
                "host": member.host,
                "partitions": member.partitions.len(),
            })
        };
        let place = |(place, (offset, end)): (&TopicIndex, &(Option<i64>, i64))| {
            json!({
                "topic": place.0,
                "partition": place.1,
                "committed": offset,
                "end": end,
                "lag": offset.map(|offset| end - offset),
                "member": self.reader(place).map(|member| &member.id),
            })
        };
        json!({
            "group": self.group.id,
            "state": self.group.state,
            "assignor": self.group.assignor,
            "members": self.group.members.iter().map(member).collect::<Vec<_>>(),
            "partitions": self.places.iter().map(place).collect::<Vec<_>>(),
        })
    }
}

fn unknown(group: &str) -> Failure {
    Failure::Failed(format!("there is no group {group:?}; `yagura group list` shows those there are"))
}

impl Reset {
    async fn run(self) -> Result<ExitCode, Failure> {
        let cluster = self.connect.cluster().await?;
        let group = &self.group;
        if let Some(described) = cluster.describe_group(group).await?
            && !described.members.is_empty()
        {
            let members = output::count(described.members.len() as u64, "member");
            return Err(Failure::Failed(format!(
                "group {group:?} has {members}; stop its consumers before its offsets are set"
            )));
        }
        let before = cluster.committed(group).await?;
        let plan = self.plan(&cluster).await?;
        let mut rows = vec![row(["topic", "partition", "committed", "new"])];
        for (place, offset) in &plan {
            let was = before.get(place).map_or("none".to_owned(), i64::to_string);
            rows.push(row([&place.0, &place.1.to_string(), &was, &offset.to_string()]));
        }
        output::print(&output::table(&rows))?;
        if self.execute {
            cluster.commit_for(group, &plan).await?;
            let partitions = output::count(plan.len() as u64, "partition");
            output::print(&format!("set the offsets of {partitions} for group {group:?}\n"))?;
        } else {
            output::print_error("nothing has been changed; add --execute to carry this out");
        }
        Ok(ExitCode::SUCCESS)
    }

    async fn plan(&self, cluster: &Cluster) -> Result<BTreeMap<TopicIndex, i64>, Failure> {
        let topic = cluster.topic(&self.topic).await?;
        let partitions: Vec<i32> = if self.partition.is_empty() {
            topic.partitions.iter().map(|at| at.index).collect()
        } else {
            self.partition.clone()
        };
        let ends = cluster.ends(&self.topic, &partitions).await?;
        let times = match self.to {
            Start::Timestamp(time) => {
                let asked: Vec<(i32, i64)> = partitions.iter().map(|at| (*at, time)).collect();
                cluster.list_offsets(&self.topic, &asked).await?
            }
            _ => vec![None; partitions.len()],
        };
        let mut plan = BTreeMap::new();
        for ((partition, (earliest, latest)), time) in partitions.into_iter().zip(ends).zip(times) {
            let offset = self.to.offset(earliest, latest, time);
            let offset = offset.map_err(|why| {
                Failure::Failed(format!("partition {partition} of {:?}: {why}", self.topic))
            })?;
            plan.insert((self.topic.clone(), partition), offset);
        }
        Ok(plan)
    }
}

impl Delete {
    async fn run(self) -> Result<ExitCode, Failure> {
        let cluster = self.connect.cluster().await?;
        for group in &self.groups {
            cluster.delete_group(group).await.map_err(|error| match error.code() {
                Some(ErrorCode::GroupIdNotFound) => unknown(group),
                Some(ErrorCode::NonEmptyGroup) => Failure::Failed(format!(
                    "group {group:?} has members; stop its consumers before it is deleted"
                )),
                _ => error.into(),
            })?;
            output::print(&format!("deleted group {group:?}\n"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn type_and_protocol_are_what_kafkas_tools_call_so() {
        let group = |id: &str, kind: &str, protocol_type: &str| ListedGroup {
            id: id.to_owned(),
            state: "Stable".to_owned(),
            protocol_type: protocol_type.to_owned(),
            kind: kind.to_owned(),
        };
        let groups = [group("billing", "classic", "consumer"), group("sinks", "classic", "connect")];
        assert_eq!(
            list_text(&groups),
            "group    state   type     protocol\n\
             billing  Stable  classic  consumer\n\
             sinks    Stable  classic  connect\n"
        );
        let json = list_json(&groups);
        assert_eq!((&json[1]["type"], &json[1]["protocol"]), (&json!("classic"), &json!("connect")));
    }
}
