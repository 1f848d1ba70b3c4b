//! A position in a partition, as given to `--from` and `--to`.

use std::str::FromStr;

/// A position in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// The log start offset.
    Earliest,
    /// The log end offset.
    Latest,
    /// This offset.
    Offset(i64),
    /// This many offsets before the end.
    Last(i64),
    /// The first record of this time or later, in ms since the epoch.
    Timestamp(i64),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |digits: &str| {
            let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<i64>().ok().filter(|_| is_plain).ok_or_else(|| {
                format!("{text:?} is none of earliest, latest, an offset (17), the last few (-17), a time in ms (@1700000000000)")
            })
        };
        match (text, text.strip_prefix('-'), text.strip_prefix('@')) {
            ("earliest", ..) => Ok(Start::Earliest),
            ("latest", ..) => Ok(Start::Latest),
            (_, Some(last), _) => number(last).map(Start::Last),
            (_, _, Some(time)) => number(time).map(Start::Timestamp),
            (offset, None, None) => number(offset).map(Start::Offset),
        }
    }
}

impl Start {
    /// The offset in a partition with the given log start (`earliest`) and log end (`latest`) offsets.
    pub(crate) fn offset(self, earliest: i64, latest: i64, at_time: Option<i64>) -> Result<i64, String> {
        match self {
            Start::Earliest => Ok(earliest),
            Start::Latest => Ok(latest),
            Start::Last(count) => Ok((latest - count).max(earliest)),
            // No record is that recent: start at the log end.
            Start::Timestamp(_) => Ok(at_time.unwrap_or(latest)),
            Start::Offset(offset) if (earliest..=latest).contains(&offset) => Ok(offset),
            Start::Offset(offset) => Err(format!(
                "there is no offset {offset}, it begins at {earliest} and the next record will get {latest}; choose one of these, or earliest"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_is_read() {
        for (text, start) in [
            ("earliest", Start::Earliest),
            ("latest", Start::Latest),
            ("0", Start::Offset(0)),
            ("17", Start::Offset(17)),
            ("-5", Start::Last(5)),
            ("@1700000000000", Start::Timestamp(1_700_000_000_000)),
        ] {
            assert_eq!(text.parse(), Ok(start), "{text}");
        }
        for text in ["", "-", "@", "--5", "+5", "@-1", "@now", "first", "99999999999999999999"] {
            assert!(text.parse::<Start>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn places_become_offsets() {
        assert_eq!(Start::Earliest.offset(10, 20, None), Ok(10));
        assert_eq!(Start::Latest.offset(10, 20, None), Ok(20));
        assert_eq!(Start::Last(3).offset(10, 20, None), Ok(17));
        assert_eq!(Start::Last(300).offset(10, 20, None), Ok(10), "no more than there is");
        assert_eq!(Start::Offset(10).offset(10, 20, None), Ok(10));
        assert_eq!(Start::Offset(20).offset(10, 20, None), Ok(20), "the end is a place too");
        assert!(Start::Offset(9).offset(10, 20, None).is_err());
        assert!(Start::Offset(21).offset(10, 20, None).is_err());
        assert_eq!(Start::Timestamp(1).offset(10, 20, Some(12)), Ok(12));
        assert_eq!(Start::Timestamp(1).offset(10, 20, None), Ok(20));
    }
}
