//! Settings as they are shown: without the passwords of URLs. Secrets of their own kind mask themselves.

use serde_json::Value;

const MASK: &str = "***";

/// A URL without its password, be it before the host or a parameter.
pub fn url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (place, parameters) = rest.split_once('?').map_or((rest, None), |(place, all)| (place, Some(all)));
    let place = match place.rsplit_once('@') {
        Some((login, host)) if login.contains(':') => {
            let user = login.split(':').next().unwrap_or_default();
            format!("{user}:{MASK}@{host}")
        }
        // A password with a question mark in it.
        None if place.contains(':') && parameters.is_some_and(|all| all.contains('@')) => {
            return format!("{scheme}://{MASK}");
        }
        _ => place.to_owned(),
    };
    let parameter = |parameter: &str| match parameter.strip_prefix("password=") {
        // The name of a file is no secret.
        Some(password) if !password.starts_with("file:") => format!("password={MASK}"),
        _ => parameter.to_owned(),
    };
    let parameters = parameters.map(|all| all.split('&').map(parameter).collect::<Vec<_>>().join("&"));
    let parameters = parameters.map_or_else(String::new, |all| format!("?{all}"));
    format!("{scheme}://{place}{parameters}")
}

/// Masks all URLs in settings.
pub fn settings(mut settings: Value) -> Value {
    mask(&mut settings);
    settings
}

fn mask(value: &mut Value) {
    match value {
        Value::String(text) if text.contains("://") => *text = url(text),
        Value::Array(all) => all.iter_mut().for_each(mask),
        Value::Object(all) => all.values_mut().for_each(mask),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_password_is_masked() {
        for (shown, masked) in [
            ("postgres://me:secret@db:5432/x", "postgres://me:***@db:5432/x"),
            ("postgres://me:se@cr/et@db/x", "postgres://me:***@db/x"),
            ("postgres://me:se?cr@db/x", "postgres://***"),
            ("postgres://db/x?password=p&schema=a", "postgres://db/x?password=***&schema=a"),
        ] {
            assert_eq!(url(shown), masked);
        }
    }

    #[test]
    fn what_has_none_is_shown_as_it_is() {
        for plain in [
            "memory://",
            "sqlite://yagura.db",
            "sqlite:///var/a@b?c.db",
            "postgres://me@db:5432/x?schema=a",
            "postgres://me@db/x?password=file:/run/secrets/db",
            "localhost:9092",
        ] {
            assert_eq!(url(plain), plain);
        }
    }

    #[test]
    fn settings_are_masked_wherever_they_stand() {
        let stores =
            json!({ "a": { "url": "postgres://me:p@db/x", "n": 1 }, "b": ["postgres://db?password=p"] });
        let shown = settings(stores).to_string();
        assert!(!shown.contains(":p@") && !shown.contains("=p\""), "{shown}");
    }
}
