//! Catches panics with what they said and where, so that each is told once, by whoever knows what it has ended.
//!
//! Without a hook a panic is written to standard error, whatever the log's format, before anybody can catch it.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::pin::pin;
use std::task::Poll;

thread_local! {
    /// How many calls of [`caught`] this thread is in.
    static CATCHING: Cell<u32> = const { Cell::new(0) };
    /// What the panic said that is on its way to [`caught`].
    static SAID: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// From now on passes what a panic says to `report`, unless [`caught`] or [`catch`] returns it; nothing is written to
/// standard error. Once per process.
pub fn report_uncaught_to(report: fn(&str)) {
    panic::set_hook(Box::new(move |info| said(info, report)));
}

fn said(info: &PanicHookInfo<'_>, report: fn(&str)) {
    let mut text = message(info.payload());
    if let Some(location) = info.location() {
        text = format!("{text} ({location})");
    }
    if CATCHING.get() == 0 {
        return report(&text);
    }
    match SAID.take() {
        None => SAID.set(Some(text)),
        // A second one while the first unwinds ends the process: nobody would tell either.
        Some(first) => {
            report(&first);
            report(&text);
        }
    }
}

/// Runs `work`.
///
/// # Errors
/// It panicked: what the panic said, and where if there is a hook.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    CATCHING.set(CATCHING.get() + 1);
    // What a panic may have left half done is not used again by those who call this.
    let done = panic::catch_unwind(AssertUnwindSafe(work));
    CATCHING.set(CATCHING.get() - 1);
    done.map_err(|payload| SAID.take().unwrap_or_else(|| message(&*payload)))
}

/// Runs a future. What it holds is dropped when it panics.
///
/// # Errors
/// It panicked: what the panic said, and where if there is a hook.
pub async fn catch<F: Future>(work: F) -> Result<F::Output, String> {
    let mut work = pin!(work);
    poll_fn(|context| match caught(|| work.as_mut().poll(context)) {
        Ok(Poll::Ready(output)) => Poll::Ready(Ok(output)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(panic) => Poll::Ready(Err(panic)),
    })
    .await
}

fn message(payload: &(dyn Any + Send)) -> String {
    let literal = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let formatted = || payload.downcast_ref::<String>().cloned();
    literal.or_else(formatted).unwrap_or_else(|| "it gave no message".to_owned())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parking_lot::Mutex;

    use super::*;

    /// What was reported, by any test of this process.
    static REPORTED: Mutex<Vec<String>> = Mutex::new(Vec::new());

    fn report(text: &str) {
        REPORTED.lock().push(text.to_owned());
    }

    fn was_reported(words: &str) -> bool {
        REPORTED.lock().iter().any(|text| text.contains(words))
    }

    #[test]
    fn a_panic_is_told_once() {
        report_uncaught_to(report);
        let inner = caught(|| caught::<()>(|| panic!("number {}", 7)));
        let text = inner.unwrap().unwrap_err();
        assert!(text.starts_with("number 7 (") && text.contains("panics.rs:"), "{text}");
        let thread = std::thread::spawn(|| assert!(REPORTED.is_locked(), "nobody catches this"));
        let uncaught = thread.join();
        drop(panic::take_hook());
        assert!(uncaught.is_err());
        assert!(was_reported("nobody catches this (") && !was_reported("number 7"));
        assert_eq!(caught(|| 3), Ok(3));
        assert!(
            caught::<()>(|| panic!("again")).unwrap_err().starts_with("again"),
            "and the first is forgotten"
        );
    }

    #[tokio::test]
    async fn a_future_that_panics_leaves_nothing_behind() {
        let held = Arc::new(());
        let holder = Arc::clone(&held);
        let panicked = catch(async move {
            tokio::task::yield_now().await;
            assert_eq!(Arc::strong_count(&holder), 1, "it is held");
        });
        assert!(panicked.await.unwrap_err().contains("it is held"));
        assert_eq!(Arc::strong_count(&held), 1);
        assert_eq!(catch(async { 5 }).await, Ok(5));
    }
}
