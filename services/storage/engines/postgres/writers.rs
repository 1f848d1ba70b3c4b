//! The tasks that commit, each on a connection of its own.

use std::sync::Arc;

use kernel::panics::catch;
use tokio::task::JoinSet;

use super::calls::Queue;
use super::commit::Committer;
use super::connect::Server;
use super::shared::Shared;
use crate::engines::StoreError;

/// Connections that commit side by side. More of them share fewer commits each.
pub(super) const WRITERS: usize = 2;

/// Starts them. They end once the queue is closed and empty.
pub(super) fn start(
    queue: &Arc<Queue>,
    server: &Arc<Server>,
    shared: &Arc<Shared>,
    commit_bytes_max: usize,
) -> JoinSet<()> {
    let mut writers = JoinSet::new();
    for _ in 0..WRITERS {
        let committer = Committer::new(Arc::clone(server), Arc::clone(shared));
        let (queue, shared) = (Arc::clone(queue), Arc::clone(shared));
        writers.spawn(async move {
            if let Err(panic) = catch(run(committer, &queue, commit_bytes_max)).await {
                shared.health.fail(StoreError(format!(
                    "a writer of the store panicked: {panic}; this is a bug in Yagura, please report it"
                )));
            }
        });
    }
    writers
}

async fn run(mut committer: Committer, queue: &Queue, commit_bytes_max: usize) {
    while let Some(batch) = queue.next(commit_bytes_max).await {
        let (calls, taken) = batch.into_parts();
        let put_back = committer.commit(calls).await;
        queue.done(&taken, put_back);
    }
}
