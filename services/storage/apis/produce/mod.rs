//! Produce: record batches are checked, converted as their topic's configs require, and appended.
//!
//! Expensive work (CRC, records, recompression) is done before the batches enter the engine's queue, whose
//! order is that of the connection's calls. All batches of a request enter together. What changes in the header of a
//! batch is written where the engine copies it. acks=1 and acks=all are the same here: the response is sent once the
//! batches are durable.

mod checks;
mod records;
mod rejected;
#[cfg(test)]
mod tests;
mod timestamps;
mod transaction;

use bytes::Bytes;
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};
use kernel::records::{Batch, Codec, NO_TIMESTAMP, recompress};
use kernel::{Call, ErrorCode, TopicPartition};
use rules::commands::{Append, Applied, BatchFacts, Command, Outcome, Refused, TransactionOfAppend};
use rules::configs::{Compression, EffectiveConfig, TimestampType};
use rules::documents::TopicDocument;

use crate::apis::common::answer::{Answer, ApiError};
use crate::apis::common::decompress::{UNCOMPRESSED_BYTES_MAX, run_blocking};
use crate::apis::common::leaving::{note_failure, unless_left};
use crate::apis::common::requests::{by_topic, keep_last};
use crate::broker::Broker;
use crate::engines::StoreError;
use crate::settings::CheckRecords;
use crate::store::TopicRef;
use checks::PartitionName;
use records::RecordChecks;
use rejected::Rejected;
use timestamps::Window;

/// From this version on topics are named by id (KIP-1139).
const BY_ID_FROM: i16 = 13;
/// From this version on the response has error messages (KIP-467).
const REASONS_FROM: i16 = 8;
/// All replicas acknowledge.
const ACKS_ALL: i16 = -1;
/// Kafka's "no offset".
const NO_OFFSET: i64 = -1;

/// A partition, as the request names it.
type PartitionRef = (TopicRef, i32);

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: ProduceRequest = call.decode()?;
    let (version, acks) = (call.header.version, request.acks);
    let now_ms = broker.clock.now_ms();
    let sent = sent(&request, version);
    // What is wrong with its transaction fails the whole request, as in Kafka.
    let answers: Vec<Result<Appended, Rejected>> = match transaction::of_request(&request, call) {
        Err(rejected) => sent.iter().map(|_| Err(rejected.clone())).collect(),
        Ok(transaction) => {
            let intake = Intake { version, acks, now_ms, check_records: broker.settings.check_records };
            let prepared = prepare_all(broker, call, &sent, intake).await?;
            match transaction::check_producers(prepared.iter().flatten().map(|one| &one.facts)) {
                Err(rejected) => sent.iter().map(|_| Err(rejected.clone())).collect(),
                Ok(()) => append(broker, call, prepared, transaction.as_ref(), now_ms).await,
            }
        }
    };
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
    /// Its header as it is to be stored.
    facts: BatchFacts,
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
    check_records: CheckRecords,
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
        let window = self.window(config);
        let is_compacted = config.cleanup_policy.compacts();
        let checks = RecordChecks { check_records: self.check_records, window, is_compacted };
        let times = checks.check(&batch, name).await?;
        let bytes_max = usize::try_from(config.max_message_bytes).unwrap_or(0);
        let batch = compressed(batch, config.compression, bytes_max).await?;
        // Recompression may have made it larger.
        checks::check_size(batch.bytes(), config, name)?;
        let facts = BatchFacts::of(&batch);
        let facts = if window.is_some() { facts.with_create_time(times) } else { facts.with_append_time() };
        Ok(Prepared { at, batch, facts })
    }

    /// The timestamps that a topic accepts; `None` if it has LogAppendTime.
    fn window(&self, config: &EffectiveConfig) -> Option<Window> {
        match config.timestamp_type {
            TimestampType::CreateTime => Some(Window {
                now_ms: self.now_ms,
                before_max_ms: config.timestamp_before_max_ms,
                after_max_ms: config.timestamp_after_max_ms,
            }),
            TimestampType::LogAppendTime => None,
        }
    }
}

/// The batch in the codec of its topic. It is recompressed only for another codec, not for another level.
async fn compressed(batch: Batch, wanted: Compression, bytes_max: usize) -> Result<Batch, Rejected> {
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
    // What is stored as it is must fit as it is: more need not be decompressed to find out that it does not.
    let bytes_max =
        if codec == Codec::None { bytes_max.min(UNCOMPRESSED_BYTES_MAX) } else { UNCOMPRESSED_BYTES_MAX };
    let changed = run_blocking(move || {
        let changed = recompress(&batch, codec, level, bytes_max)?;
        // If only its header was checked, its record lengths can be checked now that it is uncompressed.
        Batch::check(changed.bytes().clone()).map_err(|bad| Rejected::invalid(bad.to_string()))
    });
    changed.await?
}

/// Checks a batch of the broker's own making, as one that a client has sent, and returns the command that appends it.
///
/// # Errors
/// Its topic does not take it.
pub(crate) async fn checked(
    broker: &Broker,
    topic: &TopicDocument,
    at: TopicPartition,
    records: Bytes,
) -> Result<Append, Refused> {
    let now_ms = broker.clock.now_ms();
    let intake =
        Intake { version: BY_ID_FROM, acks: ACKS_ALL, now_ms, check_records: broker.settings.check_records };
    let prepared = intake.prepare(topic, at, records).await;
    let prepared = prepared.map_err(|rejected| Refused::new(rejected.error, rejected.to_string()))?;
    let leader_epoch = broker.store.epoch_to_append(now_ms).await;
    let leader_epoch = leader_epoch.map_err(|error| Refused::new(ErrorCode::KafkaStorageError, error.0))?;
    let append = Append::new(prepared.at, &prepared.batch, now_ms);
    Ok(Append { batch: prepared.facts, leader_epoch, ..append })
}

async fn append(
    broker: &Broker,
    call: &Call,
    prepared: Vec<Result<Prepared, Rejected>>,
    transaction: Option<&TransactionOfAppend>,
    now_ms: i64,
) -> Vec<Result<Appended, Rejected>> {
    let append = |prepared: &Prepared| {
        let append = Append::new(prepared.at, &prepared.batch, now_ms);
        let transaction = transaction.filter(|_| prepared.facts.is_transactional()).cloned();
        Append { batch: prepared.facts, origin: call.origin.clone(), transaction, ..append }
    };
    let appends: Vec<Append> = prepared.iter().flatten().map(append).collect();
    let count = appends.len();
    // If the store fails, its batches get KAFKA_STORAGE_ERROR; batches refused before keep their own errors.
    let outcomes = commit(broker, call, appends, now_ms).await.unwrap_or_else(|error| {
        note_failure(call, &error);
        vec![Err(Refused::new(ErrorCode::KafkaStorageError, error.0)); count]
    });
    let mut outcomes = outcomes.into_iter();
    let answer = |prepared: Result<Prepared, Rejected>| {
        let prepared = prepared?;
        appended(&prepared, outcomes.next())
    };
    prepared.into_iter().map(answer).collect()
}

async fn commit(
    broker: &Broker,
    call: &Call,
    appends: Vec<Append>,
    now_ms: i64,
) -> Result<Vec<Outcome>, StoreError> {
    if appends.is_empty() {
        return Ok(Vec::new());
    }
    let leader_epoch = broker.store.epoch_to_append(now_ms).await?;
    let in_epoch = |append: Append| Command::Append(Append { leader_epoch, ..append });
    let commands: Vec<Command> = appends.into_iter().map(in_epoch).collect();
    let is_of_transaction = commands.iter().any(|command| command.transactional_id().is_some());
    let commit = broker.store.commit_holding(&call.ticket, commands, vec![call.body.lease()]);
    if is_of_transaction { unless_left(&call.session, commit).await } else { commit.await }
}

fn appended(prepared: &Prepared, outcome: Option<Outcome>) -> Result<Appended, Rejected> {
    match outcome {
        Some(Ok(Applied::Appended { base_offset, log_start, max_timestamp, is_duplicate })) => {
            // Kafka answers a duplicate with the timestamp of the first attempt, even under CreateTime.
            let has_time = prepared.facts.has_append_time() || is_duplicate;
            let append_time_ms = if has_time { max_timestamp } else { NO_TIMESTAMP };
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
