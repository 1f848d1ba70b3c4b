//! One value for each API of Kafka and one for all unknown keys, found without hashing.

use kernel::Api;

/// A value per API, allocated once, so that counting a call allocates nothing.
#[derive(Debug)]
pub(crate) struct PerApi<T> {
    /// By key; `None` for keys that Kafka 4.1 does not use.
    known: Vec<Option<T>>,
    unknown: T,
}

impl<T> PerApi<T> {
    /// A value from `make` for each.
    pub(crate) fn new(make: impl Fn() -> T) -> Self {
        let key_max = Api::all().map(|api| api.0).max().unwrap_or(-1);
        let known = (0..=key_max).map(|key| Api(key).is_known().then(&make)).collect();
        Self { known, unknown: make() }
    }

    /// The value of an API.
    pub(crate) fn of(&self, api: Api) -> &T {
        let known = usize::try_from(api.0).ok().and_then(|key| self.known.get(key));
        known.and_then(Option::as_ref).unwrap_or(&self.unknown)
    }

    /// All values, with the names of their APIs; names are unique.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, &T)> {
        let known = (0i16..).zip(&self.known);
        let known = known.filter_map(|(key, value)| value.as_ref().map(|value| (Api(key).name(), value)));
        known.chain(std::iter::once(("Unknown", &self.unknown)))
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn each_api_has_its_own_value_and_unknown_keys_share_one() {
        let next = Cell::new(0);
        let values = PerApi::new(|| next.replace(next.get() + 1));
        assert_ne!(values.of(Api::PRODUCE), values.of(Api::FETCH));
        for key in [-1, 10_000, i16::MAX] {
            assert_eq!(values.of(Api(key)), values.of(Api(i16::MIN)));
        }
        let names: Vec<_> = values.iter().map(|(name, _)| name).collect();
        assert_eq!(names[0], "Produce");
        assert_eq!(names.iter().filter(|name| **name == "Unknown").count(), 1);
    }
}
