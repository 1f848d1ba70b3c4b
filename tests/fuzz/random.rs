//! A pseudorandom number generator (xorshift64*), deterministic by seed.

/// Numbers that follow from a seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        // Seeds that differ by one must not begin alike (splitmix64).
        let mut state = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        // Any state except zero, which would stay zero.
        Self((state ^ (state >> 31)) | 1)
    }

    pub(crate) fn roll(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number below `bound`; 0 if there is none.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { ((self.roll() >> 16) % bound as u64) as usize }
    }

    /// True once in `times`.
    pub(crate) fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// Small lengths often, long ones at times; at most `most`.
    pub(crate) fn length(&mut self, most: usize) -> usize {
        let bound = match self.below(8) {
            0..=3 => 4,
            4..=6 => 32,
            _ => 1024,
        };
        self.below(bound.min(most)) + usize::from(most > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_follow_from_the_seed_alone_and_differ_by_it() {
        let rolled = |seed| {
            let mut random = Random::new(seed);
            (0..20).map(|_| random.roll()).collect::<Vec<_>>()
        };
        assert_eq!(rolled(7), rolled(7));
        assert_ne!(rolled(7), rolled(8));
    }

    #[test]
    fn numbers_stay_below_their_bounds() {
        let mut random = Random::new(1);
        for bound in [1, 2, 3, 1000] {
            assert!((0..1000).all(|_| random.below(bound) < bound));
            assert!((0..1000).all(|_| (1..=bound).contains(&random.length(bound))));
        }
        assert_eq!((random.below(0), random.length(0)), (0, 0));
    }
}
