//! Which configs of a group may be stored, and what they mean to its coordinator.

use std::collections::BTreeMap;

use kernel::ErrorCode;

use super::config::{Bounds, CONSUMER_HEARTBEAT, CONSUMER_SESSION, GroupDefaults, STREAMS_ASSIGNOR};
use super::table::{DEAD_LETTER_TOPIC, STREAMS_ASSIGNORS, find};
use crate::commands::Refused;
use crate::configs::kind::ConfigKind;
use crate::configs::value::Value;

/// The default of a config that is a list, which APPEND and SUBTRACT work on.
pub(crate) fn list_default(name: &str) -> Option<&'static str> {
    find(name).filter(|config| config.kind == ConfigKind::List).map(|config| config.default)
}

/// Checks the configs of a group on a broker with these settings, in Kafka's order: names, values, bounds.
///
/// # Errors
/// Kafka's INVALID_CONFIG.
pub(crate) fn check(configs: &BTreeMap<String, String>, defaults: GroupDefaults) -> Result<(), Refused> {
    let invalid = |message: String| Refused::new(ErrorCode::InvalidConfig, message);
    let mut known = Vec::with_capacity(configs.len());
    for (name, text) in configs {
        let config = find(name).ok_or_else(|| invalid(format!("Unknown group config name: {name}")))?;
        known.push((config, text));
    }
    let mut whole: BTreeMap<&str, i64> = BTreeMap::new();
    for (config, text) in &known {
        if let Value::Whole(number) = config.read(text).map_err(invalid)? {
            whole.insert(config.name, number);
        }
    }
    for (config, text) in known {
        let checked = match whole.get(config.name) {
            Some(number) => config.check_bounds(*number, defaults),
            None => check_name(config.name, text.trim()),
        };
        checked.map_err(invalid)?;
    }
    let session = whole.get(CONSUMER_SESSION).copied().unwrap_or(defaults.session_ms.into());
    let heartbeat = whole.get(CONSUMER_HEARTBEAT).copied().unwrap_or(defaults.heartbeat_ms.into());
    let is_given = whole.contains_key(CONSUMER_SESSION) || whole.contains_key(CONSUMER_HEARTBEAT);
    if is_given && session <= heartbeat {
        return Err(invalid(format!("{CONSUMER_SESSION} must be greater than {CONSUMER_HEARTBEAT}")));
    }
    Ok(())
}

/// Texts that Kafka compares with what its broker has.
fn check_name(name: &str, text: &str) -> Result<(), String> {
    match name {
        STREAMS_ASSIGNOR if text != STREAMS_ASSIGNORS => Err(format!(
            "{name} '{text}' is not a registered task assignor. Registered assignors are: [{STREAMS_ASSIGNORS}]."
        )),
        DEAD_LETTER_TOPIC if text.starts_with("__") => {
            Err(format!("{name}: DLQ topic name must not start with '__'"))
        }
        _ => Ok(()),
    }
}

/// The timeouts of a group with these configs. Values outside of the broker's bounds, which may have changed since they
/// were set, count as the nearest ones within.
pub fn timeouts(configs: &BTreeMap<String, String>, defaults: GroupDefaults) -> GroupDefaults {
    let of = |name: &str, default: i32| whole(configs, name, defaults).unwrap_or(default);
    let timeouts = GroupDefaults {
        session_ms: of(CONSUMER_SESSION, defaults.session_ms),
        heartbeat_ms: of(CONSUMER_HEARTBEAT, defaults.heartbeat_ms),
    };
    // Members that may be silent for longer than their session would be removed.
    if timeouts.session_ms > timeouts.heartbeat_ms { timeouts } else { defaults }
}

fn whole(configs: &BTreeMap<String, String>, name: &str, defaults: GroupDefaults) -> Option<i32> {
    let config = find(name)?;
    let Ok(Value::Whole(ms)) = config.read(configs.get(name)?) else { return None };
    let ms = match config.bounds_at(defaults) {
        Bounds::Range(min, max) => ms.clamp(min, max),
        Bounds::None | Bounds::AtMost(_) | Bounds::AtLeast(_) => ms,
    };
    i32::try_from(ms).ok()
}
