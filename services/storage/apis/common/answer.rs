//! What an API gives back.

use kernel::{ErrorCode, Malformed, Reply};

use crate::engines::StoreError;

/// Why an API gave no reply of its own.
#[derive(Debug)]
pub(crate) enum ApiError {
    /// The request cannot be read: Kafka closes the connection.
    Malformed(Malformed),
    /// The store failed: every part of the request gets KAFKA_STORAGE_ERROR.
    Store(StoreError),
    /// The request is refused as a whole.
    Refused(ErrorCode, String),
    /// The connection is closed, because the client awaits no reply that could tell it of an error (acks=0).
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

/// What an API gives.
pub(crate) type Answer = Result<Option<Reply>, ApiError>;
