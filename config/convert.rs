//! Between TOML, which people write, and JSON, which settings are decoded from and shown in.

use serde_json::{Map, Number, Value};
use toml::de::DeValue;

/// A value of a config file as JSON. Types that JSON lacks become strings.
pub(crate) fn to_json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => Value::String(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::from(number),
            Err(_) => Value::String(number.to_string()),
        },
        DeValue::Float(number) => {
            let finite = number.as_str().parse::<f64>().ok().and_then(Number::from_f64);
            finite.map_or_else(|| Value::String(number.to_string()), Value::Number)
        }
        DeValue::Boolean(flag) => Value::Bool(*flag),
        DeValue::Datetime(time) => Value::String(time.to_string()),
        DeValue::Array(items) => Value::Array(items.iter().map(|item| to_json(item.get_ref())).collect()),
        DeValue::Table(table) => {
            let pairs =
                table.iter().map(|(key, value)| (key.get_ref().to_string(), to_json(value.get_ref())));
            Value::Object(pairs.collect::<Map<String, Value>>())
        }
    }
}

/// A value as a config writes it.
pub(crate) fn to_toml(value: &Value) -> String {
    match value {
        // TOML has no word for it, and no setting has it.
        Value::Null => "\"\"".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => number.to_string(),
        Value::String(text) => format!("{text:?}"),
        Value::Array(items) => format!("[{}]", items.iter().map(to_toml).collect::<Vec<_>>().join(", ")),
        Value::Object(table) => {
            let pairs = table.iter().map(|(key, value)| format!("{key} = {}", to_toml(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_value_goes_to_json() {
        let toml =
            "{ a = 'x', b = 0xFF, c = 1.5, d = true, e = [1, 'y'], f = { g = -1 }, h = 2024-01-02, i = inf }";
        let expected = json!({
            "a": "x", "b": 255, "c": 1.5, "d": true, "e": [1, "y"], "f": { "g": -1 }, "h": "2024-01-02", "i": "inf",
        });
        assert_eq!(to_json(DeValue::parse(toml).unwrap().get_ref()), expected);
    }

    #[test]
    fn json_is_shown_as_a_config_writes_it() {
        let value = json!({ "a": "x", "b": [1, true], "c": { "d": "1MiB" } });
        assert_eq!(to_toml(&value), "{ a = \"x\", b = [1, true], c = { d = \"1MiB\" } }");
    }
}
