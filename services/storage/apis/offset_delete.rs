//! OffsetDelete: forgets committed offsets (KIP-496).

use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use kernel::{Call, ErrorCode};
use uuid::Uuid;

use super::grouping::{change, own, store_failed};
use super::lookup::{TopicRef, Topics, by_topic};
use crate::rules::Done;
use crate::rules::groups::GroupChange;
use crate::service::{Answer, Service};

/// A partition, as the request names it, and what becomes of it.
type Row = (TopicRef, i32, Option<ErrorCode>);

pub(crate) async fn handle(service: &Service, call: &mut Call) -> Answer {
    let request: OffsetDeleteRequest = call.decode()?;
    let response = match delete(service, call, &request).await {
        Ok(rows) => OffsetDeleteResponse::default().with_topics(topics(rows)),
        Err(error) => OffsetDeleteResponse::default().with_error_code(error.code()),
    };
    Ok(Some(call.reply(&response)?))
}

fn topics(rows: Vec<Row>) -> Vec<OffsetDeleteResponseTopic> {
    let partition = |(topic, index, error): Row| {
        let partition = OffsetDeleteResponsePartition::default().with_partition_index(index);
        (topic, partition.with_error_code(error.map_or(0, |error| error.code())))
    };
    let topics = by_topic(rows.into_iter().map(partition)).into_iter();
    topics
        .map(|(topic, partitions)| {
            OffsetDeleteResponseTopic::default().with_name(topic.wire_name()).with_partitions(partitions)
        })
        .collect()
}

async fn delete(
    service: &Service,
    call: &Call,
    request: &OffsetDeleteRequest,
) -> Result<Vec<Row>, ErrorCode> {
    let places = |topic: &OffsetDeleteRequestTopic| {
        let named = TopicRef::new(false, &topic.name, Uuid::nil());
        let place = |asked: &OffsetDeleteRequestPartition| (named.clone(), asked.partition_index);
        topic.partitions.iter().map(place).collect::<Vec<_>>()
    };
    let places: Vec<(TopicRef, i32)> = request.topics.iter().flat_map(places).collect();
    let topics = Topics::load_to_write(service, &call.ticket, places.clone()).await;
    let topics = topics.map_err(|error| store_failed(call, &error))?;
    let mut offsets = Vec::new();
    let mut rows: Vec<Row> = Vec::with_capacity(places.len());
    for (topic, index) in places {
        let known = topics.partition(&topic, index).map(|(document, _)| document.name.clone());
        let error = known.as_ref().err().copied();
        offsets.extend(known.ok().map(|name| (name, index)));
        rows.push((topic, index, error));
    }
    let deleted =
        change(service, call, &own(&request.group_id.0), GroupChange::DeleteOffsets { offsets }).await?;
    let Done::OffsetsDeleted(verdicts) = deleted else { return Err(ErrorCode::UnknownServerError) };
    let known = rows.iter_mut().filter(|(_, _, error)| error.is_none());
    known.zip(verdicts).for_each(|((_, _, error), verdict)| *error = verdict);
    Ok(rows)
}
