//! Clients that leave before a call of theirs was answered.

use kernel::{Call, Session};
use tracing::{debug, warn};

use crate::engines::StoreError;

const LEFT: &str = "the client has gone, or will send no more, and the call was called off";

/// What a command of a transaction comes to, unless its client closes the connection: then it must not take effect late.
///
/// A client that loses its connection, or is told of another coordinator, goes on elsewhere: it repeats the call there, and soon is in
/// its next transaction, with the same epoch if it has transaction version 1. In Kafka the broker that it has left is not the
/// coordinator any more, or not the leader, and refuses what it still holds. Here any broker takes it, and a call that it
/// executes late would end, or get into, the next transaction.
///
/// Whoever drops a commit calls it off, if it has not been written ([`Engine::commit`](crate::engines::Engine::commit)).
pub(crate) async fn unless_left<T>(
    session: &Session,
    commit: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let left = || Err(StoreError(LEFT.to_owned()));
    if session.has_ended() {
        return left();
    }
    tokio::select! {
        biased;
        committed = commit => committed,
        () = session.ended() => left(),
    }
}

/// Tells the operator of a request that has failed. That its client has left is no failure.
pub(crate) fn note_failure(call: &Call, error: &StoreError) {
    if error.0 == LEFT {
        debug!(api = %call.header.api, "a request was called off, because its client has left");
    } else {
        warn!(api = %call.header.api, %error, "a request failed because the store did");
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_call_is_called_off_once_its_client_has_left() {
        let session = Session::for_tests();
        assert_eq!(unless_left(&session, ready(Ok(7))).await, Ok(7));
        let waiting = unless_left(&session, pending::<Result<(), StoreError>>());
        let (left, ()) = futures_util::join!(waiting, async { session.end() });
        assert_eq!(left, Err(StoreError(LEFT.to_owned())));
        // What has not begun does not begin.
        let never = async { unreachable!("it is not polled") };
        assert_eq!(unless_left::<()>(&session, never).await, left);
    }
}
