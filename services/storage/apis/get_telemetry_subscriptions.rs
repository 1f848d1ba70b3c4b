//! GetTelemetrySubscriptions (KIP-714): which metrics a client pushes, and how often.

use kafka_protocol::messages::{GetTelemetrySubscriptionsRequest, GetTelemetrySubscriptionsResponse};
use kernel::Call;
use uuid::Uuid;

use crate::apis::common::answer::Answer;
use crate::apis::common::text;
use crate::broker::Broker;
use crate::telemetry::{Client, asked_of};

/// Accepted compression types in order of preference, by Kafka's codec ids: zstd, lz4, gzip, snappy.
const COMPRESSION: [i8; 4] = [4, 3, 1, 2];
/// Limit on an uncompressed push. A client with hundreds of metrics sends a tenth of it. Kafka accepts 1 MiB,
/// but the decoded metrics can take fifty times as much memory.
pub(super) const BYTES_MAX: usize = 256 << 10;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: GetTelemetrySubscriptionsRequest = call.decode()?;
    call.ticket.after_writes().await;
    let instance = match request.client_instance_id {
        id if id.is_nil() => broker.fresh_id(),
        id => id,
    };
    let subscriptions = broker.store.client_metrics().await?;
    let asked = asked_of(&client(call, instance), &subscriptions);
    let response = GetTelemetrySubscriptionsResponse::default()
        .with_client_instance_id(instance)
        .with_subscription_id(asked.id)
        .with_accepted_compression_types(COMPRESSION.to_vec())
        .with_push_interval_ms(asked.interval_ms)
        .with_telemetry_max_bytes(BYTES_MAX as i32)
        // Cumulative since the client's start, so that a lost push loses no data.
        .with_delta_temporality(false)
        .with_requested_metrics(asked.metrics.iter().map(|name| text::str_bytes(name)).collect());
    Ok(Some(call.reply(&response)?))
}

/// The client of the connection.
pub(super) fn client(call: &Call, instance: Uuid) -> Client {
    let software = call.session.software();
    Client {
        instance,
        id: call.header.client_id.clone().unwrap_or_default(),
        software: software.map(|own| (own.name.to_string(), own.version.to_string())).unwrap_or_default(),
        source: (call.session.peer.ip().to_string(), call.session.peer.port()),
    }
}
