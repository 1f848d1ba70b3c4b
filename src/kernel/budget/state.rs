//! What of a pool is free, and who waits for it.

use std::collections::{BTreeMap, BTreeSet};
use std::task::Waker;

/// Free bytes, or drawn ones, by what they are for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Shares {
    /// Anything. Below 0 for a while after more was set aside than was free.
    pub(super) common: isize,
    /// Small draws.
    pub(super) small: isize,
    /// Anything, for a small draw that its share has no more room for.
    pub(super) common_for_small: isize,
    /// The oldest half-read frame.
    pub(super) aside: isize,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) free: Shares,
    /// What is set aside for the oldest half-read frame, used or not.
    pub(super) aside_max: isize,
    /// What small draws may have of what all share while larger ones wait for it.
    pub(super) small_in_common_max: isize,
    /// Draws that wait, by number.
    pub(super) waiting: BTreeMap<u64, Waiting>,
    /// Those of each kind: the lowest number is the next.
    small: BTreeSet<u64>,
    large: BTreeSet<u64>,
    /// The draws of half-read frames, by their age.
    steps: BTreeMap<u64, u64>,
    giant_steps: BTreeMap<u64, u64>,
    /// The half-read frames from the oldest on, and whether each is a giant, which would take much of what all share: it is
    /// read only as the oldest, from what is set aside.
    pub(super) frames: BTreeMap<u64, bool>,
    next_number: u64,
}

#[derive(Debug)]
pub(super) struct Waiting {
    bytes: isize,
    kind: Kind,
    pub(super) granted: Option<Shares>,
    pub(super) waker: Option<Waker>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Small,
    Large,
    /// A step of this half-read frame.
    Step(u64),
}

impl State {
    /// A pool of which so much is free.
    pub(super) fn of(free: Shares, small_in_common_max: isize) -> Self {
        Self { free, small_in_common_max, ..Self::default() }
    }

    /// Takes bytes, if they are free for this kind.
    pub(super) fn take(&mut self, bytes: isize, kind: Kind) -> Option<Shares> {
        let common_free = self.free.common.max(0);
        let taken = match kind {
            // Their own share first: what all share is also for those that need more than that.
            Kind::Small => {
                let small = bytes.min(self.free.small);
                let common_for_small = bytes - small;
                let others_wait = !self.large.is_empty();
                // While it is not free, this counts below 0 what is in use.
                let in_use = common_for_small - self.free.common_for_small;
                if common_for_small > 0 && others_wait && in_use > self.small_in_common_max {
                    return None;
                }
                Shares { small, common_for_small, ..Shares::default() }
            }
            Kind::Large => Shares { common: bytes, ..Shares::default() },
            Kind::Step(frame) => {
                let is_giant = self.is_giant(frame);
                let is_oldest = self.frames.keys().next() == Some(&frame);
                let common = if is_giant { 0 } else { bytes.min(common_free) };
                let aside = bytes - common;
                if aside > if is_oldest { self.free.aside } else { 0 } {
                    return None;
                }
                Shares { common, aside, ..Shares::default() }
            }
        };
        if taken.common + taken.common_for_small > common_free {
            return None;
        }
        self.free.common -= taken.common + taken.common_for_small;
        self.free.common_for_small -= taken.common_for_small;
        self.free.small -= taken.small;
        self.free.aside -= taken.aside;
        Some(taken)
    }

    pub(super) fn give_back(&mut self, shares: Shares) {
        self.free.common += shares.common + shares.common_for_small;
        self.free.common_for_small += shares.common_for_small;
        self.free.small += shares.small;
        self.free.aside += shares.aside;
    }

    /// Whether a draw would overtake others of its kind.
    pub(super) fn must_queue(&self, kind: Kind) -> bool {
        match kind {
            Kind::Small => !self.small.is_empty(),
            Kind::Large => !self.large.is_empty(),
            // Giants do not draw on what the others wait for.
            Kind::Step(frame) => self.steps.first_key_value().is_some_and(|(older, _)| *older < frame),
        }
    }

    fn is_giant(&self, frame: u64) -> bool {
        self.frames.get(&frame).is_some_and(|is_giant| *is_giant)
    }

    fn steps_of(&mut self, frame: u64) -> &mut BTreeMap<u64, u64> {
        if self.is_giant(frame) { &mut self.giant_steps } else { &mut self.steps }
    }

    pub(super) fn queue(&mut self, bytes: isize, kind: Kind) -> u64 {
        let number = self.fresh_number();
        self.waiting.insert(number, Waiting { bytes, kind, granted: None, waker: None });
        match kind {
            Kind::Small => drop(self.small.insert(number)),
            Kind::Large => drop(self.large.insert(number)),
            Kind::Step(frame) => drop(self.steps_of(frame).insert(frame, number)),
        }
        number
    }

    pub(super) fn fresh_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    pub(super) fn forget(&mut self, number: u64) {
        let Some(gone) = self.waiting.remove(&number) else { return };
        match gone.kind {
            Kind::Small => drop(self.small.remove(&number)),
            Kind::Large => drop(self.large.remove(&number)),
            // The frame may be gone, and with it whether it was a giant.
            Kind::Step(frame) => {
                self.steps.remove(&frame);
                self.giant_steps.remove(&frame);
            }
        }
        self.give_back(gone.granted.unwrap_or_default());
    }

    /// Grants what can be granted, and returns who is to be woken.
    pub(super) fn serve(&mut self) -> Vec<Waker> {
        let mut woken = Vec::new();
        while let Some(number) = self.small.first().copied()
            && self.grant(number, &mut woken)
        {
            self.small.pop_first();
        }
        self.serve_frames(&mut woken);
        while let Some(number) = self.large.first().copied()
            && self.grant(number, &mut woken)
        {
            self.large.pop_first();
        }
        woken
    }

    /// In the order of age. A giant that has to wait holds up nobody.
    fn serve_frames(&mut self, woken: &mut Vec<Waker>) {
        if let Some(oldest) = self.frames.keys().next().copied()
            && let Some(number) = self.giant_steps.get(&oldest).copied()
            && self.grant(number, woken)
        {
            self.giant_steps.remove(&oldest);
        }
        while let Some((frame, number)) =
            self.steps.first_key_value().map(|(frame, number)| (*frame, *number))
            && self.grant(number, woken)
        {
            self.steps.remove(&frame);
        }
    }

    fn grant(&mut self, number: u64, woken: &mut Vec<Waker>) -> bool {
        let Some((bytes, kind)) = self.waiting.get(&number).map(|waiting| (waiting.bytes, waiting.kind))
        else {
            return true;
        };
        let Some(taken) = self.take(bytes, kind) else { return false };
        if let Some(waiting) = self.waiting.get_mut(&number) {
            waiting.granted = Some(taken);
            woken.extend(waiting.waker.take());
        }
        true
    }
}
