//! "Did you mean": the valid name nearest to a wrong one.

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
    scored.min_by_key(|(score, _)| *score).map(|(_, name)| name)
}

fn plain(name: &str) -> String {
    name.to_lowercase().replace(['-', '.', ' '], "_")
}

/// The edit distance of two names; `None` if they are too different.
fn score(wrong: &str, name: &str) -> Option<usize> {
    let edits_max = (wrong.chars().count() / 3).clamp(1, 3);
    // Neighbours that are swapped count as one edit.
    let edits = osa_distance(wrong, name);
    // `max_frame_bytes` for `frame_bytes_max`: the right words in another order.
    if words(wrong) == words(name) {
        Some(0)
    } else if edits <= edits_max {
        Some(edits)
    } else if (wrong.len() >= 4 && name.contains(wrong)) || (name.len() >= 4 && wrong.contains(name)) {
        Some(edits_max + 1)
    } else {
        None
    }
}

fn words(name: &str) -> Vec<&str> {
    let mut words: Vec<&str> = name.split('_').collect();
    words.sort_unstable();
    words
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
    fn what_is_far_from_everything_is_answered_with_the_list() {
        assert_eq!(instead("colour", &["text", "json"]), "; expected one of \"text\", \"json\"");
        assert_eq!(instead("colour", &["text"]), "; expected \"text\"");
        assert_eq!(instead("jsn", &["text", "json"]), "; did you mean \"json\"?");
        assert_eq!(instead("colour", &[]), "");
    }
}
