//! ApiVersions: the APIs and versions that a stack serves, answered by the stack itself.
//!
//! Framing has validated the client's software name and version, and answers unsupported versions (KIP-511).

use kafka_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kafka_protocol::protocol::StrBytes;

use crate::call::Call;
use crate::door::{Door, Hangup};
use crate::malformed::Malformed;
use crate::reply::Reply;
use crate::served::{Feature, Served, ServedApi};

/// Versions before this one have no features.
const FEATURES_FROM: i16 = 3;

/// Answers ApiVersions from what `served` returns at the time of the call.
pub(crate) fn door(served: impl Fn() -> Served + Send + Sync + 'static) -> Door {
    Door::from_fn(move |mut call| {
        let reply = answer(&mut call, &served()).map(Some).map_err(|malformed| {
            Hangup::because(format!("ApiVersions {}: {malformed}", call.header.version))
        });
        Box::pin(std::future::ready(reply))
    })
}

fn answer(call: &mut Call, served: &Served) -> Result<Reply, Malformed> {
    let _: ApiVersionsRequest = call.decode()?;
    let range = |served: &ServedApi| {
        ApiVersion::default()
            .with_api_key(served.api.0)
            .with_min_version(served.min)
            .with_max_version(served.max)
    };
    let response = ApiVersionsResponse::default().with_api_keys(served.apis().iter().map(range).collect());
    let has_features = call.header.version >= FEATURES_FROM && !served.features.is_empty();
    call.reply(&if has_features { with_features(response, served) } else { response })
}

fn with_features(response: ApiVersionsResponse, served: &Served) -> ApiVersionsResponse {
    let name = |feature: &Feature| StrBytes::from_static_str(feature.name);
    let supported = |feature: &Feature| {
        SupportedFeatureKey::default()
            .with_name(name(feature))
            .with_min_version(feature.min)
            .with_max_version(feature.max)
    };
    let finalized = |feature: &Feature| {
        FinalizedFeatureKey::default()
            .with_name(name(feature))
            .with_min_version_level(feature.finalized)
            .with_max_version_level(feature.finalized)
    };
    let in_use = served.features.iter().filter(|feature| feature.finalized > 0);
    response
        .with_supported_features(served.features.iter().map(supported).collect())
        .with_finalized_features(in_use.map(finalized).collect())
        .with_finalized_features_epoch(served.features_epoch)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::Decodable;

    use super::*;
    use crate::api::Api;
    use crate::stack::{Interest, Stack, Tier};

    fn served() -> Served {
        let mut served = Served::new([Api::PRODUCE, Api::FETCH, Api::METADATA].map(ServedApi::all_versions));
        served.features = vec![Feature { name: "group.version", min: 1, max: 1, finalized: 1 }];
        served.features_epoch = 1;
        served
    }

    async fn ask(stack: &Stack, version: i16) -> ApiVersionsResponse {
        let software = if version >= FEATURES_FROM { "a-client" } else { "" };
        let request = ApiVersionsRequest::default()
            .with_client_software_name(StrBytes::from_static_str(software))
            .with_client_software_version(StrBytes::from_static_str(software));
        let reply =
            stack.enter(Call::for_tests(Api::API_VERSIONS, version, &request)).await.unwrap().unwrap();
        let mut body = reply.body.clone();
        let response = ApiVersionsResponse::decode(&mut body, version).unwrap();
        assert!(body.is_empty());
        response
    }

    fn range(response: &ApiVersionsResponse, api: Api) -> Option<(i16, i16)> {
        let found = response.api_keys.iter().find(|range| range.api_key == api.0)?;
        Some((found.min_version, found.max_version))
    }

    fn nowhere() -> Door {
        Door::from_fn(|_| Box::pin(std::future::ready(Err(Hangup::because("the service was asked")))))
    }

    #[tokio::test]
    async fn every_version_lists_what_the_service_can_do() {
        let stack = Stack::build(Vec::new(), nowhere(), served);
        for version in 0..=4 {
            let response = ask(&stack, version).await;
            assert_eq!((response.error_code, response.api_keys.len()), (0, 4));
            assert_eq!(range(&response, Api::PRODUCE), Some((0, 13)));
            assert_eq!(range(&response, Api::FETCH), Some((4, 18)));
            assert_eq!(range(&response, Api::API_VERSIONS), Some((0, 4)));
            let features = usize::from(version >= FEATURES_FROM);
            assert_eq!(response.supported_features.len(), features);
            assert_eq!(response.finalized_features.len(), features);
            assert_eq!(response.finalized_features_epoch, if version >= FEATURES_FROM { 1 } else { -1 });
            assert!(!response.zk_migration_ready);
        }
    }

    #[tokio::test]
    async fn a_layer_hides_an_api_and_lowers_a_version() {
        let layer = || tower::layer::layer_fn(|below: Door| below);
        let tier = Tier::new("mask", |_| Interest::HEADER, layer()).serving(|served| {
            served.hide(Api::METADATA);
            served.lower(Api::FETCH, 11);
        });
        let stack = Stack::build(vec![tier], nowhere(), served);
        let response = ask(&stack, 4).await;
        assert_eq!(range(&response, Api::METADATA), None);
        assert_eq!(range(&response, Api::FETCH), Some((4, 11)));
        assert!(stack.served().find(Api::METADATA).is_none(), "framing refuses it as well");
    }
}
