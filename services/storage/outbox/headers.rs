//! The headers of a message as SQL has them: a JSON object of texts, or a list of pairs, in which names may repeat.

use serde::Deserialize;
use std::collections::BTreeMap;

/// Names and values, in order.
pub(super) type Headers = Vec<(String, Option<String>)>;

#[derive(Deserialize)]
#[serde(untagged)]
enum Json {
    Object(BTreeMap<String, Option<String>>),
    List(Headers),
}

/// Reads them.
///
/// # Errors
/// They have another form, as a sentence.
pub(super) fn parse(headers: Option<&str>) -> Result<Headers, String> {
    let Some(headers) = headers else { return Ok(Headers::new()) };
    match serde_json::from_str(headers) {
        Ok(Json::Object(headers)) => Ok(headers.into_iter().collect()),
        Ok(Json::List(headers)) => Ok(headers),
        Err(_) => Err("the headers are neither an object of texts nor a list of pairs".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(name: &str, value: Option<&str>) -> (String, Option<String>) {
        (name.to_owned(), value.map(str::to_owned))
    }

    #[test]
    fn both_forms_are_read() {
        assert_eq!(parse(None), Ok(Headers::new()));
        let object = parse(Some(r#"{"a": "1", "b": null}"#));
        assert_eq!(object, Ok(vec![pair("a", Some("1")), pair("b", None)]));
        let list = parse(Some(r#"[["b", "2"], ["a", "1"], ["b", null]]"#));
        assert_eq!(list, Ok(vec![pair("b", Some("2")), pair("a", Some("1")), pair("b", None)]));
    }

    #[test]
    fn other_forms_are_refused() {
        for headers in [r#"{"a": 1}"#, r#"["a"]"#, r#"[["a"]]"#, "7", "{"] {
            assert!(parse(Some(headers)).is_err(), "{headers}");
        }
    }
}
