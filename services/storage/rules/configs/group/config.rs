//! What Kafka and Yagura know of a config of a group.

use serde::{Deserialize, Serialize};

use crate::configs::kind::ConfigKind;
use crate::configs::support::Support;
use crate::configs::value::{self, Legal, Value};

/// Session timeout of members of the consumer protocol.
pub(super) const CONSUMER_SESSION: &str = "consumer.session.timeout.ms";
/// Heartbeat interval of such members.
pub(super) const CONSUMER_HEARTBEAT: &str = "consumer.heartbeat.interval.ms";
/// The assignor of a streams group.
pub(super) const STREAMS_ASSIGNOR: &str = "streams.assignor.name";

/// A config of a group.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupConfig {
    /// Kafka's name.
    pub name: &'static str,
    /// The type of its value.
    pub kind: ConfigKind,
    /// Kafka's default.
    pub default: &'static str,
    /// The values that Kafka accepts.
    pub legal: Legal,
    /// The numbers that a broker accepts of those.
    pub bounds: Bounds,
    /// Whether a broker config sets the default.
    pub has_synonym: bool,
    /// Whether Kafka hides it from clients that have not set it.
    pub is_internal: bool,
    /// What Yagura does with it.
    pub support: Support,
    /// What it is for, in one sentence.
    pub documentation: &'static str,
}

/// Bounds that Kafka reads from a broker's config: its defaults for what Yagura has no setting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bounds {
    /// None but those of the legal values.
    None,
    /// Both included.
    Range(i64, i64),
    /// This number or a smaller one.
    AtMost(i64),
    /// This number or a greater one.
    AtLeast(i64),
}

/// The settings of a broker that are the defaults of configs of groups, in ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupDefaults {
    /// Session timeout of members of the consumer protocol.
    pub session_ms: i32,
    /// Heartbeat interval of such members.
    pub heartbeat_ms: i32,
}

impl GroupDefaults {
    /// The broker's value of a config, if it is one of its settings.
    pub fn setting(self, name: &str) -> Option<i32> {
        match name {
            CONSUMER_SESSION => Some(self.session_ms),
            CONSUMER_HEARTBEAT => Some(self.heartbeat_ms),
            _ => None,
        }
    }
}

impl GroupConfig {
    /// Reads `text` as a value of this config.
    ///
    /// # Errors
    /// The client's message, in Kafka's words, if Kafka refuses the value.
    pub fn read<'a>(&self, text: &'a str) -> Result<Value<'a>, String> {
        value::read(self.name, self.kind, self.legal, text)
    }

    /// Documentation for DescribeConfigs, which also says if the config has no effect here.
    pub fn described(&self) -> String {
        self.support.described(self.documentation)
    }

    /// The broker config that sets the default.
    pub fn synonym(&self) -> Option<String> {
        // The first of the assignors is the default.
        let name = if self.name == STREAMS_ASSIGNOR { "streams.assignors" } else { self.name };
        self.has_synonym.then(|| format!("group.{name}"))
    }

    /// Whether DescribeConfigs shows it of a group that has not set it.
    pub fn is_always_shown(&self) -> bool {
        !self.is_internal
    }

    /// The bounds on a broker whose own settings may lie outside of Kafka's defaults.
    pub(super) fn bounds_at(&self, defaults: GroupDefaults) -> Bounds {
        match (self.bounds, defaults.setting(self.name)) {
            (Bounds::Range(min, max), Some(ms)) => Bounds::Range(min.min(ms.into()), max.max(ms.into())),
            (bounds, _) => bounds,
        }
    }

    /// Whether a broker with these settings accepts a number.
    pub(super) fn check_bounds(&self, number: i64, defaults: GroupDefaults) -> Result<(), String> {
        let name = self.name;
        match self.bounds_at(defaults) {
            Bounds::Range(min, max) if !(min..=max).contains(&number) => {
                Err(format!("{name} must be in the range {min} to {max} inclusive."))
            }
            Bounds::AtMost(max) if number > max => Err(format!("{name} must be less than or equal to {max}")),
            Bounds::AtLeast(min) if number < min => {
                Err(format!("{name} must be greater than or equal to {min}"))
            }
            _ => Ok(()),
        }
    }

    /// A config that is honoured and has a synonym, without documentation yet.
    pub(super) const fn new(
        kind: ConfigKind,
        name: &'static str,
        default: &'static str,
        legal: Legal,
    ) -> Self {
        Self {
            name,
            kind,
            default,
            legal,
            bounds: Bounds::None,
            has_synonym: true,
            is_internal: false,
            support: Support::Honoured,
            documentation: "",
        }
    }

    pub(super) const fn within(mut self, bounds: Bounds) -> Self {
        self.bounds = bounds;
        self
    }

    pub(super) const fn of_groups_alone(mut self) -> Self {
        self.has_synonym = false;
        self
    }

    pub(super) const fn internal(mut self) -> Self {
        self.is_internal = true;
        self
    }

    pub(super) const fn no_effect(mut self, reason: &'static str) -> Self {
        self.support = Support::NoEffect(reason);
        self
    }

    pub(super) const fn says(mut self, documentation: &'static str) -> Self {
        self.documentation = documentation;
        self
    }
}
