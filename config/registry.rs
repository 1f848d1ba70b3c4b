//! The kinds of layers and services that a config can name, as their owners registered them.

use kernel::layer::{LayerKind, Plane};
use kernel::service::ServiceKind;

use crate::services::SERVICES;

/// All kinds of layers, in the order in which they usually stand.
pub(crate) fn layer_kinds() -> &'static [LayerKind] {
    &layers::LAYERS
}

/// All kinds of services.
pub(crate) fn service_kinds() -> &'static [ServiceKind] {
    &SERVICES
}

/// The kind of layer with this name.
pub(crate) fn layer_kind(name: &str) -> Option<&'static LayerKind> {
    layer_kinds().iter().find(|kind| kind.name == name)
}

/// The kind of service with this name.
pub(crate) fn service_kind(name: &str) -> Option<&'static ServiceKind> {
    service_kinds().iter().find(|kind| kind.name == name)
}

/// The names of all kinds of layers.
pub(crate) fn layer_names() -> Vec<&'static str> {
    layer_kinds().iter().map(|kind| kind.name).collect()
}

/// The names of the kinds of layers that stand on this plane.
pub(crate) fn layer_names_on(plane: Plane) -> Vec<&'static str> {
    layer_kinds().iter().filter(|kind| kind.plane == plane).map(|kind| kind.name).collect()
}

/// The names of all kinds of services.
pub(crate) fn service_names() -> Vec<&'static str> {
    service_kinds().iter().map(|kind| kind.name).collect()
}
