//! The error for one partition's records, as the client gets it.

use std::fmt;

use kafka_protocol::messages::produce_response::{BatchIndexAndErrorMessage, PartitionProduceResponse};
use kernel::ErrorCode;
use kernel::records::{BadRecords, CodecError};
use rules::commands::Refused;

use crate::apis::common::text;
use crate::engines::StoreError;

/// Limit on record errors per batch. Kafka lists all; a batch of millions of wrong records would make it send
/// gigabytes.
pub(super) const NAMED_RECORDS_MAX: usize = 1000;

/// Records whose errors are in the message of the batch, too.
const SHOWN_RECORDS_MAX: usize = 3;

/// A refusal of one partition's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rejected {
    /// Kafka's error.
    pub(super) error: ErrorCode,
    /// The message, if it adds to the error code. Kafka sends none with most errors.
    message: Option<String>,
    /// Errors of single records, by their index in the batch (KIP-467).
    records: Vec<(i32, String)>,
}

impl Rejected {
    pub(super) fn new(error: ErrorCode, message: impl Into<String>) -> Self {
        Self { error, message: Some(message.into()), records: Vec::new() }
    }

    /// INVALID_RECORD, which no client retries.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidRecord, message)
    }

    /// INVALID_TIMESTAMP, with Kafka's message.
    pub(super) fn timestamps(records: Vec<(i32, String)>) -> Self {
        let message = "One or more records have been rejected due to invalid timestamp";
        Self { records, ..Self::new(ErrorCode::InvalidTimestamp, message) }
    }

    /// INVALID_RECORD for single records, with Kafka's message.
    pub(super) fn records(records: Vec<(i32, String)>) -> Self {
        let shown = records.iter().take(SHOWN_RECORDS_MAX);
        let shown = shown.map(|(index, why)| format!("RecordError(batchIndex={index}, message='{why}')"));
        let message = format!(
            "One or more records have been rejected due to {} record errors in total, and only showing the first three errors at most: [{}]",
            records.len(),
            shown.collect::<Vec<_>>().join(", ")
        );
        Self { records, ..Self::invalid(message) }
    }

    /// The engine returned no matching outcome.
    pub(super) fn lost() -> Self {
        Self::new(ErrorCode::UnknownServerError, "The store did not say what became of the batch.")
    }

    /// Adds the messages to the response.
    pub(super) fn explain(self, response: PartitionProduceResponse) -> PartitionProduceResponse {
        let record = |(index, message)| {
            BatchIndexAndErrorMessage::default()
                .with_batch_index(index)
                .with_batch_index_error_message(text::error_message(message))
        };
        response
            .with_error_message(self.message.and_then(text::error_message))
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

impl From<BadRecords> for Rejected {
    fn from(bad: BadRecords) -> Self {
        match bad {
            BadRecords::Malformed(_) => Self::invalid(bad.to_string()),
            BadRecords::Unreadable(error) => error.into(),
        }
    }
}

impl From<CodecError> for Rejected {
    fn from(error: CodecError) -> Self {
        let code = match error {
            CodecError::Unknown(_) => ErrorCode::UnsupportedCompressionType,
            // The Java producer splits a batch that is too large and retries.
            CodecError::TooLarge(_) => ErrorCode::MessageTooLarge,
            CodecError::Broken(_) => ErrorCode::InvalidRecord,
        };
        Self::new(code, error.to_string())
    }
}
