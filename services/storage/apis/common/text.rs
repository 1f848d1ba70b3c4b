//! Strings of requests and replies.

use std::sync::Arc;

use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use rules::commands::Refused;

/// Longest error message in a reply, in bytes. A message can quote text of the client, and before KIP-482 a
/// string longer than 32767 bytes cannot be encoded.
const MESSAGE_BYTES_MAX: usize = 4096;

/// Copies a string, so that it does not keep the request's frame in memory.
pub(crate) fn to_arc(text: &StrBytes) -> Arc<str> {
    Arc::from(text.as_str())
}

/// The same for a nullable string.
pub(crate) fn to_arc_nullable(text: Option<&StrBytes>) -> Option<Arc<str>> {
    text.map(to_arc)
}

/// Copies a string into a reply.
pub(crate) fn to_wire(text: &Arc<str>) -> StrBytes {
    str_bytes(text)
}

/// The same for a nullable string.
pub(crate) fn to_wire_nullable(text: Option<&Arc<str>>) -> Option<StrBytes> {
    text.map(to_wire)
}

/// Copies a string into the protocol's type.
pub(crate) fn str_bytes(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Copies a topic name into the protocol's type.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(str_bytes(name))
}

/// An error message in the protocol's type, truncated to [`MESSAGE_BYTES_MAX`].
pub(crate) fn error_message(mut text: String) -> Option<StrBytes> {
    if text.len() > MESSAGE_BYTES_MAX {
        let mut end = MESSAGE_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    Some(StrBytes::from_string(text))
}

/// Error code and message of one result in a reply; 0 and null if it was not refused.
pub(crate) fn error_fields(refused: Option<Refused>) -> (i16, Option<StrBytes>) {
    refused.map_or((0, None), |refused| (refused.error.code(), error_message(refused.message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_message_is_cut_between_characters() {
        assert_eq!(error_message("short".to_owned()).unwrap().as_str(), "short");
        let long = error_message(format!("x{}", "é".repeat(MESSAGE_BYTES_MAX))).unwrap();
        assert_eq!(long.len(), MESSAGE_BYTES_MAX - 1);
    }
}
