//! `[services.NAME] kind = "storage"`.

use std::path::PathBuf;
use std::time::Duration;

use kernel::units::{ByteSize, Span};
use serde::{Deserialize, Serialize};

/// The settings of a storage service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the bytes are: `sqlite://FILE` or `memory://`.
    pub url: String,
    /// Whether a Metadata request may create the topics it names, if its client allows that.
    #[serde(default = "default_auto_create_topics")]
    pub auto_create_topics: bool,
    /// Partitions of a topic whose creator does not say how many.
    #[serde(default = "default_partitions")]
    pub default_partitions: i32,
    /// How often retention is applied and garbage removed.
    #[serde(default = "default_retention_interval")]
    pub retention_interval: Span,
    /// How long a new group waits for more members before its first rebalance ends.
    #[serde(default = "default_group_initial_rebalance_delay")]
    pub group_initial_rebalance_delay: Span,
    /// The shortest session that a group member may ask for.
    #[serde(default = "default_group_min_session_timeout")]
    pub group_min_session_timeout: Span,
    /// The longest.
    #[serde(default = "default_group_max_session_timeout")]
    pub group_max_session_timeout: Span,
    /// Members that a group may have.
    #[serde(default = "default_group_max_size")]
    pub group_max_size: usize,
    /// The session of a member of the consumer protocol, whose broker says how long it is.
    #[serde(default = "default_group_consumer_session_timeout")]
    pub group_consumer_session_timeout: Span,
    /// How often such a member is to be heard of.
    #[serde(default = "default_group_consumer_heartbeat_interval")]
    pub group_consumer_heartbeat_interval: Span,
    /// How long committed offsets are kept after their group was last in use.
    #[serde(default = "default_offsets_retention")]
    pub offsets_retention: Span,
    /// Bytes of record batches that go into one commit.
    #[serde(default = "default_commit_bytes_max")]
    pub commit_bytes_max: ByteSize,
    /// Bytes of record batches that wait to be committed.
    #[serde(default = "default_queue_bytes_max")]
    pub queue_bytes_max: ByteSize,
}

fn default_auto_create_topics() -> bool {
    true
}

fn default_partitions() -> i32 {
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

fn default_commit_bytes_max() -> ByteSize {
    ByteSize(4 << 20)
}

fn default_queue_bytes_max() -> ByteSize {
    ByteSize(16 << 20)
}

/// A store's place, read from its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In this process; gone when it ends.
    Memory,
    /// In a SQLite file.
    Sqlite(PathBuf),
}

impl Settings {
    /// The settings of a store at `url`, with everything else at its default.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            auto_create_topics: default_auto_create_topics(),
            default_partitions: default_partitions(),
            retention_interval: default_retention_interval(),
            group_initial_rebalance_delay: default_group_initial_rebalance_delay(),
            group_min_session_timeout: default_group_min_session_timeout(),
            group_max_session_timeout: default_group_max_session_timeout(),
            group_max_size: default_group_max_size(),
            group_consumer_session_timeout: default_group_consumer_session_timeout(),
            group_consumer_heartbeat_interval: default_group_consumer_heartbeat_interval(),
            offsets_retention: default_offsets_retention(),
            commit_bytes_max: default_commit_bytes_max(),
            queue_bytes_max: default_queue_bytes_max(),
        }
    }

    /// Reads the URL.
    ///
    /// # Errors
    /// A sentence that says what a URL looks like.
    pub fn location(&self) -> Result<Location, String> {
        match self.url.split_once("://") {
            Some(("memory", "")) => Ok(Location::Memory),
            Some(("sqlite", path)) if !path.is_empty() => Ok(Location::Sqlite(PathBuf::from(path))),
            _ => Err(format!(
                "{:?} is not a store: write \"sqlite://FILE\" (such as sqlite://yagura.db or sqlite:///var/lib/yagura.db) or \"memory://\"",
                self.url
            )),
        }
    }

    /// Checks what the types do not.
    ///
    /// # Errors
    /// A sentence that says what is wrong and what would be right.
    pub fn check(&self) -> Result<(), String> {
        self.location()?;
        if self.default_partitions < 1 {
            return Err(format!(
                "default_partitions is {}, but a topic has at least 1",
                self.default_partitions
            ));
        }
        if self.retention_interval.0.is_zero() {
            return Err("retention_interval is 0; write how often retention runs, such as \"5m\"".to_owned());
        }
        if self.group_min_session_timeout > self.group_max_session_timeout {
            return Err(
                "group_min_session_timeout must not be longer than group_max_session_timeout".to_owned()
            );
        }
        if self.group_consumer_heartbeat_interval >= self.group_consumer_session_timeout {
            return Err(
                "group_consumer_heartbeat_interval must be shorter than group_consumer_session_timeout"
                    .to_owned(),
            );
        }
        if self.commit_bytes_max.0 == 0 || self.queue_bytes_max < self.commit_bytes_max {
            return Err("queue_bytes_max must be at least commit_bytes_max, and both more than 0".to_owned());
        }
        Ok(())
    }
}
