//! Message definitions: the types of the generated table.

/// Whether a message is a request or a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Sent by a client.
    Request,
    /// Sent by a broker.
    Response,
}

/// A closed range of message versions; empty when `min > max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// First version of the range.
    pub min: i16,
    /// Last version of the range; `i16::MAX` for "and all later ones".
    pub max: i16,
}

impl Versions {
    /// No version at all.
    pub const NONE: Versions = Versions { min: 1, max: 0 };

    /// From `min` up to and including `max`.
    pub const fn range(min: i16, max: i16) -> Self {
        Versions { min, max }
    }

    /// From `min` on.
    pub const fn from(min: i16) -> Self {
        Versions { min, max: i16::MAX }
    }

    /// Whether `version` lies in the range.
    pub const fn contains(&self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }
}

/// One message of the protocol: a request or a response of one API.
#[derive(Debug)]
pub struct Message {
    /// Kafka's name of the API, such as `Produce`.
    pub api: &'static str,
    /// The API's key on the wire.
    pub api_key: i16,
    /// Request or response.
    pub direction: Direction,
    /// Versions that Kafka 4.1's schema defines and that are stable.
    pub versions: Versions,
    /// Versions with compact lengths and tagged fields (KIP-482).
    pub flexible: Versions,
    /// The fields, in wire order.
    pub fields: &'static [Field],
}

/// One field of a message or of a struct within it.
#[derive(Debug)]
pub struct Field {
    /// Kafka's name, in its own spelling (`TopicData`).
    pub name: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// Versions that carry it.
    pub versions: Versions,
    /// Versions in which it may be null.
    pub nullable: Versions,
    /// Its tag and the versions in which it travels as a tagged field (KIP-482).
    pub tag: Option<(u32, Versions)>,
    /// The schema's default as written there; empty for the type's own (0, "", empty, false).
    pub default: &'static str,
    /// What it means to a layer, independent of its name in this message.
    pub mark: Mark,
}

/// The wire type of a field.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs)] // The names are those of Kafka's schema files.
pub enum Kind {
    Bool,
    Int8,
    Int16,
    Uint16,
    Int32,
    Uint32,
    Int64,
    Float64,
    Uuid,
    String,
    Bytes,
    /// Bytes that hold record batches.
    Records,
    Array(&'static Kind),
    Struct(&'static [Field]),
}

/// The meaning of a field, so that a layer can find every topic name or address of every API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // Each is what it says.
pub enum Mark {
    None,
    TopicName,
    TopicId,
    /// A partition number.
    Partition,
    GroupId,
    TransactionalId,
    ProducerId,
    /// A broker's node id.
    BrokerId,
    /// A broker's host name, part of an address that clients connect to.
    Host,
    /// The port beside a [`Mark::Host`].
    Port,
    ErrorCode,
    ErrorMessage,
    ThrottleTime,
    /// Record batches.
    Records,
}
