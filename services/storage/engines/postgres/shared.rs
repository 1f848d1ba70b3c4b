//! What the parts of this engine share.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rules::Changes;
use rules::commands::Effect;
use rules::documents::{DocumentKind, NodeDocument};

use super::news::News;
use crate::engines::Watchers;
use crate::engines::health::Health;
use crate::engines::resident::CommitStats;
use crate::engines::room::{RoomStatus, WhyFull};

/// What the parts of this engine share.
pub(super) struct Shared {
    pub(super) watchers: Watchers,
    pub(super) news: Arc<News>,
    pub(super) stats: CommitStats,
    pub(super) room: RoomStatus,
    pub(super) health: Health,
    /// The level of the documents that are written (see [`StoreLevel`](rules::documents::StoreLevel)).
    pub(super) level: AtomicU32,
    /// How long the bytes of deleted records are kept.
    pub(super) delete_delay: Duration,
}

impl Shared {
    /// Tells watchers, and other brokers, of what was committed.
    pub(super) fn publish(&self, changes: &Changes, effects: &[Effect]) {
        // A broker's lease is renewed where there is no room for anything else.
        if !effects.is_empty() || changes.keys().any(|key| key.kind() != NodeDocument::PREFIX) {
            self.tell_disk_full(false);
        }
        for effect in effects {
            match effect {
                Effect::Append { partition, batch, .. } => {
                    self.watchers.wake(*partition, u64::from(batch.bytes));
                    self.news.grown(*partition, u64::from(batch.bytes));
                }
                Effect::DropLog { partition } => {
                    self.watchers.wake(*partition, 0);
                    self.news.grown(*partition, 0);
                }
                Effect::Trim { partition, .. } => {
                    self.watchers.note(*partition);
                    self.news.noted(*partition);
                }
                Effect::Clean { .. } | Effect::CreateLog { .. } => {}
            }
        }
        let watched = Watchers::watched(changes.keys());
        self.watchers.wake_changed(&watched);
        self.news.changed(&watched);
    }

    /// Notes whether the server has room on its disk.
    pub(super) fn tell_disk_full(&self, is_full: bool) {
        let why: WhyFull = is_full.then(|| {
            Arc::from("the Postgres server has no room on its disk: clients that produce or create topics get KAFKA_STORAGE_ERROR; make room there, delete topics or records, or shorten their retention")
        });
        self.room.tell(why);
    }
}
