//! The operations of IncrementalAlterConfigs (KIP-339), whatever they are on.

use std::collections::BTreeMap;

use kernel::ErrorCode;

use super::value::{append, subtract};
use crate::commands::{ConfigOperation, Refused};

/// Configs after some operations. `list_default` gives the default of a config that is a list, and `None` for others,
/// which APPEND and SUBTRACT do not work on.
pub(crate) fn apply(
    mut configs: BTreeMap<String, String>,
    operations: &[(String, ConfigOperation)],
    list_default: impl Fn(&str) -> Option<&'static str>,
) -> Result<BTreeMap<String, String>, Refused> {
    for (name, operation) in operations {
        let (verb, combine, value): (_, fn(&str, &str) -> String, _) = match operation {
            ConfigOperation::Set(value) => {
                configs.insert(name.clone(), value.clone());
                continue;
            }
            ConfigOperation::Delete => {
                configs.remove(name);
                continue;
            }
            ConfigOperation::Append(value) => ("APPEND", append, value),
            ConfigOperation::Subtract(value) => ("SUBTRACT", subtract, value),
        };
        let Some(default) = list_default(name) else {
            let message = format!("Can't {verb} to key {name} because its type is not LIST.");
            return Err(Refused::new(ErrorCode::InvalidConfig, message));
        };
        let current = configs.get(name).map_or(default, String::as_str);
        let combined = combine(current, value);
        configs.insert(name.clone(), combined);
    }
    Ok(configs)
}
