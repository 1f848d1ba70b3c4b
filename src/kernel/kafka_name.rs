//! Kafka's names of its error codes.

use crate::ErrorCode;

/// Kafka's name of an error code, such as `UNKNOWN_TOPIC_OR_PARTITION`.
pub fn kafka_name(code: ErrorCode) -> String {
    if let ErrorCode::Unknown(number) = code {
        return format!("error {number}");
    }
    let mut name = String::new();
    for letter in code.to_string().chars() {
        if letter.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_named_as_kafka_names_them() {
        assert_eq!(kafka_name(ErrorCode::UnknownTopicOrPartition), "UNKNOWN_TOPIC_OR_PARTITION");
        assert_eq!(kafka_name(ErrorCode::InvalidTopicException), "INVALID_TOPIC_EXCEPTION");
        assert_eq!(kafka_name(ErrorCode::KafkaStorageError), "KAFKA_STORAGE_ERROR");
        assert_eq!(kafka_name(ErrorCode::Unknown(1234)), "error 1234");
    }
}
