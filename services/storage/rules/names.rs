//! Which names a topic may have.

use kernel::ErrorCode;

use super::Refused;

/// Kafka leaves room for a partition number and a suffix in a file name of 255 bytes.
const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Checks a new topic's name as Kafka does.
pub(crate) fn check_topic_name(name: &str) -> Result<(), Refused> {
    let invalid = |why: String| Err(Refused::new(ErrorCode::InvalidTopicException, why));
    let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if name.is_empty() {
        return invalid("Topic name is invalid: the empty string is not allowed".to_owned());
    }
    if name == "." || name == ".." {
        return invalid(format!("Topic name is invalid: '{name}' is not allowed"));
    }
    if name.len() > TOPIC_NAME_BYTES_MAX {
        return invalid(format!(
            "Topic name is invalid: the length of '{name}' is longer than the max allowed length {TOPIC_NAME_BYTES_MAX}"
        ));
    }
    if !name.chars().all(is_legal) {
        return invalid(format!(
            "Topic name is invalid: '{name}' contains one or more characters other than ASCII alphanumerics, '.', '_' and '-'"
        ));
    }
    Ok(())
}
