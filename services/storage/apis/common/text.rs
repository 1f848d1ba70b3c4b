//! Texts on their way from requests and into replies.

use std::sync::Arc;

use kafka_protocol::messages::TopicName;
use kafka_protocol::protocol::StrBytes;
use rules::commands::Refused;

/// Longest sentence of a reply, in bytes. A sentence can repeat a client's own text, and before KIP-482 a string longer
/// than 32767 bytes cannot be sent.
const SENTENCE_BYTES_MAX: usize = 4096;

/// A text on memory of its own, so that it may outlive the frame it was read from.
pub(crate) fn to_arc(text: &StrBytes) -> Arc<str> {
    Arc::from(text.as_str())
}

/// The same, of one that may be null.
pub(crate) fn to_arc_nullable(text: Option<&StrBytes>) -> Option<Arc<str>> {
    text.map(to_arc)
}

/// A text for a reply.
pub(crate) fn to_wire(text: &Arc<str>) -> StrBytes {
    str_bytes(text)
}

/// The same, of one that may be null.
pub(crate) fn to_wire_nullable(text: Option<&Arc<str>>) -> Option<StrBytes> {
    text.map(to_wire)
}

/// A copy of a text as the wire takes it.
pub(crate) fn str_bytes(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// A topic's name as the wire takes it.
pub(crate) fn topic_name(name: &str) -> TopicName {
    TopicName(str_bytes(name))
}

/// A client's sentence as the wire takes it.
pub(crate) fn sentence(mut text: String) -> Option<StrBytes> {
    if text.len() > SENTENCE_BYTES_MAX {
        let mut end = SENTENCE_BYTES_MAX;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
    }
    Some(StrBytes::from_string(text))
}

/// The error code and message of a part of a reply; 0 and null where nothing was refused.
pub(crate) fn error_fields(refused: Option<Refused>) -> (i16, Option<StrBytes>) {
    refused.map_or((0, None), |refused| (refused.error.code(), sentence(refused.message)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sentence_is_cut_between_characters() {
        assert_eq!(sentence("short".to_owned()).unwrap().as_str(), "short");
        let long = sentence(format!("x{}", "é".repeat(SENTENCE_BYTES_MAX))).unwrap();
        assert_eq!(long.len(), SENTENCE_BYTES_MAX - 1);
    }
}
