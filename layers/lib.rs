//! The tower: the layers between a client's connection and the services.
//!
//! Two planes. Above [`framing`] a layer sees a stream of bytes ([`limits`]); below it a layer is a
//! `tower::Layer` over calls ([`metrics`], [`trace`]), and [`route`] is at the bottom when there is more than
//! one service. No layer depends on another or on a service: a config file defines their order.
//!
//! A layer registers itself (`kernel::layer::RegisterLayer`) in its own file, with its settings and how it is
//! built. To add one is to add that file, and two lines here: its `pub mod` and its entry in [`LAYERS`].

use kernel::layer::LayerKind;

pub mod framing;
pub mod limits;
pub mod metrics;
pub mod route;
pub mod trace;

// Not layers, but utilities that several of them use.
#[cfg(test)]
mod doc_toml;
mod log_throttle;
mod observed_call;
mod per_api;

/// All layers, in the order in which they usually stand in a stack.
pub static LAYERS: [LayerKind; 4] = [
    LayerKind::of::<limits::Limits>(),
    LayerKind::of::<framing::Framing>(),
    LayerKind::of::<metrics::Metrics>(),
    LayerKind::of::<trace::Trace>(),
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use kernel::budget::Budget;
    use kernel::layer::{Layer, LayerParts, Plane, Shared};
    use kernel::settings::{NodeLimits, Settings};
    use kernel::units::ByteSize;

    use super::*;

    fn defaults(kind: &LayerKind) -> Settings {
        let empty = toml::from_str("").unwrap();
        (kind.decode)(empty).unwrap()
    }

    #[test]
    fn every_layer_is_built_from_its_defaults_for_the_plane_that_it_names() {
        let (budget, shared) = (Budget::for_requests(1 << 20), Shared::default());
        let node = NodeLimits { request_memory: ByteSize(1 << 30), reply_memory: ByteSize(1 << 30) };
        let mut names = HashSet::new();
        for kind in &LAYERS {
            assert!(names.insert(kind.name), "two layers are called {}", kind.name);
            let settings = defaults(kind);
            assert!((kind.check)(&settings, &node).is_empty(), "{}", kind.name);
            let mut parts = LayerParts::new("a-name", &budget, &budget, &shared);
            let plane = match (kind.build)(&settings, &mut parts).unwrap() {
                Layer::Bytes(_) => Plane::Bytes,
                Layer::Framing(_) => Plane::Framing,
                Layer::Calls(tier) => {
                    assert_eq!(tier.name(), "a-name");
                    Plane::Calls
                }
            };
            assert_eq!(plane, kind.plane, "{}", kind.name);
        }
    }

    #[test]
    fn layers_of_one_kind_share_the_numbers_that_a_page_may_name_once() {
        let (budget, shared) = (Budget::for_requests(1 << 20), Shared::default());
        let mut own = 0;
        for _ in 0..2 {
            for kind in &LAYERS {
                let mut parts = LayerParts::new("a-name", &budget, &budget, &shared);
                (kind.build)(&defaults(kind), &mut parts).unwrap();
                own += parts.into_collectors().len();
            }
        }
        assert_eq!(shared.collectors().len(), 2, "one for all framing, one for all metrics");
        assert_eq!(own, 2, "each limits has numbers of its own");
    }
}
