//! UpdateFeatures (KIP-584): feature levels are fixed by the release.

use kafka_protocol::messages::update_features_request::FeatureUpdateKey;
use kafka_protocol::messages::update_features_response::UpdatableFeatureResult;
use kafka_protocol::messages::{UpdateFeaturesRequest, UpdateFeaturesResponse};
use kernel::{Call, ErrorCode};

use crate::apis::common::answer::Answer;
use crate::apis::common::features::FEATURES;
use crate::apis::common::text;
use crate::broker::Broker;

/// From this version on a request has upgrade types; from the next on, a response has no feature results.
const KINDS_FROM: i16 = 1;
const RESULTS_UNTIL: i16 = 1;
/// Upgrade, safe downgrade, unsafe downgrade.
const KINDS: std::ops::RangeInclusive<i8> = 1..=3;

pub(crate) async fn handle(_: &Broker, call: &mut Call) -> Answer {
    let request: UpdateFeaturesRequest = call.decode()?;
    let version = call.header.version;
    let refused = request.feature_updates.iter().find_map(|update| refusal(update, version));
    let response = match refused {
        Some(message) => UpdateFeaturesResponse::default()
            .with_error_code(ErrorCode::InvalidUpdateVersion.code())
            .with_error_message(text::error_message(message)),
        None if version <= RESULTS_UNTIL => {
            let result = |update: FeatureUpdateKey| {
                // Kafka sends a message here even without an error.
                let message = format!("{} is at this level", update.feature.as_str());
                UpdatableFeatureResult::default()
                    .with_feature(update.feature)
                    .with_error_message(text::error_message(message))
            };
            let results = request.feature_updates.into_iter().map(result).collect();
            UpdateFeaturesResponse::default().with_error_message(None).with_results(results)
        }
        None => UpdateFeaturesResponse::default().with_error_message(None),
    };
    Ok(Some(call.reply(&response)?))
}

/// Why a feature cannot have the requested level; `None` if it already has it.
fn refusal(update: &FeatureUpdateKey, version: i16) -> Option<String> {
    let (name, level) = (update.feature.as_str(), update.max_version_level);
    let Some(own) = FEATURES.iter().find(|own| own.name == name) else {
        return Some(format!("this broker does not have the feature {name:?}"));
    };
    let own_level = own.finalized;
    if version >= KINDS_FROM && !KINDS.contains(&update.upgrade_type) {
        return Some(format!("there is no upgrade type {}", update.upgrade_type));
    }
    (level != own_level)
        .then(|| format!("{name} is at level {own_level} in this release, and cannot be at {level}"))
}
