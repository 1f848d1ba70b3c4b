//! `[services.NAME] kind = "storage"`.

use std::time::Duration;

use kernel::masked;
use kernel::settings::{ANY_TIME, SOME_TIME, Setting, SettingFault, ValueKind};
use kernel::units::{ByteSize, Span};
use rules::configs::group::GroupDefaults;
use serde::{Deserialize, Serialize};

use crate::engines;

/// The settings of a storage service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The URL of the store, such as `sqlite://yagura.db`.
    pub url: String,
    /// Whether a Metadata request may create the topics it names, if its client allows that.
    #[serde(default = "default_auto_create_topics")]
    pub auto_create_topics: bool,
    /// Partitions of a topic whose creator sets no number.
    #[serde(default = "default_partitions")]
    pub default_partitions: i32,
    /// The greatest replication factor that a topic may be created with.
    #[serde(default = "default_replication_factor_max")]
    pub replication_factor_max: i16,
    /// How the records of a produced batch are checked.
    #[serde(default)]
    pub check_records: CheckRecords,
    /// How often retention is applied and garbage removed.
    #[serde(default = "default_retention_interval")]
    pub retention_interval: Span,
    /// How long a new group waits for more members before its first rebalance ends.
    #[serde(default = "default_group_initial_rebalance_delay")]
    pub group_initial_rebalance_delay: Span,
    /// The shortest session timeout that a group member may request.
    #[serde(default = "default_group_min_session_timeout")]
    pub group_min_session_timeout: Span,
    /// The longest session timeout.
    #[serde(default = "default_group_max_session_timeout")]
    pub group_max_session_timeout: Span,
    /// Members that a group may have.
    #[serde(default = "default_group_max_size")]
    pub group_max_size: usize,
    /// The session timeout of members of the consumer protocol, which the broker sets.
    #[serde(default = "default_group_consumer_session_timeout")]
    pub group_consumer_session_timeout: Span,
    /// The heartbeat interval of such members.
    #[serde(default = "default_group_consumer_heartbeat_interval")]
    pub group_consumer_heartbeat_interval: Span,
    /// How long committed offsets are kept after their group was last in use.
    #[serde(default = "default_offsets_retention")]
    pub offsets_retention: Span,
    /// The longest transaction timeout that a producer may request.
    #[serde(default = "default_transaction_max_timeout")]
    pub transaction_max_timeout: Span,
    /// Bytes of record batches that go into one commit.
    #[serde(default = "default_commit_bytes_max")]
    pub commit_bytes_max: ByteSize,
    /// Bytes of record batches that wait to be committed.
    #[serde(default = "default_queue_bytes_max")]
    pub queue_bytes_max: ByteSize,
    /// Memory for what can be read again from the store.
    #[serde(default = "default_cache_memory")]
    pub cache_memory: ByteSize,
    /// Memory for the keys of a partition that is compacted, taken only meanwhile.
    #[serde(default = "default_compaction_memory")]
    pub compaction_memory: ByteSize,
    /// How long the bytes of deleted records are kept, so that a read under way is not cut.
    #[serde(default = "default_delete_delay")]
    pub delete_delay: Span,
    /// Bytes that the store may hold; `None` for as many as the disk has room for.
    #[serde(default)]
    pub store_bytes_max: Option<ByteSize>,
    /// Room on the disk that is kept for what must go on when there is no other.
    #[serde(default = "default_disk_reserve")]
    pub disk_reserve: ByteSize,
}

/// How the records of a produced batch are checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckRecords {
    /// All of them, as Kafka does.
    #[default]
    Full,
    /// Uncompressed ones. Of compressed ones the header is believed.
    Header,
}

/// The settings, one line each.
pub(crate) const REFERENCE: &[Setting] = &[
    Setting::required(
        "url",
        ValueKind::Text,
        "The store, such as `\"sqlite://yagura.db\"` or `\"postgres://kafka@db/kafka\"`; `\"memory://\"` keeps nothing.",
    ),
    Setting::new(
        "auto_create_topics",
        ValueKind::Flag,
        "Whether a Metadata request creates missing topics, if its client allows that.",
    ),
    Setting::new(
        "default_partitions",
        ValueKind::Number { min: 1, max: i32::MAX as i64 },
        "Partitions of a topic that is made without saying how many.",
    ),
    Setting::new(
        "replication_factor_max",
        ValueKind::Number { min: 1, max: i16::MAX as i64 },
        "The greatest replication factor that topics may be made with. Whatever it is, there is one copy, in the store: 3 is for programs that insist on it.",
    ),
    Setting::new(
        "check_records",
        ValueKind::OneOf(&["full", "header"]),
        "`full` opens every batch and checks its records, as Kafka does; `header` believes the header of a compressed one, which spares CPU where all producers are trusted.",
    ),
    Setting::new(
        "retention_interval",
        SOME_TIME,
        "How often records past their retention are deleted, and compacted topics looked at.",
    ),
    Setting::new(
        "group_initial_rebalance_delay",
        ANY_TIME,
        "How long a new group waits for more members before its first rebalance ends.",
    ),
    Setting::new(
        "group_min_session_timeout",
        SOME_TIME,
        "The shortest session timeout that a group member may request.",
    ),
    Setting::new(
        "group_max_session_timeout",
        SOME_TIME,
        "The longest session timeout that a group member may request.",
    ),
    Setting::new(
        "group_max_size",
        ValueKind::Number { min: 1, max: i32::MAX as i64 },
        "Members that a group may have.",
    ),
    Setting::new(
        "group_consumer_session_timeout",
        SOME_TIME,
        "Session timeout of members of the consumer protocol (KIP-848).",
    ),
    Setting::new("group_consumer_heartbeat_interval", SOME_TIME, "Heartbeat interval of such members."),
    Setting::new(
        "offsets_retention",
        SOME_TIME,
        "How long committed offsets are kept after their group was last in use.",
    ),
    Setting::new(
        "transaction_max_timeout",
        SOME_TIME,
        "The longest transaction timeout that a producer may request. A transaction that is open for longer than its timeout is aborted; until then it holds up those who read committed records.",
    ),
    Setting::new(
        "commit_bytes_max",
        ValueKind::Bytes { min: 1, below: 1 << 32 },
        "Bytes that are committed together at most; one larger batch still fits alone.",
    ),
    Setting::new(
        "queue_bytes_max",
        ValueKind::Bytes { min: 1, below: 1 << 32 },
        "Bytes that may wait to be committed; further writes wait before they are queued.",
    ),
    Setting::new(
        "cache_memory",
        ValueKind::Bytes { min: 1 << 16, below: 1 << 40 },
        "Memory for documents that can be read again from the store.",
    ),
    Setting::new(
        "compaction_memory",
        ValueKind::Bytes { min: 1 << 10, below: 1 << 40 },
        "Memory for the keys of the partition that is being compacted, 24 bytes each; with more keys it is read several times. It is taken only meanwhile.",
    ),
    Setting::new(
        "delete_delay",
        ANY_TIME,
        "How long the bytes of deleted records are kept, so that a read under way is not cut; when the store is full they go at once.",
    ),
    Setting::optional(
        "store_bytes_max",
        ValueKind::Bytes { min: 16 << 20, below: u64::MAX },
        "as many as the disk has room for",
        "Bytes that the store may hold. From there on clients that produce or create topics get KAFKA_STORAGE_ERROR, until deletions or retention have brought it below 97 %.",
    ),
    Setting::new(
        "disk_reserve",
        ValueKind::Bytes { min: 0, below: 1 << 40 },
        "Room that a SQLite store keeps in a file beside it and lets go when the disk is full, so that deletions, retention, offsets, groups and a clean stop still work; 0 for none.",
    ),
];

fn default_auto_create_topics() -> bool {
    true
}

fn default_partitions() -> i32 {
    1
}

fn default_replication_factor_max() -> i16 {
    1
}

fn default_retention_interval() -> Span {
    Span(Duration::from_secs(300))
}

fn default_group_initial_rebalance_delay() -> Span {
    Span(Duration::from_secs(3))
}

fn default_group_min_session_timeout() -> Span {
    Span(Duration::from_secs(6))
}

fn default_group_max_session_timeout() -> Span {
    Span(Duration::from_secs(30 * 60))
}

fn default_group_max_size() -> usize {
    i32::MAX as usize
}

fn default_group_consumer_session_timeout() -> Span {
    Span(Duration::from_secs(45))
}

fn default_group_consumer_heartbeat_interval() -> Span {
    Span(Duration::from_secs(5))
}

fn default_offsets_retention() -> Span {
    Span(Duration::from_secs(7 * 24 * 60 * 60))
}

fn default_transaction_max_timeout() -> Span {
    Span(Duration::from_secs(15 * 60))
}

fn default_commit_bytes_max() -> ByteSize {
    ByteSize(4 << 20)
}

fn default_queue_bytes_max() -> ByteSize {
    ByteSize(16 << 20)
}

fn default_cache_memory() -> ByteSize {
    ByteSize(8 << 20)
}

fn default_compaction_memory() -> ByteSize {
    ByteSize(64 << 20)
}

fn default_delete_delay() -> Span {
    Span(Duration::from_secs(60))
}

fn default_disk_reserve() -> ByteSize {
    ByteSize(16 << 20)
}

impl Settings {
    /// The settings of a store at `url`, with everything else at its default.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            auto_create_topics: default_auto_create_topics(),
            default_partitions: default_partitions(),
            replication_factor_max: default_replication_factor_max(),
            check_records: CheckRecords::default(),
            retention_interval: default_retention_interval(),
            group_initial_rebalance_delay: default_group_initial_rebalance_delay(),
            group_min_session_timeout: default_group_min_session_timeout(),
            group_max_session_timeout: default_group_max_session_timeout(),
            group_max_size: default_group_max_size(),
            group_consumer_session_timeout: default_group_consumer_session_timeout(),
            group_consumer_heartbeat_interval: default_group_consumer_heartbeat_interval(),
            offsets_retention: default_offsets_retention(),
            transaction_max_timeout: default_transaction_max_timeout(),
            commit_bytes_max: default_commit_bytes_max(),
            queue_bytes_max: default_queue_bytes_max(),
            cache_memory: default_cache_memory(),
            compaction_memory: default_compaction_memory(),
            delete_delay: default_delete_delay(),
            store_bytes_max: None,
            disk_reserve: default_disk_reserve(),
        }
    }

    /// The settings that configs of groups override.
    pub(crate) fn group_defaults(&self) -> GroupDefaults {
        let ms = |span: Span| i32::try_from(span.0.as_millis()).unwrap_or(i32::MAX);
        GroupDefaults {
            session_ms: ms(self.group_consumer_session_timeout),
            heartbeat_ms: ms(self.group_consumer_heartbeat_interval),
        }
    }

    /// Checks what the types cannot; each fault is reported.
    pub(crate) fn faults(&self) -> Vec<SettingFault> {
        let mut faults = Vec::new();
        let mut fault = |setting, message: String| {
            faults.push(SettingFault { setting, message, concerns_default: true });
        };
        if let Err(message) = engines::find(&self.url) {
            fault("url", message);
        }
        if self.default_partitions < 1 {
            let message =
                format!("default_partitions is {}, but a topic has at least 1", self.default_partitions);
            fault("default_partitions", message);
        }
        if self.retention_interval.0.is_zero() {
            let message = "retention_interval is 0; write how often retention runs, such as \"5m\"";
            fault("retention_interval", message.to_owned());
        }
        if self.group_min_session_timeout > self.group_max_session_timeout {
            let message = "group_min_session_timeout must not be longer than group_max_session_timeout";
            fault("group_min_session_timeout", message.to_owned());
        }
        if self.group_consumer_heartbeat_interval >= self.group_consumer_session_timeout {
            let message =
                "group_consumer_heartbeat_interval must be shorter than group_consumer_session_timeout";
            fault("group_consumer_heartbeat_interval", message.to_owned());
        }
        if self.commit_bytes_max.0 == 0 || self.queue_bytes_max < self.commit_bytes_max {
            let message = "queue_bytes_max must be at least commit_bytes_max, and both more than 0";
            fault("queue_bytes_max", message.to_owned());
        }
        faults
    }

    /// The store's URL without its password, which any client may read.
    pub(crate) fn url_masked(&self) -> String {
        masked::url(&self.url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_faults_are_reported() {
        let settings = Settings {
            default_partitions: 0,
            retention_interval: Span(Duration::ZERO),
            group_min_session_timeout: Span(Duration::from_secs(2)),
            group_max_session_timeout: Span(Duration::from_secs(1)),
            group_consumer_heartbeat_interval: Span(Duration::from_secs(3_600)),
            commit_bytes_max: ByteSize(0),
            ..Settings::at("carrier-pigeon://loft")
        };
        let named: Vec<&str> = settings.faults().iter().map(|fault| fault.setting).collect();
        let expected = [
            "url",
            "default_partitions",
            "retention_interval",
            "group_min_session_timeout",
            "group_consumer_heartbeat_interval",
            "queue_bytes_max",
        ];
        assert_eq!(named, expected);
        assert!(Settings::at("memory://").faults().is_empty());
    }

    #[test]
    fn the_reference_names_every_setting() {
        let serde_json::Value::Object(own) = serde_json::to_value(Settings::at("memory://")).unwrap() else {
            panic!()
        };
        let own: Vec<&str> = own.keys().map(String::as_str).collect();
        let mut named: Vec<&str> = REFERENCE.iter().map(|setting| setting.name).collect();
        named.sort_unstable();
        assert_eq!(named, own);
    }
}
