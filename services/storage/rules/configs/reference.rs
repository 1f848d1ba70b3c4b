//! The README's tables of configs: those that have no effect here, and the values that are refused.

use std::fmt::Write;

use super::group::group_configs;
use super::topic::topic_configs;

/// The README's tables of configs, in Markdown.
pub fn reference_markdown() -> String {
    let mut page = String::from("| of | no effect here | because |\n|---|---|---|\n");
    let topics = topic_configs().iter();
    let topics = topics.filter_map(|config| Some((config.name.to_owned(), config.support.no_effect()?)));
    write_rows(&mut page, "topics", topics);
    let groups = group_configs().iter();
    let groups = groups.filter_map(|config| Some((config.name.to_owned(), config.support.no_effect()?)));
    write_rows(&mut page, "groups", groups);
    page.push_str("\n| of | refused | because |\n|---|---|---|\n");
    let refused = topic_configs().iter().flat_map(|config| {
        config.refused.iter().map(move |(value, reason)| (format!("{}={value}", config.name), *reason))
    });
    write_rows(&mut page, "topics", refused);
    page
}

/// A row for each reason, in the order in which they come.
fn write_rows(page: &mut String, of: &str, configs: impl Iterator<Item = (String, &'static str)>) {
    let mut by_reason: Vec<(&str, Vec<String>)> = Vec::new();
    for (name, reason) in configs {
        match by_reason.iter_mut().find(|(other, _)| *other == reason) {
            Some((_, names)) => names.push(name),
            None => by_reason.push((reason, vec![name])),
        }
    }
    for (reason, names) in by_reason {
        let _ = writeln!(page, "| {of} | `{}` | {reason} |", names.join("`, `"));
    }
}
