//! The APIs and versions that a connection is served, and the client software in ApiVersions.

use bytes::{Buf, BufMut, BytesMut};
use kernel::session::ClientSoftware;
use kernel::{Api, Call, ErrorCode, Hangup, Header, Malformed, Reply, Served};

/// Whether a frame is an ApiVersions request, of whatever version.
pub(super) fn is_api_versions(frame: &[u8]) -> bool {
    frame.starts_with(&Api::API_VERSIONS.0.to_be_bytes())
}

/// Checks that this API is served at this version; the error says why not.
pub(super) fn check(served: &Served, header: &Header) -> Result<(), String> {
    let Header { api, version, client_id, .. } = header;
    let client = client_id.as_deref().unwrap_or("");
    match served.find(*api) {
        None => Err(format!("{api} {version} of client {client:?}: this API is not served")),
        Some(range) if !range.serves(*version) => {
            let (min, max) = (range.served_min, range.max);
            Err(format!("{api} {version} of client {client:?}: versions {min} to {max} are served"))
        }
        Some(_) => Ok(()),
    }
}

/// The answer to an ApiVersions request of a version that is not served: error 35 in version 0, with the
/// range of ApiVersions itself, so that the client can ask again (KIP-511).
///
/// Only the first 8 bytes of the frame are read, because the header of a later version is unknown. The caller
/// has checked that they are there.
pub(super) fn answer_unknown_api_versions(served: &Served, mut frame: &[u8]) -> Option<(Header, Reply)> {
    let (api, version, correlation_id) = (Api(frame.get_i16()), frame.get_i16(), frame.get_i32());
    if api != Api::API_VERSIONS {
        return None;
    }
    let range = served.find(api).filter(|range| !range.serves(version))?;
    let mut body = BytesMut::with_capacity(12);
    body.put_i16(ErrorCode::UnsupportedVersion.code());
    body.put_i32(1);
    body.put_i16(api.0);
    body.put_i16(range.min);
    body.put_i16(range.max);
    Some((Header { api, version: 0, correlation_id, client_id: None }, Reply::new(body)))
}

/// Sets the client's software in the session, from an ApiVersions 3+ request. `Some` is the refusal of a
/// request whose names Kafka would not accept either.
pub(super) fn note_client_software(call: &mut Call) -> Option<Result<Option<Reply>, Hangup>> {
    if call.header.api != Api::API_VERSIONS || call.header.version < 3 {
        return None;
    }
    match software(call) {
        Err(malformed) => Some(Err(Hangup::because(format!("ApiVersions: {malformed}")))),
        Ok(None) => {
            let why = "the name and version of the client's software may have letters, digits, '-' and '.' \
                       only, and neither begin nor end with a sign";
            Some(call.refuse(ErrorCode::InvalidRequest, why))
        }
        Ok(Some(software)) => {
            call.session.set_software(software);
            None
        }
    }
}

fn software(call: &mut Call) -> Result<Option<ClientSoftware>, Malformed> {
    let (mut name, mut version) = (None, None);
    call.walk(|found| {
        let text = || found.value.as_str().filter(|text| is_software_word(text)).map(str::to_owned);
        match found.field.name {
            "ClientSoftwareName" => name = text(),
            "ClientSoftwareVersion" => version = text(),
            _ => {}
        }
    })?;
    Ok(name.zip(version).map(|(name, version)| ClientSoftware { name, version }))
}

/// Kafka's pattern for both words: `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`.
fn is_software_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let is_inner = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    is_outer(bytes.first()) && is_outer(bytes.last()) && bytes.iter().all(is_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn software_words_are_those_of_kafkas_pattern() {
        for good in ["apache-kafka-java", "4.1.1", "a", "0", "a--b", "a..b"] {
            assert!(is_software_word(good), "{good:?}");
        }
        for bad in ["", "-", "-a", "a-", ".a", "a.", "a b", "a\n", "a_b", "ä", "a/b"] {
            assert!(!is_software_word(bad), "{bad:?}");
        }
    }
}
