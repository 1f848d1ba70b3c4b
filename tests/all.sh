#!/usr/bin/env bash
# All that CI runs, in the order in which faults are cheapest to find. Each part says how long it took.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
tools=$root/target/test-tools
logs=$root/target/test-logs
mkdir -p "$logs"

part() {
    local started=$SECONDS
    echo "== $1"
    shift
    "$@"
    echo "== done in $((SECONDS - started)) s"
}

part "set-up" tests/setup.sh
export PATH="$tools/venv/bin:$PATH"
part "format" cargo fmt --all --check
part "lints" cargo clippy --workspace --all-targets --locked -- -D warnings
part "unit and integration tests" cargo test --workspace --locked
part "fuzzing" env FUZZ_SECONDS=60 cargo test --workspace --locked --test campaign
part "release build" cargo build --release --locked
binary=$root/target/release/yagura

part "real clients" python tests/clients/run.py --binary "$binary"
part "the same calls to Apache Kafka and to Yagura" \
    python tests/differential/run.py --kafka-libs "$tools/java/libs" --binary "$binary"
part "crashes" python tests/faults/crash.py --binary "$binary"
part "groups while everything fails" python tests/faults/groups.py --binary "$binary"
part "groups with every client" python tests/groups/run.py --binary "$binary"
part "Kafka's tools for groups" python tests/groups/tools.py --binary "$binary"
part "clients' own metrics" python tests/groups/client_metrics.py --binary "$binary"
part "three groups in a chain" python tests/groups/chain.py --binary "$binary"
part "two services in one stack" python tests/routed/run.py --binary "$binary"
part "a web UI" python tests/web_ui.py --binary "$binary"
part "the examples" tests/examples.sh "$binary"
part "fsync before each acknowledgement" python tests/faults/fsync.py --binary "$binary"
part "clocks that are set, stops, late starts" python tests/faults/clock.py --binary "$binary"
part "a full disk" python tests/faults/full.py --binary "$binary"
part "unusable stores, backup, verify" python tests/faults/files.py --binary "$binary"
part "a store is one file and one process's" python tests/faults/owner.py --binary "$binary"
part "a damaged store, salvage" python tests/faults/damage.py --binary "$binary"
part "truncation after a restore" python tests/faults/epochs.py --binary "$binary"
part "an attack on memory" python tests/faults/attack.py --binary "$binary"
part "operation: reload, drain, admin" python tests/faults/operation.py --binary "$binary"
part "what commands say" python tests/faults/commands.py --binary "$binary"
part "static binary in a chroot" tests/static.sh
part "the README's commands" tests/readme.sh
echo "all parts passed"
