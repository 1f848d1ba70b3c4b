#!/usr/bin/env bash
# The long forms of the tests that depend on chance: `make soak`. Each round has another seed, which
# it prints, and tries what `make test` tries for a minute. Ends at the first failure.
#
#     tests/soak.sh [ROUNDS]      3 by default
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$PWD/target/test-tools
binary=$PWD/target/release/yagura
rounds=${1:-3}

tests/setup.sh
cargo build --release --locked
export PATH="$tools/venv/bin:$PATH"

trial() {
    local started=$SECONDS
    echo "== round $round of $rounds: $1"
    shift
    "$@"
    echo "== done in $((SECONDS - started)) s"
}

for round in $(seq "$rounds"); do
    trial "crashes" python tests/faults/crash.py --binary "$binary" --kills 200
    trial "transactions that are killed" python tests/faults/transactions.py --binary "$binary" --all
    trial "compaction that is killed" python tests/faults/compaction.py --binary "$binary" --kills 1000 --keys 500000
    trial "messages sent by SQL" python tests/faults/outbox.py --binary "$binary" --only killed --seconds 240
    trial "a Postgres server that fails" python tests/faults/postgres.py --binary "$binary" --restarts 30
    # With rows, batches do not come back compressed as they were sent, which it looks for.
    trial "real clients on Postgres" \
        python tests/postgres.py --layout batches python tests/clients/run.py --binary "$binary"
    trial "crashes on Postgres" python tests/postgres.py python tests/faults/crash.py --binary "$binary" --kills 200
    trial "groups with every client on Postgres" \
        python tests/postgres.py python tests/groups/run.py --binary "$binary" --kills 10
    trial "transactions on Postgres" \
        python tests/postgres.py python tests/transactions/run.py --binary "$binary" --kills 30 --seconds 240
    trial "three brokers that fail" python tests/faults/many.py --binary "$binary" --rounds 60
    trial "real clients on three brokers" \
        python tests/postgres.py --layout batches --brokers "3 apart" python tests/clients/run.py --binary "$binary"
    trial "groups with every client on three brokers" \
        python tests/postgres.py --brokers "3 apart" python tests/groups/run.py --binary "$binary" --kills 10
    trial "transactions on three brokers" \
        python tests/postgres.py --brokers "3 behind" python tests/transactions/run.py --binary "$binary" --kills 30 --seconds 240
    trial "groups while everything fails" python tests/faults/groups.py --binary "$binary" --kills 60
    trial "groups with every client" python tests/groups/run.py --binary "$binary" --kills 10
    trial "three groups in a chain" python tests/groups/chain.py --binary "$binary"
    trial "Kafka Streams, Connect and other programs" python tests/programs/run.py --binary "$binary" --long
    trial "transactions" python tests/transactions/run.py --binary "$binary" --kills 30 --seconds 240
    trial "fsync before each acknowledgement" python tests/faults/fsync.py --binary "$binary" --records 1000
    trial "an attack on memory" python tests/faults/attack.py --binary "$binary" --seconds 60
    trial "the same calls to Apache Kafka and to Yagura" \
        python tests/differential/run.py --kafka-libs "$tools/java/libs" --binary "$binary"
done
echo "soaked: $rounds rounds passed"
