//! Version negotiation.

use std::collections::HashMap;

use kafka_protocol::messages::ApiVersionsResponse;
use kafka_protocol::protocol::Request;
use kernel::Api;

use super::error::Error;

/// First and last version of each API that this client supports. Produce and Fetch stop before topic ids
/// (Produce 13, Fetch 13): this client uses names. APIs not listed use the versions that `kafka-protocol`
/// encodes.
const SUPPORTED: &[(Api, i16, i16)] = &[
    (Api::PRODUCE, 3, 11),
    (Api::FETCH, 4, 12),
    (Api::LIST_OFFSETS, 1, 7),
    (Api::METADATA, 4, 12),
    // One group per request, and topics by name.
    (Api::FIND_COORDINATOR, 0, 3),
    (Api::OFFSET_FETCH, 2, 7),
    (Api::OFFSET_COMMIT, 2, 9),
    (Api::DESCRIBE_GROUPS, 0, 5),
    (Api::LIST_GROUPS, 0, 5),
    (Api::DELETE_GROUPS, 0, 2),
    (Api::API_VERSIONS, 0, 3),
    (Api::CREATE_TOPICS, 4, 7),
    (Api::DELETE_TOPICS, 1, 6),
    (Api::INIT_PRODUCER_ID, 0, 4),
    (Api::DESCRIBE_CONFIGS, 1, 4),
    (Api::CREATE_PARTITIONS, 0, 3),
    (Api::INCREMENTAL_ALTER_CONFIGS, 0, 1),
];

/// The versions that one broker supports.
#[derive(Debug, Clone, Default)]
pub struct Versions(HashMap<i16, (i16, i16)>);

impl Versions {
    /// The broker's response.
    pub fn offered(response: &ApiVersionsResponse) -> Self {
        let keys = response.api_keys.iter();
        Self(keys.map(|key| (key.api_key, (key.min_version, key.max_version))).collect())
    }

    /// The latest version of an API that both sides support.
    pub fn common<R: Request>(&self, address: &str) -> Result<i16, Error> {
        let api = Api(R::KEY);
        let (min, max) = supported::<R>();
        let Some((offered_min, offered_max)) = self.0.get(&R::KEY) else {
            return Err(Error::unsupported(format!(
                "{address} does not offer {api}; use a broker that does, or a newer one"
            )));
        };
        let version = max.min(*offered_max);
        if version < min.max(*offered_min) {
            return Err(Error::unsupported(format!(
                "{address} offers {api} {offered_min} to {offered_max}, but this client speaks {min} to {max}; one of the two is too old"
            )));
        }
        Ok(version)
    }
}

fn supported<R: Request>() -> (i16, i16) {
    let listed = SUPPORTED.iter().find(|(api, _, _)| api.0 == R::KEY);
    listed.map_or((R::VERSIONS.min, R::VERSIONS.max), |(_, min, max)| (*min, *max))
}

#[cfg(test)]
mod tests {
    use kafka_protocol::messages::api_versions_response::ApiVersion;
    use kafka_protocol::messages::{DescribeClusterRequest, FetchRequest, MetadataRequest, ProduceRequest};

    use super::*;

    fn offered(ranges: &[(i16, i16, i16)]) -> Versions {
        let keys = ranges.iter().map(|(key, min, max)| {
            ApiVersion::default().with_api_key(*key).with_min_version(*min).with_max_version(*max)
        });
        Versions::offered(&ApiVersionsResponse::default().with_api_keys(keys.collect()))
    }

    #[test]
    fn the_latest_common_version_is_taken_and_never_one_by_topic_id() {
        let versions = offered(&[(0, 0, 13), (1, 4, 7), (3, 0, 13), (60, 0, 2)]);
        assert_eq!(versions.common::<ProduceRequest>("a:1"), Ok(11));
        assert_eq!(versions.common::<FetchRequest>("a:1"), Ok(7));
        assert_eq!(versions.common::<MetadataRequest>("a:1"), Ok(12));
        assert!(
            versions.common::<DescribeClusterRequest>("a:1").is_ok(),
            "not listed, so as far as it is encoded"
        );
    }

    #[test]
    fn nothing_in_common_names_both_ranges() {
        let versions = offered(&[(0, 12, 13)]);
        let error = versions.common::<ProduceRequest>("a:1").unwrap_err().to_string();
        assert!(error.contains("Produce 12 to 13") && error.contains("3 to 11"), "{error}");
        let error = versions.common::<FetchRequest>("a:1").unwrap_err().to_string();
        assert!(error.contains("does not offer Fetch"), "{error}");
    }
}
