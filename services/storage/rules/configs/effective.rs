//! Overrides of topic configs: which may be stored, and the resulting effective configs.

use std::collections::BTreeMap;

use super::topic::{TopicConfig, find};
use super::value::{self, Value};

/// Whether `value` may be stored as an override of the topic config `name`.
///
/// # Errors
/// The client's message, to go with `INVALID_CONFIG`: in Kafka's words for what Kafka refuses too, in Yagura's
/// for what would promise something that Yagura does not do.
pub fn validate(name: &str, value: &str) -> Result<(), String> {
    accept(name, value).map(drop)
}

/// Whether values that are legal one by one may be stored together. Kafka's other checks across configs are of topics
/// with tiered storage.
///
/// # Errors
/// The client's message, to go with `INVALID_CONFIG`.
pub fn validate_together(overrides: &BTreeMap<String, String>) -> Result<(), String> {
    let whole = |name: &str| {
        let config = find(name)?;
        let text = overrides.get(name).map_or(config.default, String::as_str);
        match config.read(text) {
            Ok(Value::Whole(number)) => Some(number),
            _ => None,
        }
    };
    match (whole("min.compaction.lag.ms"), whole("max.compaction.lag.ms")) {
        (Some(min), Some(max)) if min > max => Err(format!(
            "conflict topic config setting min.compaction.lag.ms ({min}) > max.compaction.lag.ms ({max})"
        )),
        _ => Ok(()),
    }
}

/// [`validate`], with the parsed value.
fn accept<'a>(name: &str, value: &'a str) -> Result<Value<'a>, String> {
    let Some(config) = find(name) else {
        return Err(format!("Unknown topic config name: {name}"));
    };
    let parsed = config.read(value)?;
    match refusal(config, &parsed) {
        Some(reason) => {
            let reason = format!("{reason}; leave this config out or give it {}", config.default);
            Err(value::invalid(name, &parsed.to_string(), &reason))
        }
        None => Ok(parsed),
    }
}

/// Why Yagura refuses a value that Kafka accepts, if it does.
fn refusal(config: &TopicConfig, parsed: &Value<'_>) -> Option<&'static str> {
    let is_said = |refused: &str| match parsed {
        Value::List(parts) => parts.contains(&refused),
        other => other.to_string() == refused,
    };
    config.refused.iter().find(|(refused, _)| is_said(refused)).map(|(_, reason)| *reason)
}

/// `value` as DescribeConfigs shows it: Kafka stores what the client sent and prints the parsed value
/// (`" 007"` is shown as `7`). A value that cannot be parsed, or of an unknown name, is shown unchanged.
pub fn canonical(name: &str, value: &str) -> String {
    let parsed = find(name).and_then(|config| config.read(value).ok());
    parsed.map_or_else(|| value.to_owned(), |parsed| parsed.to_string())
}

/// What happens to old records (`cleanup.policy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CleanupPolicy {
    /// Records past retention are deleted.
    Delete,
    /// They are kept: the list of policies is empty.
    Keep,
    /// The newest of each key is kept, whatever its age.
    Compact,
    /// The newest of each key is kept until it is past retention.
    CompactAndDelete,
}

impl CleanupPolicy {
    fn of(policies: &[&str]) -> Self {
        match (policies.contains(&"compact"), policies.contains(&"delete")) {
            (true, true) => CleanupPolicy::CompactAndDelete,
            (true, false) => CleanupPolicy::Compact,
            (false, true) => CleanupPolicy::Delete,
            (false, false) => CleanupPolicy::Keep,
        }
    }

    /// Whether records past retention are deleted.
    pub fn deletes(self) -> bool {
        matches!(self, CleanupPolicy::Delete | CleanupPolicy::CompactAndDelete)
    }

    /// Whether records go that have a later one with their key.
    pub fn compacts(self) -> bool {
        matches!(self, CleanupPolicy::Compact | CleanupPolicy::CompactAndDelete)
    }
}

/// When a compacted topic is cleaned, and what stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompactionConfig {
    /// `min.compaction.lag.ms`: how long a record is at least left as it is.
    pub min_lag_ms: i64,
    /// `max.compaction.lag.ms`: after how long it is cleaned in any case.
    pub max_lag_ms: i64,
    /// `min.cleanable.dirty.ratio`, in millionths.
    pub min_dirty_ppm: u32,
    /// `delete.retention.ms`: how long tombstones and markers stay once they were cleaned.
    pub delete_retention_ms: i64,
}

/// All of a log, in millionths.
const WHOLE_PPM: u32 = 1_000_000;

impl CompactionConfig {
    /// `min.cleanable.dirty.ratio`, from 0 to 1.
    pub fn min_dirty_ratio(&self) -> f64 {
        f64::from(self.min_dirty_ppm) / f64::from(WHOLE_PPM)
    }

    /// Takes a ratio. Nothing is more than what is no number, so that a log is never cleaned for it.
    fn set_min_dirty_ratio(&mut self, ratio: f64) {
        let is_number = !ratio.is_nan();
        self.min_dirty_ppm = if is_number { (ratio * f64::from(WHOLE_PPM)) as u32 } else { WHOLE_PPM };
    }
}

/// Which clock sets the timestamps of records (`message.timestamp.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// The producer's.
    CreateTime,
    /// The accepting broker's.
    LogAppendTime,
}

/// The codec batches are stored with (`compression.type`), with the level where the codec has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Whatever the producer chose: batches are stored as they came.
    Producer,
    /// `uncompressed`.
    None,
    /// Level 1 to 9, or -1 for the codec's own choice.
    Gzip(i32),
    /// Snappy has no levels.
    Snappy,
    /// Level 1 to 17.
    Lz4(i32),
    /// Level -131072 to 22.
    Zstd(i32),
}

/// A topic's configs as the broker uses them: typed, with defaults where the topic has no override.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EffectiveConfig {
    /// `cleanup.policy`.
    pub cleanup_policy: CleanupPolicy,
    /// `retention.ms`; `None` keeps records of any age.
    pub retention_ms: Option<i64>,
    /// `retention.bytes`, for each partition; `None` sets no limit.
    pub retention_bytes: Option<i64>,
    /// `max.message.bytes`: the largest record batch, as stored.
    pub max_message_bytes: i32,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far behind the broker's clock a producer's timestamp may be.
    pub timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far ahead of the broker's clock it may be.
    pub timestamp_after_max_ms: i64,
    /// `compression.type` and the level that belongs to it.
    pub compression: Compression,
    /// When it is cleaned, if its policy has `compact`.
    pub compaction: CompactionConfig,
}

impl EffectiveConfig {
    /// The defaults, overlaid with a topic's stored overrides; the last one counts if a name is repeated.
    ///
    /// An override that [`validate`] would refuse counts as absent. It was valid when it was stored, so
    /// another release or a manual edit wrote it, and refusing to serve the topic would not help.
    pub fn from_overrides<'a>(overrides: impl Iterator<Item = (&'a str, &'a str)>) -> Self {
        let mut effective = EffectiveConfig::default();
        let (mut codec, mut gzip, mut lz4, mut zstd) = ("producer", -1, 9, 3);
        for (name, text) in overrides {
            let Ok(value) = accept(name, text) else {
                keep_rather_than_delete(&mut effective, name);
                continue;
            };
            match (name, value) {
                ("cleanup.policy", Value::List(policies)) => {
                    effective.cleanup_policy = CleanupPolicy::of(&policies);
                }
                ("retention.ms", Value::Whole(ms)) => effective.retention_ms = limit(ms),
                ("retention.bytes", Value::Whole(bytes)) => effective.retention_bytes = limit(bytes),
                ("max.message.bytes", Value::Whole(bytes)) => effective.max_message_bytes = int(bytes),
                ("message.timestamp.type", Value::Text("LogAppendTime")) => {
                    effective.timestamp_type = TimestampType::LogAppendTime;
                }
                ("message.timestamp.type", _) => effective.timestamp_type = TimestampType::CreateTime,
                ("message.timestamp.before.max.ms", Value::Whole(ms)) => {
                    effective.timestamp_before_max_ms = ms;
                }
                ("message.timestamp.after.max.ms", Value::Whole(ms)) => {
                    effective.timestamp_after_max_ms = ms;
                }
                ("min.compaction.lag.ms", Value::Whole(ms)) => effective.compaction.min_lag_ms = ms,
                ("max.compaction.lag.ms", Value::Whole(ms)) => effective.compaction.max_lag_ms = ms,
                ("delete.retention.ms", Value::Whole(ms)) => effective.compaction.delete_retention_ms = ms,
                ("min.cleanable.dirty.ratio", Value::Real(ratio)) => {
                    effective.compaction.set_min_dirty_ratio(ratio);
                }
                ("compression.type", Value::Text(name)) => codec = name,
                ("compression.gzip.level", Value::Whole(level)) => gzip = int(level),
                ("compression.lz4.level", Value::Whole(level)) => lz4 = int(level),
                ("compression.zstd.level", Value::Whole(level)) => zstd = int(level),
                // The others have no effect.
                _ => {}
            }
        }
        effective.compression = match codec {
            "uncompressed" => Compression::None,
            "gzip" => Compression::Gzip(gzip),
            "snappy" => Compression::Snappy,
            "lz4" => Compression::Lz4(lz4),
            "zstd" => Compression::Zstd(zstd),
            _ => Compression::Producer,
        };
        if !effective.cleanup_policy.deletes() {
            (effective.retention_ms, effective.retention_bytes) = (None, None);
        }
        effective
    }
}

impl Default for EffectiveConfig {
    /// A topic without overrides. A test compares these numbers with the defaults of the table.
    fn default() -> Self {
        EffectiveConfig {
            cleanup_policy: CleanupPolicy::Delete,
            retention_ms: Some(7 * 24 * 60 * 60 * 1000),
            retention_bytes: None,
            max_message_bytes: 1_048_588, // 1 MiB, and 12 bytes for the log's own framing of the batch
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 60 * 60 * 1000,
            compression: Compression::Producer,
            compaction: CompactionConfig {
                min_lag_ms: 0,
                max_lag_ms: i64::MAX,
                min_dirty_ppm: WHOLE_PPM / 2,
                delete_retention_ms: 24 * 60 * 60 * 1000,
            },
        }
    }
}

/// An invalid override must not cost records: if it is about deletion, nothing is deleted until it is set
/// again.
fn keep_rather_than_delete(effective: &mut EffectiveConfig, name: &str) {
    if matches!(name, "cleanup.policy" | "retention.ms") {
        effective.retention_ms = None;
    }
    if matches!(name, "cleanup.policy" | "retention.bytes") {
        effective.retention_bytes = None;
    }
}

/// A retention limit. Kafka documents -1 as "none" and treats every other negative number alike.
fn limit(value: i64) -> Option<i64> {
    (value >= 0).then_some(value)
}

/// A value of an INT config, whose range was checked when it was read.
fn int(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
