//! The services that hold a connection's fetch sessions (KIP-227).
//!
//! A client names its partitions once, and later only what changes: an incremental Fetch may name no topic at
//! all, and only the service that made its session knows which partitions it requests.

use std::collections::VecDeque;

use kernel::Reply;
use parking_lot::Mutex;

/// The first version of Fetch that has sessions.
pub(super) const SESSIONS_FROM: i16 = 7;

/// Most sessions remembered per connection. A client has one with each service; a proxy that shares a
/// connection among a few clients has a few.
const REMEMBERED_MAX: usize = 16;

/// The offset of the error code in a Fetch response. All versions with sessions (7 to 18) begin with
/// throttle_time_ms (int32), error_code (int16) and session_id (int32): only tagged fields, which come last,
/// have been added since.
const ERROR_CODE_AT: usize = 4;

/// The fetch sessions of one connection and the services that hold them, the least recently used first.
#[derive(Debug, Default)]
pub(super) struct SessionHolders(Mutex<VecDeque<(i32, usize)>>);

impl SessionHolders {
    /// Remembers that a service holds this session.
    pub(super) fn remember(&self, id: i32, service: usize) {
        let mut sessions = self.0.lock();
        sessions.retain(|(known, _)| *known != id);
        if sessions.len() == REMEMBERED_MAX {
            sessions.pop_front();
        }
        sessions.push_back((id, service));
    }

    /// The service that holds this session, if it is known.
    pub(super) fn holder(&self, id: i32) -> Option<usize> {
        self.0.lock().iter().find(|(known, _)| *known == id).map(|(_, service)| *service)
    }
}

/// The session id in a response to Fetch 7 or later; `None` if there is none, or an error.
///
/// A refusal repeats the id that the client sent, so an id with an error means nothing.
pub(super) fn session_in(reply: &Reply) -> Option<i32> {
    let mut bytes = reply.body.iter().copied().skip(ERROR_CODE_AT);
    let error_code = i16::from_be_bytes([bytes.next()?, bytes.next()?]);
    let id = i32::from_be_bytes([bytes.next()?, bytes.next()?, bytes.next()?, bytes.next()?]);
    (error_code == 0 && id != 0).then_some(id)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kernel::Api;
    use kernel::schema::Direction;
    use kernel::schema::value::{self, Value};

    use super::*;

    fn response(version: i16, error_code: i64, session: i64) -> Bytes {
        let message = Api::FETCH.message(Direction::Response).unwrap();
        let mut body = value::default_struct(message.fields, version);
        assert!(body.set("ThrottleTimeMs", Value::Int(0x0102_0304)));
        assert!(body.set("ErrorCode", Value::Int(error_code)));
        assert!(body.set("SessionId", Value::Int(session)));
        Bytes::from(value::encode(message, version, &body).unwrap())
    }

    #[test]
    fn the_session_stands_at_one_place_in_all_versions() {
        for version in SESSIONS_FROM..=Api::FETCH.versions().max {
            let whole = response(version, 0, 0x0a0b_0c0d);
            assert_eq!(session_in(&Reply::new(whole)), Some(0x0a0b_0c0d), "version {version}");
            assert_eq!(session_in(&Reply::new(response(version, 0, 0))), None, "no session");
            assert_eq!(session_in(&Reply::new(response(version, 70, 0x0a0b_0c0d))), None, "an error");
        }
        assert_eq!(session_in(&Reply::new(response(12, 0, 1).slice(..9))), None, "cut short");
    }

    #[test]
    fn the_least_recently_used_session_is_forgotten() {
        let sessions = SessionHolders::default();
        let last = REMEMBERED_MAX as i32;
        for id in 1..=last {
            sessions.remember(id, 0);
        }
        sessions.remember(1, 1);
        sessions.remember(last + 1, 2);
        assert_eq!((sessions.holder(1), sessions.holder(2), sessions.holder(3)), (Some(1), None, Some(0)));
        assert_eq!(sessions.holder(last + 1), Some(2));
    }
}
