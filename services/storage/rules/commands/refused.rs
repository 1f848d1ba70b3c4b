//! Why a command was refused.

use kernel::ErrorCode;

/// Why a command was refused: an answer, not a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Kafka's error.
    pub error: ErrorCode,
    /// The client's sentence.
    pub message: String,
}

impl Refused {
    /// Refuses with this error and sentence.
    pub fn new(error: ErrorCode, message: impl Into<String>) -> Self {
        Self { error, message: message.into() }
    }
}

/// Refuses with an error that has Kafka's own sentence.
impl From<ErrorCode> for Refused {
    fn from(error: ErrorCode) -> Self {
        Self::new(error, error.to_string())
    }
}
