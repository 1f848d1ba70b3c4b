//! How much one read may return, and how much of that it reads itself.

use crate::engines::ReadLimits;

/// What is left of a request's limits. Its first batch is returned whatever its size (KIP-74).
#[derive(Debug, Clone, Copy)]
pub(in crate::engines) struct ReadBudget {
    left: usize,
    now_left: usize,
    is_first: bool,
}

/// What is done with the next batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engines) enum Fit {
    /// It is read, and counted.
    Now,
    /// It belongs into the reply, and is read when that is sent.
    Later,
    /// It does not belong into the reply.
    No,
}

impl ReadBudget {
    pub(in crate::engines) fn new(limits: ReadLimits) -> Self {
        Self { left: limits.bytes_max, now_left: limits.now_max, is_first: true }
    }

    /// Bytes that a partition with this limit may return; its first batch may be larger.
    pub(in crate::engines) fn most(&self, bytes_max: usize) -> usize {
        self.left.min(bytes_max)
    }

    /// Bytes that may be read now.
    pub(in crate::engines) fn now_left(&self) -> usize {
        self.now_left
    }

    /// Whether any batch of a partition with this limit fits.
    pub(in crate::engines) fn has_room(&self, bytes_max: usize) -> bool {
        self.is_first || self.left.min(bytes_max) > 0
    }

    /// Takes a batch of a partition that has `left` bytes left.
    pub(in crate::engines) fn take(&mut self, bytes: usize, left: &mut usize) -> Fit {
        if !self.is_first && (bytes > self.left || bytes > *left) {
            return Fit::No;
        }
        if bytes > self.now_left {
            return Fit::Later;
        }
        self.now_left -= bytes;
        self.take_later(bytes, left);
        Fit::Now
    }

    /// Whether so many bytes fit that are read later.
    pub(in crate::engines) fn fits_later(&self, bytes: u64, left: usize) -> bool {
        bytes <= self.left.min(left) as u64
    }

    /// Whether nothing was taken yet: one batch is returned whatever its size.
    pub(in crate::engines) fn is_first(&self) -> bool {
        self.is_first
    }

    /// Counts bytes that are read later.
    pub(in crate::engines) fn take_later(&mut self, bytes: usize, left: &mut usize) {
        self.is_first = false;
        self.left = self.left.saturating_sub(bytes);
        *left = left.saturating_sub(bytes);
    }
}
