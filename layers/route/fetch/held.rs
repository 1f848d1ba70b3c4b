//! A bound on the memory of the fetch sessions of all connections.

use std::sync::atomic::{AtomicUsize, Ordering};

use kernel::split::fetch::{Place, TopicKey};

/// The limit, the same as that of the storage service, which has these partitions as well.
const HELD_BYTES_MAX: usize = 64 << 20;
/// Estimated memory of one partition without its topic name.
const PARTITION_BYTES: usize = 512;

static HELD_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Memory that counts against [`HELD_BYTES_MAX`] until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Held(usize);

impl Held {
    /// Adds a partition; false if that is too much.
    pub(super) fn grow(&mut self, place: &Place) -> bool {
        let bytes = weight(place);
        let grown = |held: usize| held.checked_add(bytes).filter(|grown| *grown <= HELD_BYTES_MAX);
        let is_held = HELD_BYTES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok();
        if is_held {
            self.0 += bytes;
        }
        is_held
    }

    /// Gives a partition back that was added.
    pub(super) fn shrink(&mut self, place: &Place) {
        let bytes = weight(place).min(self.0);
        self.0 -= bytes;
        HELD_BYTES.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD_BYTES.fetch_sub(self.0, Ordering::Relaxed);
    }
}

fn weight(place: &Place) -> usize {
    let name_bytes = match &place.topic {
        TopicKey::Name(name) => name.len(),
        TopicKey::Id(_) => 0,
    };
    PARTITION_BYTES + name_bytes
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    #[test]
    fn what_is_given_back_is_what_was_held() {
        let place = Place { topic: TopicKey::Name(Arc::from("orders")), partition: 0 };
        let mut held = Held::default();
        assert!(held.grow(&place) && held.grow(&place));
        held.shrink(&place);
        assert_eq!(held.0, weight(&place));
    }
}
