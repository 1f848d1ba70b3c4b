//! Regular expressions that members of groups subscribe with (KIP-848): a line, and behind it names of topics.

use super::{Bounds, Target, words};

/// The target.
pub(super) struct Regex;

/// The longest name of a topic, and more topics than a run needs.
const NAME_BYTES_MAX: usize = 249;
const NAMES_MAX: usize = 32;

impl Target for Regex {
    fn seeds(&self) -> Vec<Vec<u8>> {
        words(&[
            "topic-.*\ntopic-1\ntopic\n",
            "(a|b)+c?\nabababc\n",
            "[a-z&&[^b]]{2,5}\nacc\n",
            "(?i)orders\\.(eu|us)\nOrders.EU\n",
            "(a*)*b\naaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n",
            "((a{0,50}){0,50}){0,50}\na\n",
            "\\d+\\w\\b^$\n1a\n",
            "(?<name>x)(?:y)\nxy\n",
        ])
    }

    fn words(&self) -> Vec<Vec<u8>> {
        words(&[
            "(",
            ")",
            "[",
            "]",
            "{1000}",
            "{0,1000}",
            "*",
            "+?",
            "|",
            "^",
            "$",
            ".",
            "\\b",
            "\\p{L}",
            "\\x{10FFFF}",
            "(?i)",
            "(?s-m:",
            "[^",
            "&&",
            "\\Q",
            "(?P<n>",
            "((((((((((((((((",
            "\n",
            ".*.*.*.*",
            "[a-z]",
        ])
    }

    /// A compiled expression is bounded, and so is what matching keeps.
    fn bounds(&self) -> Bounds {
        Bounds { input_bytes_max: 4 << 10, constant: 8 << 20, per_byte: 1000 }
    }

    fn run(&mut self, input: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(input);
        let mut lines = text.lines();
        let regex = lines.next().unwrap_or_default();
        let names: Vec<&str> = lines.filter(|name| name.len() <= NAME_BYTES_MAX).take(NAMES_MAX).collect();
        match storage::fuzzing::matching_topics(regex, &names) {
            Some(count) if count > names.len() => Err(format!("{count} of {} names match", names.len())),
            _ => Ok(()),
        }
    }
}
