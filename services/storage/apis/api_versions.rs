//! ApiVersions: what the broker speaks.
//!
//! Framing has checked what the client says of its software, and answers versions that are not served.

use kafka_protocol::messages::api_versions_response::ApiVersion;
use kafka_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use kernel::Call;
use kernel::stack::ServedApi;

use crate::service::{Answer, Service, served_apis};

pub(crate) async fn handle(_service: &Service, call: &mut Call) -> Answer {
    let _: ApiVersionsRequest = call.decode()?;
    let range = |served: ServedApi| {
        ApiVersion::default()
            .with_api_key(served.api.0)
            .with_min_version(served.min)
            .with_max_version(served.max)
    };
    // No feature is finalized, and that is told as of epoch 0, because clients take -1 for "the broker does not know
    // yet". To them a feature that is absent is at level 0: transactions are the old ones (transaction.version), and so
    // on. A later release that finalizes a feature must count the epoch up. Versions before 3 have no features.
    let response = ApiVersionsResponse::default()
        .with_api_keys(served_apis().into_iter().map(range).collect())
        .with_finalized_features_epoch(0);
    Ok(Some(call.reply(&response)?))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::StrBytes;
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
            assert_eq!(response.finalized_features_epoch, if version >= 3 { 0 } else { -1 });
            assert!(response.supported_features.is_empty() && response.finalized_features.is_empty());
            assert!(!response.zk_migration_ready);
        }
    }
}
