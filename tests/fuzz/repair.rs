//! Makes changed inputs fit again where the first check would refuse them all: lengths and checksums.

use kernel::records::{HEADER_BYTES, PREFIX_BYTES};

use crate::random::Random;

/// The CRC of a batch covers everything from the attributes on.
const CRC_FROM: usize = 21;

/// Gives a batch its length, format and CRC; at times also the count that its last offset promises.
pub(crate) fn batch(bytes: &mut [u8], random: &mut Random) {
    if bytes.len() < HEADER_BYTES {
        return;
    }
    let length = (bytes.len() - PREFIX_BYTES) as i32;
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    if random.one_in(2) {
        let mut count = [0; 4];
        count.copy_from_slice(&bytes[57..61]);
        let last = i32::from_be_bytes(count).wrapping_sub(1);
        bytes[23..27].copy_from_slice(&last.to_be_bytes());
    }
    let crc = crc32c::crc32c(&bytes[CRC_FROM..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// The parts of an input that is a sequence of frames, each behind its length. A length that cannot be takes the rest.
pub(crate) fn frames(input: &[u8]) -> Vec<std::ops::Range<usize>> {
    let (mut frames, mut at) = (Vec::new(), 0);
    while let Some(prefix) = input[at..].first_chunk::<4>() {
        let start = at + 4;
        let said = usize::try_from(i32::from_be_bytes(*prefix)).ok();
        let end = said.and_then(|length| start.checked_add(length)).filter(|end| *end <= input.len());
        let end = end.unwrap_or(input.len());
        frames.push(start..end);
        at = end;
    }
    frames
}

/// Writes the lengths that [`frames`] has read.
pub(crate) fn lengths(input: &mut [u8]) {
    for frame in frames(input) {
        let length = frame.len() as i32;
        input[frame.start - 4..frame.start].copy_from_slice(&length.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use kernel::records::{Batch, BatchBuilder, Codec, NewRecord};

    use super::*;

    #[test]
    fn a_bent_batch_passes_its_checksum_again() {
        let mut builder = BatchBuilder::new(Codec::None);
        builder.push(NewRecord { value: Some(b"value"), ..NewRecord::default() });
        let mut bent = builder.build().unwrap().to_vec();
        bent[40] ^= 1;
        bent[9] ^= 1;
        assert!(Batch::check_header(Bytes::from(bent.clone())).is_err());
        batch(&mut bent, &mut Random::new(1));
        assert!(Batch::check_header(Bytes::from(bent)).is_ok());
    }

    #[test]
    fn frames_end_where_their_lengths_say_or_with_the_input() {
        let mut input = [&2i32.to_be_bytes()[..], b"ab", &(-1i32).to_be_bytes()[..], b"rest"].concat();
        assert_eq!(frames(&input), [4..6, 10..14]);
        lengths(&mut input);
        assert_eq!(input[6..10], 4i32.to_be_bytes());
        assert!(frames(&[0, 0, 0]).is_empty());
        assert_eq!(frames(&0i32.to_be_bytes()).first(), Some(&(4..4)), "an empty one");
    }
}
