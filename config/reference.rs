//! The README's config reference, made of the lines that errors use too.

use std::fmt::Write;

use kernel::settings::{LeftOut, Setting};

use crate::section::Section;
use crate::sections::{self, RULE};

/// The README's config reference, in Markdown.
pub fn reference_markdown() -> String {
    let mut page = String::from(
        "A layer that a stack names needs no table of its own. Under another name than its kind's it says which it is: \
         `[layers.public]` with `kind = \"limits\"`. Any text may hold `${VARIABLE}` (`$$` is a plain dollar); a secret \
         may be `\"file:/path\"`.\n",
    );
    for section in sections::all() {
        write_section(&mut page, &section);
    }
    page
}

fn write_section(page: &mut String, section: &Section) {
    let brackets = if section.path == RULE.path { ("[[", "]]") } else { ("[", "]") };
    let _ = write!(page, "\n### `{}{}{}`\n\n{}\n", brackets.0, section.path, brackets.1, section.about);
    if section.settings.is_empty() {
        page.push_str("It has no settings.\n");
        return;
    }
    page.push_str("\n| setting | value | left out | what it does |\n|---|---|---|---|\n");
    let defaults = section.defaults();
    for setting in section.settings {
        let default = defaults.iter().find(|(name, _)| *name == setting.name);
        let left_out = left_out(setting, default.map(|(_, default)| default.as_str()));
        let Setting { name, value, about, .. } = setting;
        let _ = writeln!(page, "| `{name}` | {value} | {left_out} | {about} |");
    }
}

fn left_out(setting: &Setting, default: Option<&str>) -> String {
    match (setting.left_out, default) {
        (LeftOut::Required, _) => "**required**".to_owned(),
        (_, Some(default)) => format!("`{default}`"),
        (LeftOut::Means(meaning), None) => meaning.to_owned(),
        (LeftOut::Default, None) => "nothing".to_owned(),
    }
}
