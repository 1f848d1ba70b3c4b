//! Produce: record batches are checked, converted as their topic's configs require, and appended.
//!
//! Expensive work (CRC, timestamps, recompression) is done before the batches enter the engine's queue, whose
//! order is that of the connection's calls. All batches of a request enter together. acks=1 and acks=all are
//! the same here: the response is sent once the batches are durable. There are no transactions yet: a
//! transactional batch is refused.

mod checks;
mod rejected;
#[cfg(test)]
mod tests;
mod timestamps;

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use kernel::records::{Batch, Codec, clear_append_time, recompress, stamp_append_time};
use kernel::{Call, ErrorCode, TopicPartition};
use rules::commands::{Append, Applied, Command, Outcome, Refused};
use rules::configs::{Compression, EffectiveConfig, TimestampType};
use rules::documents::TopicDocument;
use tracing::warn;

use crate::apis::common::answer::{Answer, ApiError};
use crate::apis::common::decompress::{UNCOMPRESSED_BYTES_MAX, run_blocking};
use crate::apis::common::requests::{by_topic, keep_last};
use crate::broker::Broker;
use crate::engines::StoreError;
use crate::store::TopicRef;
use checks::PartitionName;
use rejected::Rejected;
use timestamps::Window;

/// From this version on topics are named by id (KIP-1139).
const BY_ID_FROM: i16 = 13;
/// From this version on the response has error messages (KIP-467).
const REASONS_FROM: i16 = 8;
/// Kafka's "no timestamp".
const NO_TIMESTAMP: i64 = -1;
/// Kafka's "no offset".
const NO_OFFSET: i64 = -1;

/// A partition, as the request names it.
type PartitionRef = (TopicRef, i32);

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: ProduceRequest = call.decode()?;
    let (version, acks) = (call.header.version, request.acks);
    let now_ms = broker.clock.now_ms();
    let sent = sent(&request, version);
    // A transactional batch fails the whole request, as in Kafka.
    let prepared = if has_transactions(&request) {
        sent.iter().map(|_| Err(Rejected::transactional())).collect()
    } else {
        prepare_all(broker, call, &sent, Intake { version, acks, now_ms }).await?
    };
    let answers = append(broker, call, prepared, now_ms).await;
    if acks == 0 {
        return without_reply(&answers);
    }
    let places = sent.into_iter().map(|(place, _)| place);
    let response = response(version, places.zip(answers));
    Ok(Some(call.reply(&response)?))
}

/// A batch that may be appended.
struct Prepared {
    at: TopicPartition,
    batch: Batch,
    /// Whether it has the broker's timestamp (LogAppendTime).
    is_stamped: bool,
}

/// A batch that was appended.
struct Appended {
    base_offset: i64,
    log_start: i64,
    append_time_ms: i64,
}

/// Values shared by all partitions of a request.
#[derive(Clone, Copy)]
struct Intake {
    version: i16,
    acks: i16,
    now_ms: i64,
}

fn has_transactions(request: &ProduceRequest) -> bool {
    request.topic_data.iter().flat_map(|topic| &topic.partition_data).any(checks::is_transactional)
}

/// The records of each partition in the request.
fn sent(request: &ProduceRequest, version: i16) -> Vec<(PartitionRef, Bytes)> {
    let mut sent = Vec::new();
    for topic in &request.topic_data {
        let named = TopicRef::new(version >= BY_ID_FROM, &topic.name, topic.topic_id);
        for partition in &topic.partition_data {
            let records = partition.records.clone().unwrap_or_default();
            sent.push(((named.clone(), partition.index), records));
        }
    }
    keep_last(sent)
}

async fn prepare_all(
    broker: &Broker,
    call: &Call,
    sent: &[(PartitionRef, Bytes)],
    intake: Intake,
) -> Result<Vec<Result<Prepared, Rejected>>, StoreError> {
    let places = sent.iter().map(|(place, _)| place.clone()).collect();
    let topics = broker.store.find_topics_to_write(&call.ticket, places).await?;
    let mut prepared = Vec::with_capacity(sent.len());
    for ((topic, index), records) in sent {
        let place = topics.partition(topic, *index);
        prepared.push(match place {
            Ok((document, at)) => intake.prepare(document, at, records.clone()).await,
            Err(error) => Err(error.into()),
        });
    }
    Ok(prepared)
}

impl Intake {
    /// The checks are in Kafka's order, so that a request with two faults gets the same error.
    async fn prepare(
        &self,
        topic: &TopicDocument,
        at: TopicPartition,
        records: Bytes,
    ) -> Result<Prepared, Rejected> {
        let records = checks::only_batch(records, self.version)?;
        checks::check_acks(self.acks)?;
        let name = PartitionName(&topic.name, at.partition);
        let config = topic.effective();
        let batch = checks::check_batch(records, config, name)?;
        self.check_timestamps(&batch, config).await?;
        let batch = compressed(batch, config.compression).await?;
        // Recompression may have made it larger.
        checks::check_size(batch.bytes(), config, name)?;
        let is_stamped = config.timestamp_type == TimestampType::LogAppendTime;
        let batch = if is_stamped {
            stamp_append_time(&batch, self.now_ms)
        } else if batch.has_append_time() {
            // With a producer's LogAppendTime bit, consumers would read one timestamp for all its records.
            clear_append_time(&batch)
        } else {
            batch
        };
        Ok(Prepared { at, batch, is_stamped })
    }

    async fn check_timestamps(&self, batch: &Batch, config: &EffectiveConfig) -> Result<(), Rejected> {
        match config.timestamp_type {
            TimestampType::CreateTime => {
                let (before_max_ms, after_max_ms) =
                    (config.timestamp_before_max_ms, config.timestamp_after_max_ms);
                timestamps::check(batch, Window { now_ms: self.now_ms, before_max_ms, after_max_ms }).await
            }
            TimestampType::LogAppendTime => timestamps::check_not_stamped(batch),
        }
    }
}

/// The batch in the codec of its topic. It is recompressed only for another codec, not for another level.
async fn compressed(batch: Batch, wanted: Compression) -> Result<Batch, Rejected> {
    let (codec, level) = match wanted {
        Compression::Producer => return Ok(batch),
        Compression::None => (Codec::None, None),
        Compression::Gzip(level) => (Codec::Gzip, Some(level)),
        Compression::Snappy => (Codec::Snappy, None),
        Compression::Lz4(level) => (Codec::Lz4, Some(level)),
        Compression::Zstd(level) => (Codec::Zstd, Some(level)),
    };
    if batch.codec() == Some(codec) {
        return Ok(batch);
    }
    let changed = run_blocking(move || {
        let changed = recompress(&batch, codec, level, UNCOMPRESSED_BYTES_MAX)?;
        // If it is uncompressed now, its record lengths can be checked only now.
        Batch::check(changed.bytes().clone()).map_err(|bad| Rejected::invalid(bad.to_string()))
    });
    changed.await?
}

async fn append(
    broker: &Broker,
    call: &Call,
    prepared: Vec<Result<Prepared, Rejected>>,
    now_ms: i64,
) -> Vec<Result<Appended, Rejected>> {
    let commands = commands(&prepared, now_ms, call.origin.as_ref());
    let mut outcomes = commit(broker, call, commands).await.into_iter();
    let answer = |prepared: Result<Prepared, Rejected>| {
        let prepared = prepared?;
        appended(&prepared, outcomes.next())
    };
    prepared.into_iter().map(answer).collect()
}

fn commands(prepared: &[Result<Prepared, Rejected>], now_ms: i64, origin: Option<&Arc<str>>) -> Vec<Command> {
    let append = |prepared: &Prepared| {
        let append = Append::new(prepared.at, &prepared.batch, now_ms);
        Append { origin: origin.cloned(), ..append }
    };
    prepared.iter().flatten().map(append).map(Command::Append).collect()
}

/// If the store fails, its batches get KAFKA_STORAGE_ERROR; batches refused before keep their own errors.
async fn commit(broker: &Broker, call: &Call, commands: Vec<Command>) -> Vec<Outcome> {
    if commands.is_empty() {
        return Vec::new();
    }
    let count = commands.len();
    let holds = vec![call.body.lease()];
    broker.store.commit_holding(&call.ticket, commands, holds).await.unwrap_or_else(|error| {
        warn!(api = %call.header.api, %error, "a request failed because the store did");
        vec![Err(Refused::new(ErrorCode::KafkaStorageError, error.0)); count]
    })
}

fn appended(prepared: &Prepared, outcome: Option<Outcome>) -> Result<Appended, Rejected> {
    match outcome {
        Some(Ok(Applied::Appended { base_offset, log_start, is_duplicate })) => {
            // Kafka answers a duplicate with the timestamp of the first attempt, even under CreateTime.
            let has_time = prepared.is_stamped || is_duplicate;
            let append_time_ms = if has_time { prepared.batch.max_timestamp() } else { NO_TIMESTAMP };
            Ok(Appended { base_offset, log_start, append_time_ms })
        }
        Some(Err(refused)) => Err(refused.into()),
        Some(Ok(_)) | None => Err(Rejected::lost()),
    }
}

/// A client that expects no reply notices an error by the closed connection, as with Kafka.
fn without_reply(answers: &[Result<Appended, Rejected>]) -> Answer {
    match answers.iter().find_map(|answer| answer.as_ref().err()) {
        None => Ok(None),
        Some(rejected) => Err(ApiError::Hangup(format!("a Produce with acks=0 failed: {rejected}"))),
    }
}

fn response(
    version: i16,
    answers: impl Iterator<Item = (PartitionRef, Result<Appended, Rejected>)>,
) -> ProduceResponse {
    let rows = answers.map(|((topic, index), answer)| (topic, partition_response(index, version, answer)));
    let topics = by_topic(rows).into_iter().map(|(topic, partitions)| {
        let response = TopicProduceResponse::default().with_name(topic.wire_name());
        response.with_topic_id(topic.wire_id()).with_partition_responses(partitions)
    });
    ProduceResponse::default().with_responses(topics.collect())
}

fn partition_response(
    index: i32,
    version: i16,
    answer: Result<Appended, Rejected>,
) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(index);
    match answer {
        Ok(appended) => response
            .with_base_offset(appended.base_offset)
            .with_log_append_time_ms(appended.append_time_ms)
            .with_log_start_offset(appended.log_start),
        Err(rejected) => {
            let response = response.with_base_offset(NO_OFFSET).with_error_code(rejected.error.code());
            if version >= REASONS_FROM { rejected.explain(response) } else { response }
        }
    }
}
