//! Why a command was refused.

use kernel::ErrorCode;

/// Why a command was refused. This is a reply, not a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Kafka's error.
    pub error: ErrorCode,
    /// The message for the client.
    pub message: String,
}

impl Refused {
    /// Refuses with this error and message.
    pub fn new(error: ErrorCode, message: impl Into<String>) -> Self {
        Self { error, message: message.into() }
    }
}

/// Refuses with an error and Kafka's own message for it.
impl From<ErrorCode> for Refused {
    fn from(error: ErrorCode) -> Self {
        Self::new(error, error.to_string())
    }
}
