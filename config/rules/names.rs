//! Names: a stack can tell layers and services apart, and nothing is set up that is not in use.

use std::ops::Range;

use super::reach::Reach;
use crate::decode::Draft;
use crate::registry::layer_kind;
use crate::settings::ROUTE;
use crate::sheet::Sheet;

/// A stack could not tell a service from a layer of the same name.
pub(super) fn apart(sheet: &Sheet<'_>, draft: &Draft) {
    let is_taken =
        |name: &str| name == ROUTE || layer_kind(name).is_some() || sheet.get(&["layers", name]).is_some();
    for name in draft.services.keys().filter(|name| is_taken(name)) {
        let message =
            format!("services.{name}: a layer has that name, and a stack could not tell them apart");
        sheet.fault(key_span(sheet, "services", name), message);
    }
}

/// Settings that nothing reads are refused: they are usually a mistake.
pub(super) fn unused(sheet: &Sheet<'_>, draft: &Draft, reach: &Reach) {
    if !reach.is_certain {
        return;
    }
    for name in draft.services.keys().filter(|name| !reach.services.contains(*name)) {
        let message = format!(
            "services.{name}: nothing leads to it; end a stack in \"{name}\" or route to it, or take it out"
        );
        sheet.fault(key_span(sheet, "services", name), message);
    }
    let declared = draft.layers.keys().filter(|name| sheet.get(&["layers", name]).is_some());
    for name in declared.filter(|name| !reach.steps.contains(*name)) {
        let message =
            format!("layers.{name}: no stack has this layer; put \"{name}\" into one, or take it out");
        sheet.fault(key_span(sheet, "layers", name), message);
    }
}

/// Where a named table has its name.
fn key_span(sheet: &Sheet<'_>, room: &str, name: &str) -> Range<usize> {
    sheet.key_span(&[room, name]).unwrap_or(0..0)
}
