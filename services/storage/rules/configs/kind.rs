//! The types and sources of configs, as DescribeConfigs reports them.

/// The type of a config's value. The discriminant is the `config_type` byte of DescribeConfigs v3 and
/// later.
#[allow(dead_code, reason = "Kafka's whole list; no config that Yagura shows has the last ones yet")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigKind {
    /// `true` or `false`, in any case.
    Boolean = 1,
    /// Text, trimmed.
    String = 2,
    /// 32-bit signed number.
    Int = 3,
    /// 16-bit signed number.
    Short = 4,
    /// 64-bit signed number.
    Long = 5,
    /// 64-bit floating-point number.
    Double = 6,
    /// Comma-separated texts; the only kind that APPEND and SUBTRACT work on.
    List = 7,
    /// Name of a Java class.
    Class = 8,
    /// Text that is never shown.
    Password = 9,
}

impl ConfigKind {
    /// The byte on the wire.
    pub const fn code(self) -> i8 {
        self as i8
    }

    /// Its name in Kafka's messages.
    pub const fn name(self) -> &'static str {
        match self {
            ConfigKind::Boolean => "BOOLEAN",
            ConfigKind::String => "STRING",
            ConfigKind::Int => "INT",
            ConfigKind::Short => "SHORT",
            ConfigKind::Long => "LONG",
            ConfigKind::Double => "DOUBLE",
            ConfigKind::List => "LIST",
            ConfigKind::Class => "CLASS",
            ConfigKind::Password => "PASSWORD",
        }
    }
}

/// Where a described value comes from. The discriminant is the `config_source` byte of DescribeConfigs v1
/// and later.
#[allow(dead_code, reason = "Kafka's list; no broker config can be altered at run time yet")]
#[allow(clippy::enum_variant_names, reason = "Kafka's names")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum ConfigSource {
    /// An override of this topic.
    DynamicTopicConfig = 1,
    /// Altered at run time, for one broker.
    DynamicBrokerConfig = 2,
    /// Altered at run time, for all brokers.
    DynamicDefaultBrokerConfig = 3,
    /// Set in the config that the broker was started with.
    StaticBrokerConfig = 4,
    /// Not set.
    DefaultConfig = 5,
    /// Of a client metrics subscription.
    ClientMetricsConfig = 7,
    /// Of a group.
    GroupConfig = 8,
}

impl ConfigSource {
    /// The byte on the wire.
    pub const fn code(self) -> i8 {
        self as i8
    }
}
