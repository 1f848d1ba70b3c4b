//! The result of an API.

use kernel::{ErrorCode, Malformed, Reply};

use crate::engines::StoreError;

/// Why an API returned no reply of its own.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// The request cannot be parsed: the connection is closed, as by Kafka.
    Malformed(Malformed),
    /// The store failed: every part of the request gets KAFKA_STORAGE_ERROR.
    Store(StoreError),
    /// The whole request is refused.
    Refused(ErrorCode, String),
    /// The connection is closed, because the client expects no reply that could carry an error (acks=0).
    Hangup(String),
}

impl From<Malformed> for ApiError {
    fn from(malformed: Malformed) -> Self {
        ApiError::Malformed(malformed)
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        ApiError::Store(error)
    }
}

/// The result of an API; `None` if the client expects no reply.
pub(crate) type Answer = Result<Option<Reply>, ApiError>;
