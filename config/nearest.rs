//! "Did you mean": the valid name nearest to a wrong one.

use std::cmp::Reverse;

use kernel::settings::one_of;
use strsim::osa_distance;

/// More names than this are not listed in an error.
const LISTED_MAX: usize = 16;

/// The end of a sentence about a name that does not exist: the nearest one, or those there are.
pub(crate) fn instead(wrong: &str, names: &[&str]) -> String {
    match nearest(wrong, names) {
        Some(name) => format!("; did you mean \"{name}\"?"),
        None if names.is_empty() || names.len() > LISTED_MAX => String::new(),
        None => format!("; expected {}", one_of(names)),
    }
}

/// The name that was probably meant.
pub(crate) fn nearest<'n>(wrong: &str, names: &[&'n str]) -> Option<&'n str> {
    let wrong = plain(wrong);
    let scored = names.iter().filter_map(|name| Some((score(&wrong, &plain(name))?, *name)));
    // Of two that are equally near, the one that begins alike: slips are rarer in first letters.
    let begins_alike = |name: &str| common_prefix(&wrong, &plain(name));
    scored.min_by_key(|(score, name)| (*score, Reverse(begins_alike(name)))).map(|(_, name)| name)
}

fn plain(name: &str) -> String {
    name.to_lowercase().replace(['-', '.', ' '], "_")
}

/// How far two names are from each other; `None` if they are too different.
fn score(wrong: &str, name: &str) -> Option<usize> {
    let edits_max = (wrong.chars().count() / 3).clamp(1, 3);
    // Neighbours that are swapped count as one edit.
    let edits = osa_distance(wrong, name);
    // `max_frame_bytes` for `frame_bytes_max`, `tracing` for `trace`: the right words in another order or form.
    if words(wrong) == words(name) {
        Some(0)
    } else if edits <= edits_max {
        Some(edits)
    } else if (wrong.len() >= 4 && name.contains(wrong)) || (name.len() >= 4 && wrong.contains(name)) {
        Some(edits_max + 1)
    } else if common_prefix(wrong, name) >= 4 {
        Some(edits_max + 2)
    } else {
        None
    }
}

/// The stems of a name's words, in alphabetical order.
fn words(name: &str) -> Vec<&str> {
    let mut words: Vec<&str> = name.split('_').map(stem).collect();
    words.sort_unstable();
    words
}

/// A word without what English appends to make a plural, a participle or a doer of it.
fn stem(word: &str) -> &str {
    let endings = ["ing", "ers", "er", "ed", "es", "s", "e"];
    let mut stems = endings.iter().filter_map(|ending| word.strip_suffix(ending));
    let stem = stems.find(|stem| stem.len() >= 3).unwrap_or(word);
    let mut letters = stem.chars().rev();
    // `log` doubles its last letter in `logging`.
    match (letters.next(), letters.next()) {
        (Some(last), Some(before)) if last == before => &stem[..stem.len() - last.len_utf8()],
        _ => stem,
    }
}

/// How many letters two names begin with alike.
fn common_prefix(a: &str, b: &str) -> usize {
    a.chars().zip(b.chars()).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_of_the_hand_find_their_name() {
        let names = ["cluster_id", "node_id", "request_memory", "reply_memory", "frame_bytes_max"];
        assert_eq!(nearest("clusterid", &names), Some("cluster_id"));
        assert_eq!(nearest("Cluster-ID", &names), Some("cluster_id"));
        assert_eq!(nearest("noed_id", &names), Some("node_id"), "neighbours swapped are one slip");
        assert_eq!(nearest("max_frame_bytes", &names), Some("frame_bytes_max"));
        assert_eq!(nearest("memory", &["reply_memory", "node_id"]), Some("reply_memory"));
        assert_eq!(nearest("colour", &names), None);
    }

    #[test]
    fn another_form_of_the_word_is_nearer_than_a_word_that_looks_like_it() {
        let layers = ["framing", "limits", "metrics", "route", "trace"];
        for (wrong, meant) in [
            ("tracing", "trace"),
            ("traces", "trace"),
            ("frames", "framing"),
            ("limiter", "limits"),
            ("metric", "metrics"),
            ("routing", "route"),
            ("framming", "framing"),
            ("metricbeat", "metrics"),
        ] {
            assert_eq!(nearest(wrong, &layers), Some(meant), "{wrong}");
        }
        assert_eq!(nearest("authz", &layers), None);
        assert_eq!(nearest("logging", &["level", "log"]), Some("log"));
        assert_eq!(nearest("cat", &["hat", "car"]), Some("car"), "it begins alike");
    }

    #[test]
    fn what_is_far_from_everything_is_answered_with_the_list() {
        assert_eq!(instead("colour", &["text", "json"]), "; expected one of \"text\", \"json\"");
        assert_eq!(instead("colour", &["text"]), "; expected \"text\"");
        assert_eq!(instead("jsn", &["text", "json"]), "; did you mean \"json\"?");
        assert_eq!(instead("colour", &[]), "");
    }
}
