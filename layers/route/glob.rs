//! Patterns for topic names.

/// Whether `text` as a whole matches `pattern`, where `*` matches any sequence of characters and `?` any one
/// character.
///
/// The time is bounded by the product of the lengths, for any topic names.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern.chars(), text.chars());
    // Where to resume when the last star has to match one more character.
    let mut last_star = None;
    loop {
        match (pattern.next(), text.clone().next()) {
            (None, None) => return true,
            (Some('*'), _) => last_star = Some((pattern.clone(), text.clone())),
            (Some(wanted), Some(found)) if wanted == '?' || wanted == found => {
                text.next();
            }
            _ => {
                let Some((after_star, run)) = &mut last_star else { return false };
                if run.next().is_none() {
                    return false;
                }
                (pattern, text) = (after_star.clone(), run.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn stars_and_question_marks() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("*", "orders"),
            ("orders", "orders"),
            ("legacy.*", "legacy."),
            ("legacy.*", "legacy.orders"),
            ("*.orders", "eu.west.orders"),
            ("a*b*c", "a-b-b-c"),
            ("a**b", "ab"),
            ("o?ders", "orders"),
            ("?", "ü"),
            ("*?", "x"),
        ] {
            assert!(matches(pattern, text), "{pattern:?} should match {text:?}");
        }
        for (pattern, text) in [
            ("", "x"),
            ("orders", "orders2"),
            ("orders", "order"),
            ("legacy.*", "legacy"),
            ("*.orders", "orders"),
            ("a*b*c", "a-c-b"),
            ("?", ""),
            ("?", "xy"),
            ("*?", ""),
            ("ORDERS", "orders"),
            ("[o]rders", "orders"),
        ] {
            assert!(!matches(pattern, text), "{pattern:?} should not match {text:?}");
        }
    }

    #[test]
    fn many_stars_take_no_longer_than_the_product_of_the_lengths() {
        assert!(!matches(&format!("{}b", "*a".repeat(100)), &"a".repeat(30_000)));
    }
}
