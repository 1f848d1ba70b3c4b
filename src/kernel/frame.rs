//! The envelope of requests and responses: length, header, body.

use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::api::Api;
use crate::call::Header;
use crate::malformed::Malformed;

/// Splits a frame (without its length) into header and body.
///
/// The header's version follows from API and version, so an unknown API is read with header 1; only its
/// correlation id and client id depend on that.
pub fn parse_request(mut frame: Bytes) -> Result<(Header, Bytes), Malformed> {
    let short = || Malformed("the frame ends within the request header".to_owned());
    if frame.len() < 8 {
        return Err(short());
    }
    let api = Api(frame.get_i16());
    let version = frame.get_i16();
    let correlation_id = frame.get_i32();
    let header_version = api.request_header_version(version);
    let client_id = if header_version >= 1 { take_client_id(&mut frame)? } else { None };
    if header_version >= 2 {
        skip_tagged_fields(&mut frame)?;
    }
    Ok((Header { api, version, correlation_id, client_id }, frame))
}

fn take_client_id(frame: &mut Bytes) -> Result<Option<Arc<str>>, Malformed> {
    if frame.len() < 2 {
        return Err(Malformed("the frame ends within the client id".to_owned()));
    }
    // The client id keeps its 16-bit length even in flexible headers (KIP-482).
    let length = frame.get_i16();
    if length == -1 {
        return Ok(None);
    }
    let length = usize::try_from(length).map_err(|_| Malformed("negative client id length".to_owned()))?;
    if frame.len() < length {
        return Err(Malformed("the frame ends within the client id".to_owned()));
    }
    // It is a name for logs and quotas, and Kafka accepts any: invalid UTF-8 is replaced, not refused.
    Ok(Some(Arc::from(String::from_utf8_lossy(&frame.split_to(length)))))
}

fn skip_tagged_fields(frame: &mut Bytes) -> Result<(), Malformed> {
    let short = || Malformed("the frame ends within the header's tagged fields".to_owned());
    let mut count = take_varint(frame).ok_or_else(short)?;
    while count > 0 {
        take_varint(frame).ok_or_else(short)?;
        let size = take_varint(frame).ok_or_else(short)? as usize;
        if frame.len() < size {
            return Err(short());
        }
        frame.advance(size);
        count -= 1;
    }
    Ok(())
}

fn take_varint(bytes: &mut Bytes) -> Option<u32> {
    let mut value = 0u32;
    for shift in (0..35).step_by(7) {
        if !bytes.has_remaining() {
            return None;
        }
        let byte = bytes.get_u8();
        value |= u32::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// The prefix of a reply's body: the length of the rest, the correlation id, and the empty tagged fields of a
/// flexible response header.
///
/// # Errors
/// The reply has more than 2 GiB.
pub fn response_prefix(header: &Header, body_bytes: u64) -> Result<([u8; 9], usize), Malformed> {
    let flexible = header.api.response_header_version(header.version) >= 1;
    let prefix_length = if flexible { 9 } else { 8 };
    let mut prefix = [0u8; 9];
    let length = i32::try_from(prefix_length as u64 - 4 + body_bytes).map_err(|_| {
        Malformed(format!("a reply of {body_bytes} bytes, more than a length prefix can say"))
    })?;
    prefix[..4].copy_from_slice(&length.to_be_bytes());
    prefix[4..8].copy_from_slice(&header.correlation_id.to_be_bytes());
    Ok((prefix, prefix_length))
}

/// A whole request frame with its length, for clients and tests.
pub fn encode_request(header: &Header, body: &[u8]) -> Vec<u8> {
    let header_version = header.api.request_header_version(header.version);
    let mut frame = vec![0; 4];
    frame.extend(header.api.0.to_be_bytes());
    frame.extend(header.version.to_be_bytes());
    frame.extend(header.correlation_id.to_be_bytes());
    if header_version >= 1 {
        match &header.client_id {
            None => frame.extend((-1i16).to_be_bytes()),
            Some(id) => {
                frame.extend((id.len() as i16).to_be_bytes());
                frame.extend(id.as_bytes());
            }
        }
    }
    if header_version >= 2 {
        frame.push(0);
    }
    frame.extend(body);
    let length = (frame.len() - 4) as i32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(api: Api, version: i16, client_id: Option<&str>) -> Header {
        Header { api, version, correlation_id: 7, client_id: client_id.map(Arc::from) }
    }

    #[test]
    fn request_headers_of_all_versions_round_trip() {
        for (api, version) in [(Api(7), 0), (Api::PRODUCE, 3), (Api::PRODUCE, 9), (Api::API_VERSIONS, 4)] {
            let sent = header(api, version, (api.0 != 7).then_some("client"));
            let frame = Bytes::from(encode_request(&sent, b"body"));
            let (read, body) = parse_request(frame.slice(4..)).unwrap();
            assert_eq!((read.api, read.version, read.correlation_id), (api, version, 7));
            assert_eq!(read.client_id, sent.client_id);
            assert_eq!(&body[..], b"body");
        }
    }

    #[test]
    fn a_header_cut_anywhere_is_an_error_and_not_a_panic() {
        let frame = Bytes::from(encode_request(&header(Api::METADATA, 12, Some("client")), b""));
        for end in 4..frame.len() {
            assert!(parse_request(frame.slice(4..end)).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_client_id_that_is_not_utf_8_is_replaced() {
        let mut frame = encode_request(&header(Api::METADATA, 12, Some("client")), b"");
        let at = frame.windows(6).position(|window| window == b"client").unwrap();
        frame[at] = 0xff;
        let (read, _) = parse_request(Bytes::from(frame).slice(4..)).unwrap();
        assert_eq!(read.client_id.as_deref(), Some("\u{fffd}lient"));
    }

    #[test]
    fn api_versions_always_answers_with_the_first_response_header() {
        assert_eq!(response_prefix(&header(Api::API_VERSIONS, 4, None), 2).unwrap().1, 8);
        let (prefix, length) = response_prefix(&header(Api::METADATA, 12, None), 2).unwrap();
        assert_eq!((length, &prefix[..]), (9, &[0, 0, 0, 7, 0, 0, 0, 7, 0][..]));
        assert!(response_prefix(&header(Api::METADATA, 12, None), 1 << 31).is_err());
    }
}
