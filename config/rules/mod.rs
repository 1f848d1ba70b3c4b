//! What no single table can see: the order of a stack, who leads where, and what is shared.
//!
//! A rule looks at the names and places on the sheet more than at decoded settings, so that one broken value does not
//! silence it. It stays silent itself where it could only guess: if a stack holds a name that does not exist, nothing is
//! said about what the stack leaves out.

mod ports;
mod routing;
mod stacks;

use std::collections::BTreeSet;
use std::ops::Range;

use crate::decode::Draft;
use crate::settings::{LayerKind, LayerSettings, ROUTE};
use crate::sheet::Sheet;

pub(crate) use ports::{Socket, needs_token, taken};

/// What the stacks lead to.
struct Reach {
    /// Every name in any stack.
    steps: BTreeSet<String>,
    /// Services that a stack ends in, or that routing leads to.
    services: BTreeSet<String>,
    /// The listeners whose stack ends in `route`, and where that stands.
    routed: Vec<(String, Range<usize>)>,
    /// Whether every name was one that exists; if not, what seems unused may be a victim of that.
    is_certain: bool,
}

/// Checks the whole of a config.
pub(crate) fn check(sheet: &Sheet<'_>, draft: &Draft) {
    names(sheet, draft);
    let mut reach = stacks::check(sheet, draft);
    routing::check(sheet, draft, &mut reach);
    unused(sheet, draft, &reach);
    memory(sheet, draft);
    stores(sheet, draft);
    ports::check(sheet, draft);
}

/// A stack could not tell a service from a layer of the same name.
fn names(sheet: &Sheet<'_>, draft: &Draft) {
    let is_taken = |name: &str| {
        name == ROUTE || LayerKind::by_name(name).is_some() || sheet.get(&["layers", name]).is_some()
    };
    for name in draft.services.keys().filter(|name| is_taken(name)) {
        let message =
            format!("services.{name}: a layer has that name, and a stack could not tell them apart");
        sheet.fault(key_span(sheet, "services", name), message);
    }
}

/// Settings that nothing would ever read are refused: they tell of a slip.
fn unused(sheet: &Sheet<'_>, draft: &Draft, reach: &Reach) {
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

/// A frame that is larger than the whole pool of request bytes could never be read.
fn memory(sheet: &Sheet<'_>, draft: &Draft) {
    let Some(node) = &draft.node else { return };
    for (name, layer) in &draft.layers {
        let Some(LayerSettings::Framing(framing)) = &layer.settings else { continue };
        if framing.frame_bytes_max <= node.request_memory {
            continue;
        }
        let message = format!(
            "layers.{name}.frame_bytes_max: {} is more than node.request_memory ({}), so a frame of that size could \
             never be read; lower the one or raise the other",
            framing.frame_bytes_max, node.request_memory
        );
        // Where the file does not set it, framing takes the lesser of the two.
        if let Some(span) = sheet.span(&["layers", name, "frame_bytes_max"]) {
            sheet.fault(span, message);
        }
    }
}

/// Two services on one store would each believe that it is theirs.
fn stores(sheet: &Sheet<'_>, draft: &Draft) {
    let mut seen: Vec<(&str, &str)> = Vec::new();
    for name in draft.services.keys() {
        let Some(url) = sheet.word(&["services", name, "url"]) else { continue };
        if let Some((other, _)) = seen.iter().find(|(_, seen)| *seen == url.text) {
            let message =
                format!("services.{name}.url: the service \"{other}\" keeps its data there already");
            sheet.fault(url.span, message);
        } else if !url.text.starts_with("memory:") {
            seen.push((name, url.text));
        }
    }
}

/// Where a named table has its name.
fn key_span(sheet: &Sheet<'_>, room: &str, name: &str) -> Range<usize> {
    sheet.key_span(&[room, name]).unwrap_or(0..0)
}
