//! Draws the tower as assembled, for `yagura explain`.
//!
//! The layers with their settings come from the config; which of them an API passes, and how deep each looks, only the
//! built stack knows, so the caller hands that in.

use kernel::Api;
use kernel::layer::Plane;
use kernel::stack::{Chain, Depth, Interest};
use layers::route::Rule;
use serde::Serialize;
use serde_json::Value;

use crate::convert::to_toml;
use crate::settings::{Config, Listener, ROUTE};
use crate::values::show_host_port;

/// The width of a terminal that the text is wrapped for.
const COLUMNS: usize = 100;

/// The towers of all listeners in text. `chains` gives a listener's chain for each API that it serves.
pub fn explain(config: &Config, chains: impl Fn(&str) -> Vec<Chain>) -> String {
    let mut text = String::new();
    let node = &config.node;
    line(&mut text, &format!("cluster {}, node {}", node.cluster_id, node.node_id));
    let memory = (node.request_memory, node.reply_memory);
    line(&mut text, &format!("memory for requests {}, for replies {}", memory.0, memory.1));
    for (name, listener) in &config.listeners {
        line(&mut text, "");
        tower(&mut text, config, name, listener);
        line(&mut text, "");
        groups(&mut text, &chains(name));
    }
    text
}

fn line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

/// A listener's layers, from the client down to the services.
fn tower(text: &mut String, config: &Config, name: &str, listener: &Listener) {
    let advertised = match &listener.advertise {
        Some(address) => format!("advertised as {}", show_host_port(address)),
        None => "advertised as the address a client connected to".to_owned(),
    };
    line(text, &format!("{name}  {}, {advertised}", listener.bind));
    line(text, "");
    line(text, "  │ bytes");
    let width = listener.stack.iter().map(|step| step.chars().count()).max().unwrap_or(0);
    for step in &listener.stack {
        let layer = config.layers.get(step);
        let settings = match (layer, config.services.get(step)) {
            (Some(layer), _) => one_line(step, layer),
            (None, Some(service)) => one_line(step, service),
            (None, None) => String::new(),
        };
        let is_bottom = layer.is_none();
        let branch = if is_bottom { "╰─" } else { "├─" };
        line(text, &format!("  {branch} {step:width$}  {settings}"));
        if layer.is_some_and(|layer| layer.kind.plane == Plane::Framing) {
            line(text, "  │ calls");
        }
        if is_bottom && step == ROUTE {
            routes(text, config, width);
        }
    }
}

/// Where `route` leads, in the order of the rules.
fn routes(text: &mut String, config: &Config, indent: usize) {
    let Some(route) = &config.route else { return };
    let rules = route.rules.iter().map(|rule| (rule_fits(rule), rule.to.as_str()));
    let all: Vec<(String, &str)> = rules.chain([("all else".to_owned(), route.default.as_str())]).collect();
    let width = all.iter().map(|(fits, _)| fits.chars().count()).max().unwrap_or(0);
    for (index, (fits, to)) in all.iter().enumerate() {
        let branch = if index + 1 == all.len() { "╰─" } else { "├─" };
        let service = config.services.get(*to).map(|service| one_line(to, service)).unwrap_or_default();
        line(text, &format!("     {:indent$}{branch} {fits:width$} ─> {to}  {service}", ""));
    }
}

fn rule_fits(rule: &Rule) -> String {
    let lists = [("listeners", &rule.listeners), ("apis", &rule.apis), ("topics", &rule.topics)];
    let given = lists.iter().filter(|(_, names)| !names.is_empty());
    given.map(|(list, names)| format!("{list} {}", names.join(", "))).collect::<Vec<_>>().join(" and ")
}

/// Settings as `name value, name value`; the kind only where the name does not say it.
fn one_line(name: &str, settings: &impl Serialize) -> String {
    let table = match serde_json::to_value(settings) {
        Ok(Value::Object(table)) => table,
        Ok(other) => return to_toml(&other),
        Err(error) => return format!("(its settings cannot be shown: {error})"),
    };
    let kind = table.get("kind").and_then(Value::as_str).filter(|kind| *kind != name);
    let rest = table.iter().filter(|(key, _)| key.as_str() != "kind");
    let rest = rest.map(|(key, value)| format!("{key} {}", to_toml(value).trim_matches('"')));
    kind.map(|kind| format!("kind {kind}")).into_iter().chain(rest).collect::<Vec<_>>().join(", ")
}

/// Layers with their depths, and the APIs that pass them.
type ApiGroup<'a> = (&'a [(String, Interest)], Vec<Api>);

/// The APIs by the chain that they pass.
fn groups(text: &mut String, chains: &[Chain]) {
    let mut groups: Vec<ApiGroup<'_>> = Vec::new();
    for chain in chains {
        match groups.iter_mut().find(|(tiers, _)| *tiers == chain.tiers.as_slice()) {
            Some((_, apis)) => apis.push(chain.api),
            None => groups.push((chain.tiers.as_slice(), vec![chain.api])),
        }
    }
    for (tiers, apis) in &groups {
        let names: Vec<String> = apis.iter().map(Api::to_string).collect();
        for wrapped in wrap(&names) {
            line(text, &format!("  {wrapped}"));
        }
        let passes: Vec<String> =
            tiers.iter().map(|(name, interest)| format!("{name} ({})", depths(*interest))).collect();
        if passes.is_empty() {
            line(text, "    pass no layer");
        } else {
            line(text, &format!("    pass {}", passes.join(" > ")));
        }
    }
}

/// Names in lines that fit a terminal.
fn wrap(names: &[String]) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for name in names {
        match lines.last_mut().filter(|last| last.len() + name.len() + 4 <= COLUMNS) {
            Some(last) => {
                last.push_str(", ");
                last.push_str(name);
            }
            None => lines.push(name.clone()),
        }
    }
    lines
}

/// How deep a layer looks into an API's messages.
fn depths(interest: Interest) -> String {
    let Interest { request, reply } = interest;
    match (request, reply) {
        (request, reply) if request == reply => depth(request).to_owned(),
        (request, Depth::None) => format!("request {}", depth(request)),
        (Depth::None, reply) => format!("reply {}", depth(reply)),
        (request, reply) => format!("request {}, reply {}", depth(request), depth(reply)),
    }
}

fn depth(depth: Depth) -> &'static str {
    match depth {
        Depth::None => "nothing",
        Depth::Header => "header",
        Depth::Names => "names",
        Depth::Body => "body",
        Depth::Records => "records",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::parse;

    fn chain(api: Api, tiers: &[(&str, Interest)]) -> Chain {
        Chain { api, tiers: tiers.iter().map(|(name, interest)| (name.to_string(), *interest)).collect() }
    }

    fn chains(_: &str) -> Vec<Chain> {
        let names = Interest { request: Depth::Names, reply: Depth::None };
        vec![
            chain(Api::PRODUCE, &[("metrics", Interest::HEADER), ("route", names)]),
            chain(Api::FETCH, &[("metrics", Interest::HEADER), ("route", names)]),
            chain(Api::API_VERSIONS, &[("metrics", Interest::HEADER)]),
        ]
    }

    #[test]
    fn the_tower_is_drawn_from_the_client_down() {
        let config = parse("routed.toml", include_str!("stacks/routed.toml"), &|_| None).unwrap();
        let text = explain(&config, chains);
        let places: Vec<usize> =
            ["main  127.0.0.1:9092", "├─ limits", "├─ framing", "│ calls", "├─ trace", "╰─ route"]
                .iter()
                .map(|part| text.find(part).unwrap_or_else(|| panic!("{part} is missing:\n{text}")))
                .collect();
        assert!(places.is_sorted(), "{text}");
        let rule = text.find("topics scratch.* ─> scratch  kind storage").unwrap();
        let default = text.find("all else         ─> kept").unwrap();
        assert!(rule < default, "rules are asked before the default:\n{text}");
    }

    #[test]
    fn apis_with_the_same_chain_share_a_line() {
        let config = parse("routed.toml", include_str!("stacks/routed.toml"), &|_| None).unwrap();
        let text = explain(&config, chains);
        let expected = "  Produce, Fetch\n    pass metrics (header) > route (request names)\n  ApiVersions\n    \
                        pass metrics (header)\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn a_long_list_of_apis_is_wrapped() {
        let names: Vec<String> = Api::all().map(|api| api.to_string()).collect();
        let lines = wrap(&names);
        assert!(lines.len() > 1 && lines.iter().all(|line| line.len() <= COLUMNS), "{lines:?}");
    }
}
