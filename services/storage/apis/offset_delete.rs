//! OffsetDelete (KIP-496): deletes committed offsets.

use std::sync::Arc;

use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use kernel::{Call, ErrorCode};
use rules::commands::{Applied, GroupCommand};
use uuid::Uuid;

use crate::apis::common::answer::Answer;
use crate::apis::common::directory::DirectoryTopics;
use crate::apis::common::groups::{check_group_id, commit, store_failed};
use crate::apis::common::text::to_arc;
use crate::broker::Broker;
use crate::store::TopicRef;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: OffsetDeleteRequest = call.decode()?;
    let response = match delete(broker, call, request).await {
        Ok(topics) => OffsetDeleteResponse::default().with_topics(topics),
        Err(error) => OffsetDeleteResponse::default().with_error_code(error.code()),
    };
    Ok(Some(call.reply(&response)?))
}

async fn delete(
    broker: &Broker,
    call: &Call,
    request: OffsetDeleteRequest,
) -> Result<Vec<OffsetDeleteResponseTopic>, ErrorCode> {
    check_group_id(&request.group_id)?;
    let named = |topic: &OffsetDeleteRequestTopic| TopicRef::new(false, &topic.name, Uuid::nil());
    let places = |topic: &OffsetDeleteRequestTopic| {
        let topic_ref = named(topic);
        topic.partitions.iter().map(|asked| (topic_ref.clone(), asked.partition_index)).collect::<Vec<_>>()
    };
    let places: Vec<_> = request.topics.iter().flat_map(places).collect();
    let topics = DirectoryTopics::find_to_write(broker, &call.ticket, &places).await;
    let topics = topics.map_err(|error| store_failed(call, &error))?;
    let place = |topic: &OffsetDeleteRequestTopic, asked: &OffsetDeleteRequestPartition| {
        let found = topics.partition(&named(topic), asked.partition_index);
        found.map(|facts| (facts.name.clone(), asked.partition_index))
    };
    let each =
        request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |asked| (topic, asked)));
    let places: Vec<Result<(Arc<str>, i32), ErrorCode>> =
        each.map(|(topic, asked)| place(topic, asked)).collect();
    let offsets = places.iter().filter_map(|place| place.clone().ok()).collect();
    let deleted =
        commit(broker, call, &to_arc(&request.group_id.0), GroupCommand::DeleteOffsets { offsets }).await?;
    let Applied::OffsetsDeleted(deleted_errors) = deleted else { return Err(ErrorCode::UnknownServerError) };
    let mut deleted_errors = deleted_errors.into_iter();
    let mut errors = places.into_iter().map(|place| match place {
        Ok(_) => deleted_errors.next().flatten(),
        Err(error) => Some(error),
    });
    let mut answers = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let partition = |asked: &OffsetDeleteRequestPartition| {
            let error = errors.next().flatten();
            OffsetDeleteResponsePartition::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(error.map_or(0, |error| error.code()))
        };
        let partitions: Vec<_> = topic.partitions.iter().map(partition).collect();
        answers.push(OffsetDeleteResponseTopic::default().with_name(topic.name).with_partitions(partitions));
    }
    Ok(answers)
}
