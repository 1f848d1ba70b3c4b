#!/usr/bin/env bash
# All that CI runs, in the order in which faults are cheapest to find. Each part says how long it took, and the end says
# which took longest.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
tools=$root/target/test-tools
logs=$root/target/test-logs
mkdir -p "$logs"
export CARGO_TERM_QUIET=true # warnings and errors are still shown
took=()                      # "SECONDS NAME" of each part
running=                     # the name of the one that runs

part() {
    running=$1 started=$SECONDS
    shift
    echo "== $running"
    "$@"
    took+=("$((SECONDS - started)) $running")
    running=
    echo "== done in $((SECONDS - started)) s"
}

# quietly NAME COMMAND... -- its output goes to NAME.log; a failure shows the part that matters.
quietly() {
    local log=$logs/$1.log code=0
    shift
    "$@" >"$log" 2>&1 || code=$?
    if [ "$code" != 0 ]; then
        # From the messages of the first tests that failed, or what stands last: a compiler's errors, say.
        if grep -q '^failures:$' "$log"; then sed -n '/^failures:$/,$p' "$log"; else tail -n 100 "$log"; fi >&2
        echo "all of it is in $log" >&2
        return "$code"
    fi
    awk '/^test result: ok/ {passed += $4} /^fuzz: seeds/ {print} END {if (passed) print passed " tests passed"}' "$log"
}

table() {
    [ -z "$running" ] || took+=("$((SECONDS - started)) $running: FAILED")
    [ ${#took[@]} -gt 0 ] || return 0
    echo "== seconds by part"
    printf '%s\n' "${took[@]}" | sort -k 1,1nr | while read -r seconds name; do printf '%6s  %s\n' "$seconds" "$name"; done
    echo "== $SECONDS s in all"
}
trap table EXIT

part "set-up" tests/setup.sh
export PATH="$tools/venv/bin:$PATH"
export YAGURA_POSTGRES_REQUIRED=1 # its tests are not left out
part "format" cargo fmt --all --check
part "lints" cargo clippy --workspace --all-targets --locked -- -D warnings
part "unit and integration tests" quietly cargo-test cargo test --workspace --locked -q
part "fuzzing" quietly fuzzing env FUZZ_SECONDS=60 cargo test --workspace --locked -q --test campaign
part "release build" cargo build --release --locked
binary=$root/target/release/yagura

part "real clients" python tests/clients/run.py --binary "$binary"
part "the same calls to Apache Kafka and to Yagura" \
    python tests/differential/run.py --kafka-libs "$tools/java/libs" --binary "$binary"
part "crashes" python tests/faults/crash.py --binary "$binary"
part "transactions that are killed" python tests/faults/transactions.py --binary "$binary"
part "compaction that is killed" python tests/faults/compaction.py --binary "$binary"
part "a Postgres server that fails" python tests/faults/postgres.py --binary "$binary"
part "three brokers that fail" python tests/faults/many.py --binary "$binary"
part "messages sent by SQL" python tests/faults/outbox.py --binary "$binary"
part "groups while everything fails" python tests/faults/groups.py --binary "$binary"
part "groups with every client" python tests/groups/run.py --binary "$binary"
part "groups on three brokers" python tests/postgres.py --brokers "3 behind" python tests/groups/run.py --binary "$binary"
part "Kafka's tools for groups" python tests/groups/tools.py --binary "$binary"
part "clients' own metrics" python tests/groups/client_metrics.py --binary "$binary"
part "three groups in a chain" python tests/groups/chain.py --binary "$binary"
part "transactions" python tests/transactions/run.py --binary "$binary"
part "two services in one stack" python tests/routed/run.py --binary "$binary"
part "Kafka Streams, Connect and other programs" python tests/programs/run.py --binary "$binary"
part "a web UI" python tests/web_ui.py --binary "$binary"
part "the examples" tests/examples.sh "$binary"
part "the examples of SQL" python tests/examples_postgres.py --binary "$binary"
part "fsync before each acknowledgement" python tests/faults/fsync.py --binary "$binary"
part "clocks that are set, stops, late starts" python tests/faults/clock.py --binary "$binary"
part "a full disk" python tests/faults/full.py --binary "$binary"
part "unusable stores, backup, verify" python tests/faults/files.py --binary "$binary"
part "a store is one file and one process's" python tests/faults/owner.py --binary "$binary"
part "a store that is copied to another engine" python tests/faults/store_copy.py --binary "$binary"
part "a damaged store, salvage" python tests/faults/damage.py --binary "$binary"
part "truncation after a restore" python tests/faults/epochs.py --binary "$binary"
part "an attack on memory" python tests/faults/attack.py --binary "$binary"
part "operation: reload, drain, admin" python tests/faults/operation.py --binary "$binary"
part "what commands say" python tests/faults/commands.py --binary "$binary"
part "what commands say of transactions" \
    python tests/faults/txn_commands.py --binary "$binary" --kafka-libs "$tools/java/libs"
part "static binary in a chroot" tests/static.sh
part "the README's commands" tests/readme.sh
echo "all parts passed"
