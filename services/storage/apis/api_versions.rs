//! ApiVersions: what the broker speaks.
//!
//! Framing has checked what the client says of its software, and answers versions that are not served.

use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;
use kernel::Call;
use kernel::stack::ServedApi;

use super::features::{EPOCH, FEATURES, Feature};
use crate::service::{Answer, Service, served_apis};

/// Versions before this one have no features.
const FEATURES_FROM: i16 = 3;

pub(crate) async fn handle(_service: &Service, call: &mut Call) -> Answer {
    let _: ApiVersionsRequest = call.decode()?;
    let range = |served: ServedApi| {
        ApiVersion::default()
            .with_api_key(served.api.0)
            .with_min_version(served.min)
            .with_max_version(served.max)
    };
    let response =
        ApiVersionsResponse::default().with_api_keys(served_apis().into_iter().map(range).collect());
    let response = if call.header.version >= FEATURES_FROM { with_features(response) } else { response };
    Ok(Some(call.reply(&response)?))
}

fn with_features(response: ApiVersionsResponse) -> ApiVersionsResponse {
    let name = |feature: &Feature| StrBytes::from_static_str(feature.name);
    let supported = |feature: &Feature| {
        SupportedFeatureKey::default()
            .with_name(name(feature))
            .with_min_version(feature.level)
            .with_max_version(feature.level)
    };
    let finalized = |feature: &Feature| {
        FinalizedFeatureKey::default()
            .with_name(name(feature))
            .with_min_version_level(feature.level)
            .with_max_version_level(feature.level)
    };
    response
        .with_supported_features(FEATURES.iter().map(supported).collect())
        .with_finalized_features(FEATURES.iter().map(finalized).collect())
        .with_finalized_features_epoch(EPOCH)
}

#[cfg(test)]
mod tests {
    use kernel::Api;

    use super::super::shared::versions;
    use super::super::testing::{self, ask};
    use super::*;

    #[tokio::test]
    async fn every_version_lists_what_is_served() {
        let service = testing::service().await;
        for version in versions(Api::API_VERSIONS) {
            let software = if version >= 3 { "a-client" } else { "" };
            let request = ApiVersionsRequest::default()
                .with_client_software_name(StrBytes::from_static_str(software))
                .with_client_software_version(StrBytes::from_static_str(software));
            let response: ApiVersionsResponse = ask(&service, Api::API_VERSIONS, version, &request).await;
            assert_eq!((response.error_code, response.api_keys.len()), (0, served_apis().len()));
            let range = |api: Api| {
                let found = response.api_keys.iter().find(|range| range.api_key == api.0).unwrap();
                (found.min_version, found.max_version)
            };
            assert_eq!(range(Api::PRODUCE), (0, 13));
            assert_eq!(range(Api::FETCH), (4, 18));
            assert_eq!(range(Api::API_VERSIONS), (0, 4));
            assert_eq!(response.finalized_features_epoch, if version >= 3 { EPOCH } else { -1 });
            let features = if version >= 3 { FEATURES.len() } else { 0 };
            assert_eq!(
                (response.supported_features.len(), response.finalized_features.len()),
                (features, features)
            );
            assert!(!response.zk_migration_ready);
        }
    }
}
