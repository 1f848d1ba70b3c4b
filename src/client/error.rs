//! Client errors, as sentences that say what to do.
//!
//! An [`Error`] is made where the facts are known and reported once, where it is handled. Its [`ErrorKind`]
//! is for decisions (retry, refresh metadata); its `Display` is for people and names errors as Kafka does.

use std::fmt;
use std::time::Duration;

use kernel::ErrorCode;
use kernel::kafka_name::kafka_name;
use kernel::units::Span;

/// The kind of the failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No connection could be made.
    Unreachable,
    /// The connection broke; its requests may or may not have taken effect.
    Disconnected,
    /// The request timed out; it may or may not have taken effect.
    TimedOut,
    /// Broker and client have no common version of the API.
    Unsupported,
    /// The response violates the protocol.
    Malformed,
    /// The caller's request is invalid.
    Misused,
    /// The broker responded with this error.
    Kafka(ErrorCode),
}

/// A failure: an [`ErrorKind`] and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    text: String,
}

/// The subject of a broker's error code; an empty one means the request as a whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct About<'a> {
    /// The broker that responded.
    pub address: &'a str,
    /// The topic.
    pub topic: Option<&'a str>,
    /// The partition of that topic.
    pub partition: Option<i32>,
    /// The broker's error message.
    pub message: Option<&'a str>,
}

impl Error {
    fn new(kind: ErrorKind, text: String) -> Self {
        Self { kind, text }
    }

    /// No connection could be made.
    pub fn unreachable(address: &str, cause: impl fmt::Display) -> Self {
        let text = format!(
            "cannot connect to {address}: {cause}; is the broker running there? (`yagura` starts one, --bootstrap names another)"
        );
        Self::new(ErrorKind::Unreachable, text)
    }

    /// The connection broke.
    pub fn disconnected(address: &str, cause: impl fmt::Display) -> Self {
        Self::new(
            ErrorKind::Disconnected,
            format!("the connection to {address} broke: {cause}; the broker's log may tell why"),
        )
    }

    /// The request timed out.
    pub fn timed_out(address: &str, what: &str, after: Duration) -> Self {
        let after = Span(after);
        let text = format!(
            "{address} did not answer {what} within {after}; give it longer with --timeout, or see its log"
        );
        Self::new(ErrorKind::TimedOut, text)
    }

    /// There is no common version, or no such API.
    pub fn unsupported(text: String) -> Self {
        Self::new(ErrorKind::Unsupported, text)
    }

    /// The response violates the protocol.
    pub fn malformed(address: &str, cause: impl fmt::Display) -> Self {
        let text = format!("{address} sent what this client cannot read: {cause}; is it a Kafka broker?");
        Self::new(ErrorKind::Malformed, text)
    }

    /// Stored data cannot be read.
    pub fn unreadable(text: String) -> Self {
        Self::new(ErrorKind::Malformed, text)
    }

    /// The caller's request is invalid.
    pub fn misused(text: impl Into<String>) -> Self {
        Self::new(ErrorKind::Misused, text.into())
    }

    /// The broker responded with an error code.
    pub fn kafka(code: ErrorCode, about: About<'_>) -> Self {
        Self::new(ErrorKind::Kafka(code), sentence(code, &about))
    }

    /// `Ok` for the code 0, else the broker's error.
    pub fn check(code: i16, about: About<'_>) -> Result<(), Error> {
        match ErrorCode::try_from_code(code) {
            None => Ok(()),
            Some(code) => Err(Self::kafka(code, about)),
        }
    }

    /// Combines the failures of alternatives; its kind is that of the last one. `None` if there are none.
    pub fn joined(mut failures: Vec<Error>) -> Option<Error> {
        failures.dedup();
        let kind = failures.last()?.kind;
        let texts: Vec<String> = failures.into_iter().map(|failure| failure.text).collect();
        Some(Self::new(kind, texts.join("; and ")))
    }

    /// The kind of the failure.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The broker's error code, if it is one.
    pub fn code(&self) -> Option<ErrorCode> {
        match self.kind {
            ErrorKind::Kafka(code) => Some(code),
            _ => None,
        }
    }

    /// Whether a retry may succeed.
    pub fn is_retriable(&self) -> bool {
        match self.kind {
            ErrorKind::Unreachable | ErrorKind::Disconnected | ErrorKind::TimedOut => true,
            ErrorKind::Unsupported | ErrorKind::Malformed | ErrorKind::Misused => false,
            // Kafka's own clients try again as well when a transaction is being ended.
            ErrorKind::Kafka(code) => code.is_retriable() || code == ErrorCode::ConcurrentTransactions,
        }
    }

    /// Whether it means that the cached metadata are stale.
    pub fn needs_metadata(&self) -> bool {
        match self.kind {
            ErrorKind::Unreachable | ErrorKind::Disconnected | ErrorKind::TimedOut => true,
            ErrorKind::Unsupported | ErrorKind::Malformed | ErrorKind::Misused => false,
            ErrorKind::Kafka(code) => matches!(
                code,
                ErrorCode::UnknownTopicOrPartition
                    | ErrorCode::LeaderNotAvailable
                    | ErrorCode::NotLeaderOrFollower
                    | ErrorCode::ReplicaNotAvailable
                    | ErrorCode::KafkaStorageError
                    | ErrorCode::NotController
                    | ErrorCode::FencedLeaderEpoch
                    | ErrorCode::UnknownLeaderEpoch
                    | ErrorCode::UnknownTopicId
                    | ErrorCode::CoordinatorNotAvailable
                    | ErrorCode::CoordinatorLoadInProgress
                    | ErrorCode::NotCoordinator
            ),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Error {}

impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.topic, self.partition) {
            (Some(topic), Some(partition)) => write!(f, "partition {partition} of topic {topic:?}"),
            (Some(topic), None) => write!(f, "topic {topic:?}"),
            (None, _) => f.write_str("the request"),
        }
    }
}

fn sentence(code: ErrorCode, about: &About<'_>) -> String {
    let (name, address) = (kafka_name(code), about.address);
    let topic = about.topic.unwrap_or_default();
    // Advice follows in the same sentence.
    let said = about.message.map(|said| said.trim_end_matches('.')).filter(|said| !said.is_empty());
    let said = said.map(|said| format!(": {said}")).unwrap_or_default();
    match (code, about.topic, about.partition) {
        (ErrorCode::UnknownTopicOrPartition, Some(_), None) => format!(
            "topic {topic:?} does not exist on {address} ({name}); `yagura topic list` shows those there are, `yagura topic create {topic}` makes it"
        ),
        (ErrorCode::UnknownTopicOrPartition, Some(_), Some(_)) => format!(
            "{about} does not exist on {address} ({name}); `yagura topic describe {topic}` shows what does"
        ),
        (ErrorCode::TopicAlreadyExists, Some(_), _) => format!(
            "topic {topic:?} exists on {address} already ({name}); change it with `yagura topic alter {topic}`, or accept it as it is with --if-not-exists"
        ),
        (ErrorCode::InvalidTopicException, Some(_), _) => format!(
            "{topic:?} cannot be a topic's name ({name}{said}); use 1 to 249 letters, digits, '.', '_' and '-'"
        ),
        (ErrorCode::MessageTooLarge, Some(_), _) => format!(
            "a batch for {about} is larger than {address} takes ({name}{said}); raise the topic's limit with `yagura topic alter {topic} --set max.message.bytes=N`, or send smaller records"
        ),
        (ErrorCode::OffsetOutOfRange, Some(_), _) => format!(
            "{address} does not hold the offset asked for in {about} ({name}); it may have been deleted by retention: `yagura topic describe {topic}` shows the first and the last"
        ),
        // What the broker says itself is better than a guess.
        (ErrorCode::KafkaStorageError, ..) if !said.is_empty() => {
            format!("{address} refused {about} with {name}{said}")
        }
        _ => format!("{address} refused {about} with {name}{said}{}", advice(code)),
    }
}

/// The advice for a code without its own sentence.
fn advice(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::LeaderNotAvailable | ErrorCode::NotLeaderOrFollower | ErrorCode::ReplicaNotAvailable => {
            "; the partition has no leader there at the moment, try again"
        }
        ErrorCode::RequestTimedOut => {
            "; the broker is overloaded or its store is slow, try again with a longer --timeout"
        }
        ErrorCode::KafkaStorageError => {
            "; part of its store cannot be read or written, see its log (is the disk full?)"
        }
        ErrorCode::TopicAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed
        | ErrorCode::GroupAuthorizationFailed
        | ErrorCode::TransactionalIdAuthorizationFailed => "; its ACLs do not allow this to you",
        ErrorCode::UnsupportedCompressionType => "; choose another --compression",
        ErrorCode::InvalidPartitions => "; partitions can be added to a topic, but not taken away",
        ErrorCode::PolicyViolation => {
            "; ask for less: Yagura and Kafka make at most 10,000 partitions per request, and a cluster may have policies of its own"
        }
        ErrorCode::InvalidConfig => "; correct the config's name or value",
        ErrorCode::InvalidRecord => "; a compacted topic, for one, takes no record without a key",
        ErrorCode::InvalidRegularExpression => "; correct the regular expression",
        ErrorCode::InvalidTxnState => {
            "; a transaction that its transactional id will end, at its timeout at the latest, is left to it"
        }
        ErrorCode::ThrottlingQuotaExceeded => "; send more slowly, or have the quota raised",
        ErrorCode::UnsupportedVersion => "; it is too old or too new for this client",
        code if code.is_retriable() => "; try again",
        ErrorCode::UnknownServerError => "; its log tells more",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_topic_tells_how_to_create_it() {
        let about = About { address: "localhost:9092", topic: Some("x"), ..About::default() };
        let error = Error::kafka(ErrorCode::UnknownTopicOrPartition, about);
        assert_eq!(
            error.to_string(),
            "topic \"x\" does not exist on localhost:9092 (UNKNOWN_TOPIC_OR_PARTITION); \
             `yagura topic list` shows those there are, `yagura topic create x` makes it"
        );
        assert!(error.needs_metadata() && error.is_retriable());
    }

    #[test]
    fn advice_goes_on_where_the_brokers_sentence_ends() {
        let said = |code: ErrorCode, message: &str| {
            let about =
                About { address: "a:1", topic: Some("x"), message: Some(message), ..About::default() };
            Error::kafka(code, about).to_string()
        };
        assert_eq!(
            said(ErrorCode::InvalidPartitions, "Topic already has 2 partition(s)."),
            "a:1 refused topic \"x\" with INVALID_PARTITIONS: Topic already has 2 partition(s); partitions can be \
             added to a topic, but not taken away"
        );
        let many = said(ErrorCode::PolicyViolation, "Excessively large number of partitions per request.");
        assert!(many.contains("per request; ask for less: ") && many.contains("at most 10,000"), "{many}");
        let other = said(ErrorCode::InvalidReplicationFactor, "No.");
        assert_eq!(other, "a:1 refused topic \"x\" with INVALID_REPLICATION_FACTOR: No");
    }

    #[test]
    fn any_other_code_keeps_what_the_broker_said() {
        let about = About { address: "a:1", topic: Some("x"), partition: Some(3), message: Some("no room") };
        let error = Error::kafka(ErrorCode::KafkaStorageError, about);
        assert_eq!(
            error.to_string(),
            "a:1 refused partition 3 of topic \"x\" with KAFKA_STORAGE_ERROR: no room"
        );
        assert_eq!(Error::check(0, about), Ok(()));
        assert_eq!(Error::check(56, about), Err(error));
    }
}
