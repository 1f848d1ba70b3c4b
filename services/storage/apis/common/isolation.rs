//! Isolation levels as requests have them (KIP-98).

use kernel::ErrorCode;

use super::answer::ApiError;
use crate::engines::Isolation;

/// The isolation level of a request. Kafka fails with an unexpected exception for one that does not exist and answers
/// UNKNOWN_SERVER_ERROR, which blames the broker.
pub(crate) fn read(level: i8) -> Result<Isolation, ApiError> {
    match level {
        0 => Ok(Isolation::ReadUncommitted),
        1 => Ok(Isolation::ReadCommitted),
        _ => {
            let message = format!("isolation_level is {level}; it must be 0 or 1");
            Err(ApiError::Refused(ErrorCode::InvalidRequest, message))
        }
    }
}
