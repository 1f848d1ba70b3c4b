//! One table against its section: what is wrong is reported and taken out, the rest decoded.
//!
//! Keys are checked before serde sees them: serde would stop at the first fault, and knows neither the nearest name nor
//! what a value was expected to be.

use std::borrow::Cow;
use std::ops::Range;

use kernel::settings::{LeftOut, Setting, Settings, ValueKind};
use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeTable, DeValue, ValueDeserializer};

use crate::convert::to_json;
use crate::kinds::type_error;
use crate::nearest::instead;
use crate::section::Section;
use crate::sections::homes_of;
use crate::sheet::{Sheet, Value};
use crate::values::Secret;

/// Checks a table and decodes what is right in it; `None` if too little is.
pub(crate) fn read<T: DeserializeOwned>(
    sheet: &Sheet<'_>,
    path: &str,
    section: &Section,
    value: &Value<'_>,
) -> Option<T> {
    let table = valid_part(sheet, path, section, value)?;
    let rest = Spanned::new(value.span(), DeValue::Table(table));
    match T::deserialize(ValueDeserializer::from(rest)) {
        Ok(settings) => Some(settings),
        Err(error) => {
            sheet.fault(error.span().unwrap_or(value.span()), format!("{path}: {}", error.message()));
            None
        }
    }
}

/// The same for a layer or a service, whose settings only its kind can decode.
pub(crate) fn read_settings(
    sheet: &Sheet<'_>,
    path: &str,
    section: &Section,
    value: &Value<'_>,
) -> Option<Settings> {
    let table = valid_part(sheet, path, section, value)?;
    match (section.decode)(to_json(&DeValue::Table(table))) {
        Ok(settings) => Some(settings),
        Err(message) => {
            sheet.fault(value.span(), format!("{path}: {message}"));
            None
        }
    }
}

/// A table without its kind and without what is wrong in it, which is reported; `None` if too little is left.
fn valid_part<'t>(
    sheet: &Sheet<'_>,
    path: &str,
    section: &Section,
    value: &Value<'t>,
) -> Option<DeTable<'t>> {
    let DeValue::Table(table) = value.get_ref() else {
        sheet.fault(value.span(), format!("{path}: expected a table headed [{path}]"));
        return None;
    };
    let mut table = table.clone();
    if section.has_kind {
        table.remove("kind");
    }
    tidy(sheet, path, section.settings, value.span(), &mut table).then_some(table)
}

/// Reports what is wrong in a table and takes it out. Whether everything that is required is left.
pub(crate) fn tidy(
    sheet: &Sheet<'_>,
    path: &str,
    settings: &[Setting],
    span: Range<usize>,
    table: &mut DeTable<'_>,
) -> bool {
    let mut is_whole = true;
    for setting in settings.iter().filter(|setting| setting.left_out == LeftOut::Required) {
        if !table.contains_key(setting.name) {
            let message = format!("{path}: it lacks \"{}\"; expected {}", setting.name, setting.value);
            sheet.fault(span.clone(), message);
            is_whole = false;
        }
    }
    let keys: Vec<(String, Range<usize>)> =
        table.keys().map(|key| (key.get_ref().to_string(), key.span())).collect();
    for (key, key_span) in keys {
        let Some(setting) = settings.iter().find(|setting| setting.name == key) else {
            let names: Vec<&str> = settings.iter().map(|setting| setting.name).collect();
            sheet.fault(key_span, unknown(&key, &format!("{path}: there is no setting"), &names));
            table.remove(key.as_str());
            continue;
        };
        let inner = format!("{path}.{key}");
        let value = table.get_mut(key.as_str());
        if !value.is_some_and(|value| is_sound(sheet, &inner, setting.value, value)) {
            table.remove(key.as_str());
            is_whole &= setting.left_out != LeftOut::Required;
        }
    }
    is_whole
}

/// The error for an unknown name, after `lead`, with a suggestion.
pub(crate) fn unknown(name: &str, lead: &str, names: &[&str]) -> String {
    let homes = homes_of(name);
    let hint = if homes.is_empty() {
        instead(name, names)
    } else {
        format!("; it belongs in {}", homes.join(" or "))
    };
    format!("{lead} \"{name}\"{hint}")
}

/// Whether a value is what its setting may be. Reports what is wrong; reads the files of secrets.
fn is_sound(sheet: &Sheet<'_>, path: &str, kind: ValueKind, value: &mut Value<'_>) -> bool {
    if !sheet.is_resolved(value) {
        return false;
    }
    let span = value.span();
    match (kind, value.get_mut()) {
        (ValueKind::Texts, DeValue::Array(items)) => {
            let mut all = true;
            for (index, item) in items.iter_mut().enumerate() {
                all &= is_sound(sheet, &format!("{path}[{index}]"), ValueKind::Text, item);
            }
            all
        }
        (ValueKind::Tables { path: heading, settings }, DeValue::Array(items)) => {
            let mut all = true;
            for (index, item) in items.iter_mut().enumerate() {
                all &= is_sound_table(sheet, &format!("{path}[{index}]"), heading, settings, item);
            }
            all
        }
        (ValueKind::Secret, DeValue::String(text)) if text.starts_with("file:") => {
            match Secret::from_file(&text["file:".len()..]) {
                Ok(secret) => {
                    *text = Cow::Owned(secret.expose().to_owned());
                    true
                }
                Err(message) => {
                    sheet.fault(span, format!("{path}: {message}"));
                    false
                }
            }
        }
        (kind, value) => match type_error(kind, value) {
            Some(message) if matches!(kind, ValueKind::Secret) => {
                sheet.fault_in_secret(span, format!("{path}: {message}"));
                false
            }
            Some(message) => {
                sheet.fault(span, format!("{path}: {message}"));
                false
            }
            None => true,
        },
    }
}

fn is_sound_table(
    sheet: &Sheet<'_>,
    path: &str,
    heading: &str,
    settings: &[Setting],
    value: &mut Value<'_>,
) -> bool {
    let span = value.span();
    match value.get_mut() {
        DeValue::Table(table) => tidy(sheet, path, settings, span, table),
        _ => {
            sheet.fault(span, format!("{path}: expected a table headed [[{heading}]]"));
            false
        }
    }
}
