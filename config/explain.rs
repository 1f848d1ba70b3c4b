//! Draws the tower as assembled, for `yagura explain`.
//!
//! The layers with their settings come from the config; which of them an API passes, and how deep each looks, only the
//! built stack knows, so the caller hands that in.

use kernel::layer::Plane;
use kernel::stack::{Chain, Depth, Interest};
use kernel::{Api, masked};
use layers::route::Rule;
use serde::Serialize;
use serde_json::Value;

use crate::convert::to_toml;
use crate::settings::{Config, Listener, ROUTE};
use crate::values::show_host_port;

/// The towers of all listeners in text, in lines of at most `columns` characters where that is possible. `chains` gives a
/// listener's chain for each API that it serves.
pub fn explain(config: &Config, columns: usize, chains: impl Fn(&str) -> Vec<Chain>) -> String {
    let mut page = Page { text: String::new(), columns };
    let node = &config.node;
    let id = node.node_id.map_or_else(|| "1, or as the store gives".to_owned(), |id| id.to_string());
    page.line(&format!("cluster {}, node {id}", node.cluster_id));
    page.line(&format!("memory for requests {}, for replies {}", node.request_memory, node.reply_memory));
    for (name, listener) in &config.listeners {
        page.line("");
        page.tower(config, name, listener);
        page.line("");
        page.groups(&chains(name));
    }
    page.text
}

/// The text as far as it is written.
struct Page {
    text: String,
    columns: usize,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    /// Writes pieces with spaces between them, in as many lines as they need. The first begins with `lead`, the others with `hang`.
    fn fill(&mut self, lead: &str, hang: &str, pieces: &[String]) {
        let mut line = lead.to_owned();
        let mut is_begun = false;
        for piece in pieces {
            let needed = line.chars().count() + 1 + piece.trim_end().chars().count();
            if is_begun && needed > self.columns {
                self.line(&line);
                line = hang.to_owned();
                is_begun = false;
            }
            if is_begun {
                line.push(' ');
            }
            line.push_str(piece);
            is_begun = true;
        }
        self.line(&line);
    }

    /// A listener's layers, from the client down to the services.
    fn tower(&mut self, config: &Config, name: &str, listener: &Listener) {
        let advertised = match &listener.advertise {
            Some(address) => format!("advertised as {}", show_host_port(address)),
            None => "advertised as the address a client connected to".to_owned(),
        };
        self.fill(&format!("{name}  "), "  ", &[format!("{},", listener.bind), advertised]);
        self.line("");
        self.line("  │ bytes");
        let width = listener.stack.iter().map(|step| step.chars().count()).max().unwrap_or(0);
        for step in &listener.stack {
            let layer = config.layers.get(step);
            let settings = match (layer, config.services.get(step)) {
                (Some(layer), _) => shown(step, layer),
                (None, Some(service)) => shown(step, service),
                (None, None) => Vec::new(),
            };
            let is_bottom = layer.is_none();
            let (branch, bar) = if is_bottom { ("╰─", ' ') } else { ("├─", '│') };
            let hang = format!("  {bar}  {:width$}  ", "");
            self.fill(&format!("  {branch} {step:width$}  "), &hang, &settings);
            if layer.is_some_and(|layer| layer.kind.plane == Plane::Framing) {
                self.line("  │ calls");
            }
            if is_bottom && step == ROUTE {
                self.routes(config, width);
            }
        }
    }

    /// Where `route` leads, in the order of the rules.
    fn routes(&mut self, config: &Config, indent: usize) {
        let Some(route) = &config.route else { return };
        let rules = route.rules.iter().map(|rule| (rule_fits(rule), rule.to.as_str()));
        let all: Vec<(String, &str)> =
            rules.chain([("all else".to_owned(), route.default.as_str())]).collect();
        let widths = all.iter().map(|(fits, _)| fits.chars().count());
        let width = widths.filter(|width| *width <= self.columns / 3).max().unwrap_or(0);
        for (index, (fits, to)) in all.iter().enumerate() {
            let (branch, bar) = if index + 1 == all.len() { ("╰─", ' ') } else { ("├─", '│') };
            // A long rule is wrapped between its words; the arrows of all others stand below each other.
            let mut pieces: Vec<String> = fits.split(' ').map(str::to_owned).collect();
            if fits.chars().count() <= width {
                pieces = vec![format!("{fits:width$}")];
            }
            pieces.extend(["─>".to_owned(), format!("{to} ")]);
            pieces.extend(config.services.get(*to).map(|service| shown(to, service)).unwrap_or_default());
            let (lead, hang) =
                (format!("     {:indent$}{branch} ", ""), format!("     {:indent$}{bar}     ", ""));
            self.fill(&lead, &hang, &pieces);
        }
    }

    /// The APIs by the chain that they pass.
    fn groups(&mut self, chains: &[Chain]) {
        let mut groups: Vec<ApiGroup<'_>> = Vec::new();
        for chain in chains {
            match groups.iter_mut().find(|(tiers, _)| *tiers == chain.tiers.as_slice()) {
                Some((_, apis)) => apis.push(chain.api),
                None => groups.push((chain.tiers.as_slice(), vec![chain.api])),
            }
        }
        for (tiers, apis) in &groups {
            self.fill("  ", "  ", &joined(apis.iter().map(Api::to_string).collect(), ","));
            let passes = tiers.iter().map(|(name, interest)| format!("{name} ({})", depths(*interest)));
            let passes = joined(passes.collect(), " >");
            if passes.is_empty() {
                self.line("    pass no layer");
            } else {
                self.fill("    pass ", "      ", &passes);
            }
        }
    }
}

/// Pieces that end in a separator, all but the last.
fn joined(mut pieces: Vec<String>, separator: &str) -> Vec<String> {
    let last = pieces.len().saturating_sub(1);
    pieces.iter_mut().take(last).for_each(|piece| piece.push_str(separator));
    pieces
}

fn rule_fits(rule: &Rule) -> String {
    let lists = [("listeners", &rule.listeners), ("apis", &rule.apis), ("topics", &rule.topics)];
    let given = lists.iter().filter(|(_, names)| !names.is_empty());
    given.map(|(list, names)| format!("{list} {}", names.join(", "))).collect::<Vec<_>>().join(" and ")
}

/// Settings as `name value`; the kind only where the name does not say it.
fn shown(name: &str, settings: &impl Serialize) -> Vec<String> {
    let table = match serde_json::to_value(settings).map(masked::settings) {
        Ok(Value::Object(table)) => table,
        Ok(other) => return vec![to_toml(&other)],
        Err(error) => return vec![format!("(its settings cannot be shown: {error})")],
    };
    let kind = table.get("kind").and_then(Value::as_str).filter(|kind| *kind != name);
    let rest = table.iter().filter(|(key, _)| key.as_str() != "kind");
    let rest = rest.map(|(key, value)| format!("{key} {}", to_toml(value).trim_matches('"')));
    joined(kind.map(|kind| format!("kind {kind}")).into_iter().chain(rest).collect(), ",")
}

/// Layers with their depths, and the APIs that pass them.
type ApiGroup<'a> = (&'a [(String, Interest)], Vec<Api>);

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
        let text = explain(&config, 100, chains);
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
        let text = explain(&config, 100, chains);
        let expected = "  Produce, Fetch\n    pass metrics (header) > route (request names)\n  ApiVersions\n    \
                        pass metrics (header)\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn lines_are_wrapped_and_lose_nothing() {
        let rules = "[[route.rules]]\ntopics = [\"alpha.*\", \"beta.*\", \"gamma.*\", \"delta.*\", \"epsilon.*\"]\nto = \"kept\"\n";
        let text = format!("{}\n{rules}", include_str!("stacks/routed.toml"));
        let config = parse("routed.toml", &text, &|_| None).unwrap();
        let all = |_: &str| -> Vec<Chain> {
            Api::all().map(|api| chain(api, &[("metrics", Interest::HEADER)])).collect()
        };
        let words = |text: &str| -> Vec<String> {
            let words = text.split_whitespace().filter(|word| *word != "│");
            words.map(str::to_owned).collect()
        };
        let wide = explain(&config, usize::MAX, all);
        for columns in [60, 80, 100] {
            let text = explain(&config, columns, all);
            let longest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(longest <= columns, "{longest} > {columns}:\n{text}");
            assert_eq!(words(&text), words(&wide), "{columns}");
        }
    }
}
