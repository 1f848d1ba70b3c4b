//! `[route]`: it stands where a stack ends in `route`, its services exist, and each rule can fit something.

use kernel::Api;

use super::reach::Reach;
use crate::decode::Draft;
use crate::nearest::instead;
use crate::sheet::{Sheet, Value, Word};

/// Checks routing, and adds the services it leads to.
pub(super) fn check(sheet: &Sheet<'_>, draft: &Draft, reach: &mut Reach) {
    let Some(route) = sheet.get(&["route"]) else {
        for (listener, span) in &reach.routed {
            let message = format!(
                "listeners.{listener}.stack: \"route\" needs a table [route] with its \"default\" service"
            );
            sheet.fault(span.clone(), message);
        }
        // Where the calls were to go is not known.
        reach.is_certain &= reach.routed.is_empty();
        return;
    };
    if reach.routed.is_empty() && reach.is_certain {
        sheet.fault(
            route.span(),
            "route: no stack ends in \"route\", so this would never be asked; take it out",
        );
    }
    service(sheet, draft, reach, sheet.get(&["route", "default"]), "route.default");
    let rules = sheet.get(&["route", "rules"]).and_then(|rules| rules.get_ref().as_array());
    for (index, value) in rules.into_iter().flat_map(|rules| rules.iter()).enumerate() {
        rule(sheet, draft, reach, value, &format!("route.rules[{index}]"));
    }
}

fn rule(sheet: &Sheet<'_>, draft: &Draft, reach: &mut Reach, value: &Value<'_>, path: &str) {
    let Some(table) = value.get_ref().as_table() else { return };
    service(sheet, draft, reach, table.get("to"), &format!("{path}.to"));
    let lists = ["listeners", "apis", "topics"].map(|list| table.get(list));
    // A list that cannot be read counts as given: its own fault is enough.
    let is_empty = |list: &Value<'_>| list.get_ref().as_array().is_some_and(|array| array.is_empty());
    if lists.iter().all(|list| list.is_none_or(is_empty)) {
        let message = format!(
            "{path}: it fits every call; give at least one of listeners, apis, topics, or make its service the default"
        );
        sheet.fault(value.span(), message);
    }
    let [listeners, apis, _] = lists.map(|list| list.and_then(|list| sheet.words(list)).unwrap_or_default());
    for word in &listeners {
        listener(sheet, draft, reach, word, path);
    }
    for word in apis.iter().filter(|word| Api::by_name(word.text).is_none()) {
        let names: Vec<&str> = Api::all().map(Api::name).collect();
        let hint = instead(word.text, &names);
        sheet.fault(word.span.clone(), format!("{path}.apis: Kafka has no API \"{}\"{hint}", word.text));
    }
}

fn listener(sheet: &Sheet<'_>, draft: &Draft, reach: &Reach, word: &Word<'_>, path: &str) {
    if !draft.listeners.contains_key(word.text) {
        let names: Vec<&str> = draft.listeners.keys().map(String::as_str).collect();
        let hint = instead(word.text, &names);
        sheet.fault(
            word.span.clone(),
            format!("{path}.listeners: there is no listener \"{}\"{hint}", word.text),
        );
    } else if reach.is_certain && !reach.routed.iter().any(|(name, _)| name == word.text) {
        let message = format!(
            "{path}.listeners: the stack of \"{}\" does not end in \"route\", so the rule never fits",
            word.text
        );
        sheet.fault(word.span.clone(), message);
    }
}

/// Checks a place that names a service.
fn service(sheet: &Sheet<'_>, draft: &Draft, reach: &mut Reach, value: Option<&Value<'_>>, path: &str) {
    let Some(word) = value.and_then(|value| sheet.read_word(value)) else {
        reach.is_certain = false;
        return;
    };
    if draft.services.contains_key(word.text) {
        reach.services.insert(word.text.to_owned());
        return;
    }
    reach.is_certain = false;
    let names: Vec<&str> = draft.services.keys().map(String::as_str).collect();
    let hint = instead(word.text, &names);
    sheet.fault(word.span, format!("{path}: there is no service \"{}\"{hint}", word.text));
}
