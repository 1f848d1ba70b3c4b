//! Why the records of one partition are not taken, as the client is told.

use std::fmt;

use kafka_protocol::messages::produce_response::{BatchIndexAndErrorMessage, PartitionProduceResponse};
use kernel::ErrorCode;
use kernel::records::CodecError;

use crate::apis::common::text;
use crate::engines::StoreError;
use rules::commands::Refused;

/// So many records of a batch are named at most. Kafka names all; a batch of millions of wrong records would make
/// it answer with gigabytes.
pub(super) const NAMED_RECORDS_MAX: usize = 1000;

/// A refusal of one partition's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rejected {
    /// Kafka's error.
    pub(super) error: ErrorCode,
    /// The sentence, where there is more to say than the error does. Kafka leaves most refusals without one.
    message: Option<String>,
    /// Which records are to blame, by their place in the batch (KIP-467).
    records: Vec<(i32, String)>,
}

impl Rejected {
    pub(super) fn new(error: ErrorCode, message: impl Into<String>) -> Self {
        Self { error, message: Some(message.into()), records: Vec::new() }
    }

    /// INVALID_RECORD, which no client tries again.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRecord, message)
    }

    /// INVALID_TIMESTAMP, in Kafka's words.
    pub(super) fn timestamps(records: Vec<(i32, String)>) -> Self {
        let message = "One or more records have been rejected due to invalid timestamp";
        Self { records, ..Self::new(ErrorCode::InvalidTimestamp, message) }
    }

    /// There are no transactions yet. Kafka answers so where a client may not use its transactional id, and it is the
    /// one code that every client library takes as final; others are tried again for minutes.
    pub(super) fn transactional() -> Self {
        let error = ErrorCode::TransactionalIdAuthorizationFailed;
        Self::new(error, "Transactions are not supported yet: produce without a transactional id.")
    }

    /// The engine broke its word.
    pub(super) fn lost() -> Self {
        Self::new(ErrorCode::UnknownServerError, "The store did not say what became of the batch.")
    }

    /// Puts the reason into the answer.
    pub(super) fn explain(self, response: PartitionProduceResponse) -> PartitionProduceResponse {
        let record = |(index, message)| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(index)
                .with_batch_index_error_message(text::sentence(message))
        };
        response
            .with_error_message(self.message.and_then(text::sentence))
            .with_record_errors(self.records.into_iter().map(record).collect())
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.message {
            Some(message) => f.write_str(message),
            None => write!(f, "{}", self.error),
        }
    }
}

impl From<ErrorCode> for Rejected {
    fn from(error: ErrorCode) -> Self {
        Self { error, message: None, records: Vec::new() }
    }
}

impl From<Refused> for Rejected {
    fn from(refused: Refused) -> Self {
        Self::new(refused.error, refused.message)
    }
}

impl From<StoreError> for Rejected {
    fn from(error: StoreError) -> Self {
        Self::new(ErrorCode::KafkaStorageError, error.0)
    }
}

impl From<CodecError> for Rejected {
    fn from(error: CodecError) -> Self {
        let code = match error {
            CodecError::Unknown(_) => ErrorCode::UnsupportedCompressionType,
            // The Java producer splits a batch that is too large and tries again.
            CodecError::TooLarge(_) => ErrorCode::MessageTooLarge,
            CodecError::Broken(_) => ErrorCode::InvalidRecord,
        };
        Self::new(code, error.to_string())
    }
}
