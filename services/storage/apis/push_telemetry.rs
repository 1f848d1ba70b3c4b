//! PushTelemetry (KIP-714): stores a client's metrics, which `/metrics` then shows.

use bytes::Bytes;
use kafka_protocol::messages::{PushTelemetryRequest, PushTelemetryResponse};
use kernel::records::{Codec, CodecError};
use kernel::{Call, ErrorCode};

use super::get_telemetry_subscriptions::{BYTES_MAX, client};
use crate::apis::common::answer::Answer;
use crate::apis::common::groups::store_failed;
use crate::broker::Broker;
use crate::telemetry::asked_of;

pub(crate) async fn handle(broker: &Broker, call: &mut Call) -> Answer {
    let request: PushTelemetryRequest = call.decode()?;
    let pushed = push(broker, call, &request).await;
    let code = pushed.err().map_or(0, |error| error.code());
    Ok(Some(call.reply(&PushTelemetryResponse::default().with_error_code(code))?))
}

async fn push(broker: &Broker, call: &Call, request: &PushTelemetryRequest) -> Result<(), ErrorCode> {
    if request.client_instance_id.is_nil() {
        return Err(ErrorCode::InvalidRequest);
    }
    let client = client(call, request.client_instance_id);
    let subscriptions = broker.store.client_metrics().await.map_err(|error| store_failed(call, &error))?;
    let asked = asked_of(&client, &subscriptions);
    if asked.id != request.subscription_id {
        return Err(ErrorCode::UnknownSubscriptionId);
    }
    let metrics = uncompressed(request)?;
    let interval_ms = i64::from(asked.interval_ms);
    broker.telemetry.push(client, metrics, request.terminating, interval_ms, broker.time.now_ms())
}

fn uncompressed(request: &PushTelemetryRequest) -> Result<Bytes, ErrorCode> {
    let metrics = request.metrics.clone();
    if metrics.len() > BYTES_MAX {
        return Err(ErrorCode::TelemetryTooLarge);
    }
    let codec = Codec::from_bits(i16::from(request.compression_type));
    let codec = codec.ok_or(ErrorCode::UnsupportedCompressionType)?;
    codec.decompress(metrics, BYTES_MAX).map_err(|error| match error {
        CodecError::TooLarge(_) => ErrorCode::TelemetryTooLarge,
        _ => ErrorCode::InvalidRecord,
    })
}
