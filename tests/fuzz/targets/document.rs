//! Documents of every kind, as they are read back from a store: a line with the key, and the text.

use rules::documents::{self, Key};

use super::{Bounds, Target, words};

/// The target.
pub(super) struct Documents;

/// Documents of every kind.
const SEEDS: &[&str] = &[
    "counters\n{\"next_producer_id\":7,\"leader_epoch\":3}",
    "topic/a\n{\"name\":\"a\",\"id\":\"00000000-0000-0000-0000-000000000001\",\"partitions\":3,\"configs\":{\"retention.ms\":\"1\"}}",
    "topic-name/00000000-0000-0000-0000-000000000001\n\"t\"",
    "topic-collision/a_b\n[\"a.b\",\"a_b\"]",
    "partition/00000000-0000-0000-0000-000000000001/0\n{\"log_start\":1,\"end\":5,\"leader_epoch\":0}",
    "leader-epochs/00000000-0000-0000-0000-000000000001/0\n[{\"epoch\":1,\"start\":0},{\"epoch\":2,\"start\":7}]",
    "producer/00000000-0000-0000-0000-000000000001/0/7/a/b\n{\"epoch\":1,\"batches\":[{\"first_sequence\":0,\"last_sequence\":2,\"base_offset\":7}],\"last_ms\":5}",
    "client-metrics/s\n{\"interval.ms\":\"1000\"}",
    "group/g\n{\"state\":\"Stable\",\"generation\":3,\"members\":[\"a\",\"b\"],\"since_ms\":5}",
    "group/g\nv2 {\"state\":\"Reconciling\",\"generation\":3,\"members\":1,\"tally\":{\"next_order\":1,\"rebalance_timeouts\":{\"5\":1}},\"since_ms\":5,\"consumer\":{\"assignment_epoch\":3,\"topics\":{\"t\":{\"id\":\"00000000-0000-0000-0000-000000000001\",\"partitions\":2}}}}",
    "group-topics/a/b\n{\"by_name\":{\"t\":1}}",
    "group-configs/a/b\n{\"consumer.session.timeout.ms\":\"45000\"}",
    "pending-member/3/a/b/c/d\n{\"until_ms\":7}",
    "member/3/a/b/c/d\n{\"client_id\":\"c\",\"client_host\":\"/h\",\"session_timeout_ms\":10,\"rebalance_timeout_ms\":20,\"protocols\":[{\"name\":\"range\",\"metadata\":\"AAEC\"}],\"lease_ms\":5}",
    "member/3/a/b/c/d\n{\"client_id\":\"c\",\"client_host\":\"/h\",\"session_timeout_ms\":10,\"rebalance_timeout_ms\":20,\"protocols\":[],\"lease_ms\":5,\"consumer\":{\"epoch\":1,\"previous_epoch\":0,\"state\":\"Revoking\",\"topics\":[\"t\"]}}",
    "instance/3/a/b/c/d\n{\"member\":\"m\"}",
    "assigned-partition/3/a/b/00000000-0000-0000-0000-000000000001/0\n{\"members\":[\"m\"]}",
    "offset/5/4/\u{fc}//t/7\n{\"topic_id\":\"00000000-0000-0000-0000-000000000001\",\"offset\":5,\"leader_epoch\":-1,\"metadata\":\"m\",\"committed_ms\":5}",
    "pending-offset/3/a/b/t/7/5\n{}",
    "open-transaction/00000000-0000-0000-0000-000000000001/0/0000000000000000012/5\n{\"transactional_id\":\"x\",\"epoch\":1,\"started_ms\":5}",
    "aborted-transaction/00000000-0000-0000-0000-000000000001/0/0000000000000000012/5\n{\"first_offset\":7,\"last_stable\":13}",
    "transaction/x/y\n{\"producer_id\":5,\"epoch\":1,\"last_epoch\":0,\"timeout_ms\":60000,\"state\":\"Ongoing\",\"version\":2,\"started_ms\":5,\"updated_ms\":7,\"look_ms\":61000}",
    "transaction-partition/3/x/y/00000000-0000-0000-0000-000000000001/0\n{}",
    "transaction-group/3/x/y/a/b\n{}",
    "transaction-offset/3/x/y/3/a/b/t/7\n{\"topic_id\":\"00000000-0000-0000-0000-000000000001\",\"offset\":5,\"leader_epoch\":-1,\"committed_ms\":5}",
    "transaction-due/0000000000000000007/x/y\n{}",
    "live-group/a/b\n{}",
    "due/0000000000000000007/producer/00000000-0000-0000-0000-000000000001/0/7\n{}",
    "due-complete\n{\"offsets_retention_ms\":7}",
    "node/1\n{\"incarnation\":\"00000000-0000-0000-0000-000000000001\",\"addresses\":{\"main\":{\"host\":\"h\",\"port\":9092}},\"rack\":\"r\",\"release\":\"0.1.0\",\"session\":\"7/1.5\",\"since_ms\":1,\"lease_ms\":2}",
    "level\n{\"level\":2}",
    "copy\n{\"id\":\"00000000-0000-0000-0000-000000000001\",\"until_ms\":7}",
];

/// The key and the text of an input.
fn parts(input: &str) -> (Key, &str) {
    let (key, text) = input.split_once('\n').unwrap_or((input, ""));
    (Key::from_text(key), text)
}

impl Target for Documents {
    fn seeds(&self) -> Vec<Vec<u8>> {
        words(SEEDS)
    }

    fn words(&self) -> Vec<Vec<u8>> {
        let mut all = words(&[
            "null",
            "true",
            "[]",
            "{}",
            "\"\"",
            "-1",
            "1e999",
            "18446744073709551616",
            "\\u0000",
            "\\ud800",
            "v2 ",
            "v4294967296 ",
            "/",
            "\n",
            "\"leader_epoch\":",
            "\"members\":",
            "\"state\":",
            "\"configs\":",
            "00000000-0000-0000-0000-000000000001",
            "9223372036854775807",
            "[[[[[[[[[[[[[[[[",
            "{\"a\":{\"a\":",
        ]);
        all.extend(documents::KINDS.iter().map(|kind| format!("{}/", kind.prefix()).into_bytes()));
        all
    }

    fn bounds(&self) -> Bounds {
        Bounds { input_bytes_max: 16 << 10, constant: 4 << 20, per_byte: 500 }
    }

    fn run(&mut self, input: &[u8]) -> Result<(), String> {
        let text = String::from_utf8_lossy(input);
        let (key, text) = parts(&text);
        let _ = documents::lock_root(&key);
        let Ok(document) = documents::read(&key, text) else { return Ok(()) };
        let written = document.write().map_err(|error| format!("it is read, and not written: {error}"))?;
        match documents::read(&key, &written) {
            Ok(again) if again == document => Ok(()),
            Ok(again) => Err(format!("{document:?} is read back as {again:?}")),
            Err(error) => Err(format!("{written} is written, and not read back: {error}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_of_every_kind_is_read() {
        let kinds = SEEDS.iter().map(|seed| {
            let (key, text) = parts(seed);
            documents::read(&key, text).unwrap_or_else(|error| panic!("{seed}: {error}"));
            key.kind().to_owned()
        });
        let kinds: std::collections::BTreeSet<String> = kinds.collect();
        assert_eq!(kinds.len(), documents::KINDS.len());
    }
}
