//! Puts environment variables into the texts of a config: `"${NAME}"`.
//!
//! It works on values and not on the file's bytes, so that what a variable holds can never become a key or a table. `$$`
//! is one `$`; a `$` before anything else stays as it is.

use std::borrow::Cow;
use std::mem;

use toml::de::DeValue;

use crate::sheet::{Sheet, Value};

type Env<'e> = &'e dyn Fn(&str) -> Option<String>;

/// What is wrong with one `${...}`: how it is written, and the sentence.
type Problem = (String, String);

/// Replaces the variables in every text of the file.
pub(crate) fn expand(sheet: &mut Sheet<'_>, env: Env<'_>) {
    let mut root = mem::take(&mut sheet.root);
    for (_, value) in root.iter_mut() {
        expand_value(sheet, value, env);
    }
    sheet.root = root;
}

fn expand_value(sheet: &mut Sheet<'_>, value: &mut Value<'_>, env: Env<'_>) {
    let span = value.span();
    match value.get_mut() {
        DeValue::String(text) if text.contains('$') => match substitute(text, env) {
            Ok(expanded) => *text = Cow::Owned(expanded),
            Err(problems) => {
                for (written, message) in problems {
                    let offset = sheet.raw(span.clone()).find(&written).map(|offset| span.start + offset);
                    let place = offset.map_or(span.clone(), |start| start..start + written.len());
                    sheet.fault(place, message);
                }
                sheet.unresolved.push(span.start);
            }
        },
        DeValue::Array(items) => {
            for item in items.iter_mut() {
                expand_value(sheet, item, env);
            }
        }
        DeValue::Table(table) => {
            for (_, item) in table.iter_mut() {
                expand_value(sheet, item, env);
            }
        }
        _ => {}
    }
}

fn substitute(text: &str, env: Env<'_>) -> Result<String, Vec<Problem>> {
    let mut expanded = String::with_capacity(text.len());
    let mut problems = Vec::new();
    let mut rest = text;
    while let Some(dollar) = rest.find('$') {
        expanded.push_str(&rest[..dollar]);
        let after = &rest[dollar + 1..];
        if let Some(tail) = after.strip_prefix('$') {
            expanded.push('$');
            rest = tail;
        } else if let Some(tail) = after.strip_prefix('{') {
            let Some((name, tail)) = tail.split_once('}') else {
                problems.push(("${".to_owned(), "\"${\" has no \"}\"; a plain dollar is \"$$\"".to_owned()));
                break;
            };
            match look_up(name, env) {
                Ok(value) => expanded.push_str(&value),
                Err(message) => problems.push((format!("${{{name}}}"), message)),
            }
            rest = tail;
        } else {
            expanded.push('$');
            rest = after;
        }
    }
    expanded.push_str(rest);
    if problems.is_empty() { Ok(expanded) } else { Err(problems) }
}

fn look_up(name: &str, env: Env<'_>) -> Result<String, String> {
    let is_name = !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if !is_name {
        return Err(format!(
            "{name:?} is not the name of an environment variable: letters, digits and \"_\", such as \"${{DATA_URL}}\""
        ));
    }
    env(name).ok_or_else(|| {
        format!("the environment variable {name} is not set (or is not UTF-8); a plain dollar is \"$$\"")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("db-1".to_owned()),
            "DOLLAR" => Some("${HOST}".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_are_put_in_once() {
        let cases = [
            ("${HOST}:9092", "db-1:9092"),
            ("a${HOST}b${HOST}", "adb-1bdb-1"),
            ("${DOLLAR}", "${HOST}"),
            ("x${EMPTY}y", "xy"),
            ("cost: 5$, $$5, $${HOST}", "cost: 5$, $5, ${HOST}"),
        ];
        for (text, expected) in cases {
            assert_eq!(substitute(text, &env), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn every_missing_variable_is_named() {
        let problems = substitute("${ONE}-${HOST}-${TWO}-${", &env).unwrap_err();
        let written: Vec<&str> = problems.iter().map(|(written, _)| written.as_str()).collect();
        assert_eq!(written, ["${ONE}", "${TWO}", "${"]);
        assert!(substitute("${A B}", &env).unwrap_err()[0].1.contains("not the name"));
        assert!(substitute("${1ST}", &env).is_err() && substitute("${}", &env).is_err());
    }
}
