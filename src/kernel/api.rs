//! API keys, with the facts about them that the schema table knows.

use std::fmt;

use crate::schema::{self, Direction, Message, Versions};

/// The key of a Kafka API as read from the wire: any number, whether Kafka defines it or not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Api(pub i16);

macro_rules! apis {
    ($($(#[$doc:meta])* $name:ident = $key:literal),* $(,)?) => {
        impl Api { $($(#[$doc])* #[allow(missing_docs)] pub const $name: Api = Api($key);)* }
    };
}

// All of Kafka 4.1.
apis! {
    PRODUCE = 0, FETCH = 1, LIST_OFFSETS = 2, METADATA = 3, OFFSET_COMMIT = 8, OFFSET_FETCH = 9,
    FIND_COORDINATOR = 10, JOIN_GROUP = 11, HEARTBEAT = 12, LEAVE_GROUP = 13, SYNC_GROUP = 14,
    DESCRIBE_GROUPS = 15, LIST_GROUPS = 16, SASL_HANDSHAKE = 17, API_VERSIONS = 18, CREATE_TOPICS = 19,
    DELETE_TOPICS = 20, DELETE_RECORDS = 21, INIT_PRODUCER_ID = 22, OFFSET_FOR_LEADER_EPOCH = 23,
    ADD_PARTITIONS_TO_TXN = 24, ADD_OFFSETS_TO_TXN = 25, END_TXN = 26, WRITE_TXN_MARKERS = 27,
    TXN_OFFSET_COMMIT = 28, DESCRIBE_ACLS = 29, CREATE_ACLS = 30, DELETE_ACLS = 31, DESCRIBE_CONFIGS = 32,
    ALTER_CONFIGS = 33, ALTER_REPLICA_LOG_DIRS = 34, DESCRIBE_LOG_DIRS = 35, SASL_AUTHENTICATE = 36,
    CREATE_PARTITIONS = 37, CREATE_DELEGATION_TOKEN = 38, RENEW_DELEGATION_TOKEN = 39,
    EXPIRE_DELEGATION_TOKEN = 40, DESCRIBE_DELEGATION_TOKEN = 41, DELETE_GROUPS = 42, ELECT_LEADERS = 43,
    INCREMENTAL_ALTER_CONFIGS = 44, ALTER_PARTITION_REASSIGNMENTS = 45, LIST_PARTITION_REASSIGNMENTS = 46,
    OFFSET_DELETE = 47, DESCRIBE_CLIENT_QUOTAS = 48, ALTER_CLIENT_QUOTAS = 49,
    DESCRIBE_USER_SCRAM_CREDENTIALS = 50, ALTER_USER_SCRAM_CREDENTIALS = 51, VOTE = 52,
    BEGIN_QUORUM_EPOCH = 53, END_QUORUM_EPOCH = 54, DESCRIBE_QUORUM = 55, ALTER_PARTITION = 56, UPDATE_FEATURES = 57,
    ENVELOPE = 58, FETCH_SNAPSHOT = 59, DESCRIBE_CLUSTER = 60, DESCRIBE_PRODUCERS = 61, BROKER_REGISTRATION = 62,
    BROKER_HEARTBEAT = 63, UNREGISTER_BROKER = 64, DESCRIBE_TRANSACTIONS = 65, LIST_TRANSACTIONS = 66,
    ALLOCATE_PRODUCER_IDS = 67, CONSUMER_GROUP_HEARTBEAT = 68, CONSUMER_GROUP_DESCRIBE = 69,
    CONTROLLER_REGISTRATION = 70, GET_TELEMETRY_SUBSCRIPTIONS = 71, PUSH_TELEMETRY = 72,
    ASSIGN_REPLICAS_TO_DIRS = 73, LIST_CONFIG_RESOURCES = 74, DESCRIBE_TOPIC_PARTITIONS = 75,
    SHARE_GROUP_HEARTBEAT = 76, SHARE_GROUP_DESCRIBE = 77, SHARE_FETCH = 78, SHARE_ACKNOWLEDGE = 79,
    ADD_RAFT_VOTER = 80, REMOVE_RAFT_VOTER = 81, UPDATE_RAFT_VOTER = 82, INITIALIZE_SHARE_GROUP_STATE = 83,
    READ_SHARE_GROUP_STATE = 84, WRITE_SHARE_GROUP_STATE = 85, DELETE_SHARE_GROUP_STATE = 86,
    READ_SHARE_GROUP_STATE_SUMMARY = 87, DESCRIBE_SHARE_GROUP_OFFSETS = 90, ALTER_SHARE_GROUP_OFFSETS = 91,
    DELETE_SHARE_GROUP_OFFSETS = 92,
}

impl Api {
    /// Kafka's definition of this API's request or response, if Kafka 4.1 has one.
    pub fn message(self, direction: Direction) -> Option<&'static Message> {
        schema::message(self.0, direction)
    }

    /// Whether Kafka 4.1 knows this key.
    pub fn is_known(self) -> bool {
        self.message(Direction::Request).is_some_and(|message| message.versions.min <= message.versions.max)
    }

    /// Kafka's name of the API, or `Unknown` for a key Kafka 4.1 does not have.
    pub fn name(self) -> &'static str {
        self.message(Direction::Request).map_or("Unknown", |message| message.api)
    }

    /// The API with this name, in any case.
    pub fn by_name(name: &str) -> Option<Api> {
        Api::all().find(|api| api.name().eq_ignore_ascii_case(name))
    }

    /// All APIs of Kafka 4.1, by key.
    pub fn all() -> impl Iterator<Item = Api> {
        schema::MESSAGES
            .iter()
            .filter(|message| message.direction == Direction::Request)
            .map(|message| Api(message.api_key))
            .filter(|api| api.is_known())
    }

    /// The stable versions of Kafka 4.1; empty for an unknown key.
    pub fn versions(self) -> Versions {
        self.message(Direction::Request).map_or(Versions::NONE, |message| message.versions)
    }

    /// The version of the request header that goes with a version of the API (KIP-482).
    pub fn request_header_version(self, version: i16) -> i16 {
        match self.message(Direction::Request) {
            // ControlledShutdown 0 is the one request without a client id.
            Some(message) if message.api_key == 7 && version == 0 => 0,
            Some(message) if message.flexible.contains(version) => 2,
            _ => 1,
        }
    }

    /// The version of the response header. ApiVersions always uses 0, because the client does not know the
    /// broker's versions yet (KIP-511).
    pub fn response_header_version(self, version: i16) -> i16 {
        match self.message(Direction::Response) {
            Some(message) if self != Api::API_VERSIONS && message.flexible.contains(version) => 1,
            _ => 0,
        }
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name(), self.0)
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_known() { f.write_str(self.name()) } else { write!(f, "Unknown({})", self.0) }
    }
}
