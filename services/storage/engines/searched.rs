//! What a search of a log's index sees: a batch, or several consecutive ones. Looks that all engines share go by it.

use super::resident::Times;

/// One batch or several, in a search that steps over as many at a time as it can.
#[derive(Debug, Clone, Copy)]
pub(in crate::engines) struct Searched {
    pub(in crate::engines) times: Times,
    /// Bytes of the batches.
    pub(in crate::engines) bytes: u64,
    /// The offset after the last of them.
    pub(in crate::engines) next: i64,
}

/// What a search is asked at each step: whether it goes on after these batches. If not, it looks at them one by one, and ends
/// at the first that it does not go on after.
pub(in crate::engines) type IsOver<'a> = dyn FnMut(&Searched) -> bool + 'a;
