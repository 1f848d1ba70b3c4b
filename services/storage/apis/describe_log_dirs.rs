//! DescribeLogDirs: the store is the one log directory. Of several brokers, each tells of the partitions that clients are
//! sent to it for: tools ask all, and add up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::{DescribeLogDirsRequest, DescribeLogDirsResponse};
use kernel::{Call, TopicPartition};
use rules::documents::TopicDocument;

use crate::apis::common::answer::Answer;
use crate::apis::common::text;
use crate::broker::Broker;
use crate::engines::StoreError;

/// A topic and its requested partitions.
type Wanted = (Arc<TopicDocument>, Vec<TopicPartition>);

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: DescribeLogDirsRequest = call.decode()?;
    call.ticket.after_writes().await;
    let cluster = broker.nodes.cluster(&call.session);
    let mut wanted = wanted(broker, &request).await?;
    for (_, partitions) in &mut wanted {
        partitions.retain(|at| cluster.leader(*at) == cluster.own());
    }
    let partitions: Vec<TopicPartition> =
        wanted.iter().flat_map(|(_, partitions)| partitions).copied().collect();
    let sizes = broker.store.sizes(partitions).await?;
    let describe = |(topic, partitions): &Wanted| {
        let sized = partitions.iter().filter_map(|at| Some((at.partition, *sizes.get(at)?)));
        let sized: Vec<_> = sized.map(|(index, bytes)| partition(index, bytes)).collect();
        let described = DescribeLogDirsTopic::default().with_name(text::topic_name(&topic.name));
        // Partitions that do not exist are left out, as in Kafka, which filters its logs by the request.
        (!sized.is_empty()).then(|| described.with_partitions(sized))
    };
    // The store does not know its limit, so total and usable bytes stay at their default of -1 (unknown).
    let directory = DescribeLogDirsResult::default()
        .with_log_dir(text::str_bytes(&broker.settings.url_masked()))
        .with_topics(wanted.iter().filter_map(describe).collect());
    Ok(Some(call.reply(&DescribeLogDirsResponse::default().with_results(vec![directory]))?))
}

/// The requested topics that exist, in the order of names.
async fn wanted(broker: &Broker, request: &DescribeLogDirsRequest) -> Result<Vec<Wanted>, StoreError> {
    let Some(asked) = &request.topics else {
        let whole = |topic: Arc<TopicDocument>| {
            let partitions = topic.all_partitions().collect();
            (topic, partitions)
        };
        return Ok(broker.store.topics().await?.into_iter().map(whole).collect());
    };
    let mut indexes: BTreeMap<Arc<str>, BTreeSet<i32>> = BTreeMap::new();
    for topic in asked {
        indexes.entry(Arc::from(topic.topic.as_str())).or_default().extend(&topic.partitions);
    }
    let found = broker.store.topics_by_name(indexes.keys().cloned().collect()).await?;
    let chosen = |(name, indexes): (Arc<str>, BTreeSet<i32>)| {
        let topic = found.get(&name)?;
        let partitions = indexes.into_iter().filter_map(|index| topic.partition(index)).collect();
        Some((Arc::clone(topic), partitions))
    };
    Ok(indexes.into_iter().filter_map(chosen).collect())
}

/// The only replica is the leader: it is never a future replica and has no lag.
fn partition(index: i32, bytes: u64) -> DescribeLogDirsPartition {
    DescribeLogDirsPartition::default()
        .with_partition_index(index)
        .with_partition_size(i64::try_from(bytes).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::describe_log_dirs_request::DescribableLogDirTopic;
    use kernel::records::{Batch, Codec};
    use kernel::{Api, Ticket};
    use rules::commands::{Append, Command};

    use super::super::testing::{self, NOW_MS, ask, topic};
    use super::*;
    use crate::apis::testing::versions;

    fn asked(topics: &[(&str, &[i32])]) -> Option<Vec<DescribableLogDirTopic>> {
        let topic = |(name, partitions): &(&str, &[i32])| {
            DescribableLogDirTopic::default()
                .with_topic(text::topic_name(name))
                .with_partitions(partitions.to_vec())
        };
        Some(topics.iter().map(topic).collect())
    }

    /// The listed partitions and their sizes.
    fn seen(directory: &DescribeLogDirsResult) -> Vec<(String, i64)> {
        let of_topic = |topic: &DescribeLogDirsTopic| -> Vec<(String, i64)> {
            let of_partition = |partition: &DescribeLogDirsPartition| {
                assert_eq!((partition.offset_lag, partition.is_future_key), (0, false));
                let name = format!("{}-{}", topic.name.as_str(), partition.partition_index);
                (name, partition.partition_size)
            };
            topic.partitions.iter().map(of_partition).collect()
        };
        directory.topics.iter().flat_map(of_topic).collect()
    }

    #[tokio::test]
    async fn every_version_tells_sizes() {
        let broker = testing::broker().await;
        topic(&broker, "b", 1, &[]).await;
        let a = topic(&broker, "a", 2, &[]).await;
        let batch = Batch::check(testing::batch(Codec::None, &[NOW_MS])).expect("a test's batch is whole");
        let bytes = batch.bytes().len() as i64;
        let partition = a.partition(1).unwrap();
        let append = Command::Append(Append::new(partition, &batch, NOW_MS));
        broker.store.commit_one(&Ticket::only(), append).await.unwrap().unwrap();

        let named = |name: &str, size: i64| (name.to_owned(), size);
        for version in versions(Api::DESCRIBE_LOG_DIRS) {
            let some: [(&str, &[i32]); 4] = [("a", &[1, 7]), ("nope", &[0]), ("a", &[0, 1, -1]), ("b", &[])];
            for (topics, expected) in [
                (None, vec![named("a-0", 0), named("a-1", bytes), named("b-0", 0)]),
                (asked(&some), vec![named("a-0", 0), named("a-1", bytes)]),
                (asked(&[]), Vec::new()),
            ] {
                let request = DescribeLogDirsRequest::default().with_topics(topics);
                let response: DescribeLogDirsResponse =
                    ask(&broker, Api::DESCRIBE_LOG_DIRS, version, &request).await;
                assert_eq!((response.error_code, response.results.len()), (0, 1));
                let directory = &response.results[0];
                assert_eq!((directory.error_code, directory.log_dir.as_str()), (0, "memory://"));
                assert_eq!((directory.total_bytes, directory.usable_bytes), (-1, -1));
                assert_eq!(seen(directory), expected, "version {version}");
            }
        }
    }
}
