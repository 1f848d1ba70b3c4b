//! What a stack or service serves: APIs with their versions, and features.

use crate::api::Api;

/// An API with the versions that are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedApi {
    /// The API.
    pub api: Api,
    /// The lowest version that is advertised.
    pub min: i16,
    /// The highest version that is advertised and served.
    pub max: i16,
    /// The lowest version that is served; Kafka 4 advertises Produce from 0 and serves it from 3
    /// (KAFKA-18659).
    pub served_min: i16,
}

impl ServedApi {
    /// All versions that Kafka 4.1 has of an API, advertised as Kafka does.
    pub fn all_versions(api: Api) -> Self {
        let versions = api.versions();
        // Older librdkafka takes a higher minimum to mean no compression support (KAFKA-18659).
        let min = if api == Api::PRODUCE { 0 } else { versions.min };
        Self { api, min, max: versions.max, served_min: versions.min }
    }

    /// Whether a version is served.
    pub fn serves(&self, version: i16) -> bool {
        (self.served_min..=self.max).contains(&version)
    }

    /// The versions that both serve; `None` if there are none.
    fn both(self, other: ServedApi) -> Option<ServedApi> {
        let both = ServedApi {
            api: self.api,
            min: self.min.max(other.min),
            max: self.max.min(other.max),
            served_min: self.served_min.max(other.served_min),
        };
        (both.served_min <= both.max).then_some(both)
    }
}

/// A feature of Kafka at the levels that are supported (KIP-584).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// Kafka's name for it, such as `group.version`.
    pub name: &'static str,
    /// The lowest level that is supported.
    pub min: i16,
    /// The highest.
    pub max: i16,
    /// The finalized level; 0 for none.
    pub finalized: i16,
}

/// What can be served at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Served {
    apis: Vec<ServedApi>,
    /// Features; clients see an absent one at level 0.
    pub features: Vec<Feature>,
    /// The epoch of the finalized features; -1 means unknown to clients.
    pub features_epoch: i64,
}

impl Served {
    /// These APIs, without features.
    pub fn new(apis: impl IntoIterator<Item = ServedApi>) -> Self {
        let mut apis: Vec<ServedApi> = apis.into_iter().collect();
        apis.sort_unstable_by_key(|served| served.api);
        Self { apis, features: Vec::new(), features_epoch: -1 }
    }

    /// The APIs, by key.
    pub fn apis(&self) -> &[ServedApi] {
        &self.apis
    }

    /// An API, if it is served.
    pub fn find(&self, api: Api) -> Option<&ServedApi> {
        self.apis.binary_search_by_key(&api, |served| served.api).ok().map(|index| &self.apis[index])
    }

    /// Adds an API, or replaces its versions.
    pub fn insert(&mut self, served: ServedApi) {
        match self.apis.binary_search_by_key(&served.api, |served| served.api) {
            Ok(index) => self.apis[index] = served,
            Err(index) => self.apis.insert(index, served),
        }
    }

    /// Removes an API: to clients it does not exist.
    pub fn hide(&mut self, api: Api) {
        self.apis.retain(|served| served.api != api);
    }

    /// Lowers the highest version of an API, and removes the API if no version is left.
    pub fn lower(&mut self, api: Api, max: i16) {
        if let Some(served) = self.find(api).copied() {
            let lowered = ServedApi { max: served.max.min(max), ..served };
            if lowered.served_min <= lowered.max { self.insert(lowered) } else { self.hide(api) }
        }
    }

    /// Adds the APIs of another service for which `reaches` is true. An API of both is served at their common
    /// versions: its calls may go to either.
    pub fn merge(&mut self, other: &Served, reaches: impl Fn(Api) -> bool) {
        for served in other.apis.iter().filter(|served| reaches(served.api)) {
            match self.find(served.api).copied() {
                None => self.insert(*served),
                Some(own) => match own.both(*served) {
                    Some(both) => self.insert(both),
                    None => self.hide(served.api),
                },
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(api: Api, min: i16, max: i16) -> ServedApi {
        ServedApi { api, min, max, served_min: min }
    }

    #[test]
    fn apis_are_hidden_lowered_and_merged() {
        let mut one = Served::new([served(Api::FETCH, 4, 18), served(Api::PRODUCE, 0, 13)]);
        assert_eq!(one.apis()[0].api, Api::PRODUCE, "by key");
        one.lower(Api::FETCH, 12);
        assert_eq!(one.find(Api::FETCH), Some(&served(Api::FETCH, 4, 12)));
        one.lower(Api::FETCH, 17);
        assert_eq!(one.find(Api::FETCH).map(|served| served.max), Some(12), "it is never raised");
        let other = Served::new([served(Api::FETCH, 6, 17), served(Api::METADATA, 0, 13)]);
        one.merge(&other, |_| true);
        assert_eq!(one.find(Api::FETCH), Some(&served(Api::FETCH, 6, 12)));
        assert_eq!(one.find(Api::METADATA), Some(&served(Api::METADATA, 0, 13)));
        one.lower(Api::FETCH, 5);
        assert_eq!(one.find(Api::FETCH), None, "no version is left");
        one.hide(Api::PRODUCE);
        assert_eq!(one.apis().len(), 1);
    }

    #[test]
    fn produce_is_advertised_lower_than_it_is_served() {
        let produce = ServedApi::all_versions(Api::PRODUCE);
        assert_eq!((produce.min, produce.served_min), (0, 3));
        assert!(!produce.serves(0) && produce.serves(3));
    }
}
