//! Loops that may be long, and let others run meanwhile.

/// Does something with each item, as long as the runtime lets it; then other calls on the same thread have their turn. To
/// be used where a loop grows with a large request, or with what is stored.
pub(crate) async fn each<T, R>(items: impl IntoIterator<Item = T>, mut one: impl FnMut(T) -> R) -> Vec<R> {
    let items = items.into_iter();
    let mut done = Vec::with_capacity(items.size_hint().0);
    for item in items {
        // Costs a few nanoseconds, and yields once in 128 items.
        tokio::task::consume_budget().await;
        done.push(one(item));
    }
    done
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn others_run_during_a_long_loop() {
        let turns = Arc::new(AtomicUsize::new(0));
        let other = tokio::spawn({
            let turns = Arc::clone(&turns);
            async move {
                loop {
                    turns.fetch_add(1, Ordering::Relaxed);
                    tokio::task::yield_now().await;
                }
            }
        });
        let seen = each(0..10_000, |_| turns.load(Ordering::Relaxed)).await;
        assert!(seen[9_999] > 50, "{} turns", seen[9_999]);
        other.abort();
    }
}
