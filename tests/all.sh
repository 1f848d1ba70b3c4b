#!/usr/bin/env bash
# All that CI runs, in the order in which faults are cheapest to find. What starts servers runs in lanes, two of these
# parts at a time, so that both cores of a small machine are busy: what waits or counts must hold then too. LANES=1 runs
# one after the other. Each part says how long it took, and the end says which took longest.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
tools=$root/target/test-tools
logs=$root/target/test-logs
mkdir -p "$logs"
export CARGO_TERM_QUIET=true # warnings and errors are still shown
. tests/parts.sh

part "set-up" tests/setup.sh
export PATH="$tools/venv/bin:$PATH"
export YAGURA_POSTGRES_REQUIRED=1 # its tests are not left out
part "format" cargo fmt --all --check
part "lints" cargo clippy --workspace --all-targets --locked -- -D warnings
part "unit and integration tests" quietly cargo-test cargo test --workspace --locked -q
part "fuzzing" quietly fuzzing env FUZZ_SECONDS=60 cargo test --workspace --locked -q --test campaign
part "release build" cargo build --release --locked
binary=$root/target/release/yagura
next=$tools/yagura-next # a made-up next release
part "a build of the next level" sh -c 'cargo build --locked --features next-level && cp target/debug/yagura "$0"' "$next"

lane "real clients" python tests/clients/run.py --binary "$binary"
lane "the same calls to Apache Kafka and to Yagura" \
    python tests/differential/run.py --kafka-libs "$tools/java/libs" --binary "$binary"
lane "crashes" python tests/faults/crash.py --binary "$binary"
lane "transactions that are killed" python tests/faults/transactions.py --binary "$binary"
lane "compaction that is killed" python tests/faults/compaction.py --binary "$binary"
lane "a Postgres server that fails" python tests/faults/postgres.py --binary "$binary"
lane "three brokers that fail" python tests/faults/many.py --binary "$binary"
lane "an upgrade of three brokers" python tests/faults/upgrade.py --binary "$binary" --next "$next"
lane "messages sent by SQL" python tests/faults/outbox.py --binary "$binary"
lane "messages sent by SQL to three brokers" \
    env YAGURA_TEST_BROKERS="3 behind" python tests/faults/outbox.py --binary "$binary" --only killed
lane "groups while everything fails" python tests/faults/groups.py --binary "$binary"
lane "groups with every client" python tests/groups/run.py --binary "$binary"
lane "groups on three brokers" python tests/postgres.py --brokers "3 behind" python tests/groups/run.py --binary "$binary"
lane "Kafka's tools for groups" python tests/groups/tools.py --binary "$binary"
lane "clients' own metrics" python tests/groups/client_metrics.py --binary "$binary"
lane "three groups in a chain" python tests/groups/chain.py --binary "$binary"
lane "transactions" python tests/transactions/run.py --binary "$binary"
lane "two services in one stack" python tests/routed/run.py --binary "$binary"
lane "Kafka Streams, Connect and other programs" python tests/programs/run.py --binary "$binary"
lane "a web UI" python tests/web_ui.py --binary "$binary"
lane "the examples" tests/examples.sh "$binary"
lane "the examples of SQL" python tests/examples_postgres.py --binary "$binary"
lane "fsync before each acknowledgement" python tests/faults/fsync.py --binary "$binary"
lane "static binary in a chroot" tests/static.sh
lane "the README's commands" tests/readme.sh
lane "clocks that are set, stops, late starts" python tests/faults/clock.py --binary "$binary"
lane "a full disk" python tests/faults/full.py --binary "$binary"
lane "unusable stores, backup, verify" python tests/faults/files.py --binary "$binary"
lane "a store is one file and one process's" python tests/faults/owner.py --binary "$binary"
lane "a store that is copied to another engine" python tests/faults/store_copy.py --binary "$binary"
lane "a damaged store, salvage" python tests/faults/damage.py --binary "$binary"
lane "truncation after a restore" python tests/faults/epochs.py --binary "$binary"
lane "an attack on memory" python tests/faults/attack.py --binary "$binary"
lane "operation: reload, drain, admin" python tests/faults/operation.py --binary "$binary"
lane "what commands say" python tests/faults/commands.py --binary "$binary"
lane "what commands say of transactions" \
    python tests/faults/txn_commands.py --binary "$binary" --kafka-libs "$tools/java/libs"
all_lanes
echo "all parts passed"
