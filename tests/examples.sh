#!/usr/bin/env bash
# Runs the programs of examples/ against a fresh broker, with the clients that tests/setup.sh has installed:
#
#     tests/examples.sh [BINARY]      target/release/yagura if not given
#
# Each must end by itself and have printed exactly the records that it produced. The broker must then have these records,
# and as many committed by the group.
set -euo pipefail
binary=$(realpath "${1:-$(dirname "$0")/../target/release/yagura}")
cd "$(dirname "$0")/.."
root=$PWD
tools=$root/target/test-tools
built=$root/target/examples
languages=(java python node go rust)
seconds_max=300 # for one example; each takes 3 to 6, of which 3 are the new group's wait for more members
. tests/broker.sh

for needed in "$tools/java/libs" "$tools/venv" "$tools/node/node_modules"; do
    [ -e "$needed" ] || { echo "tests/examples.sh: run tests/setup.sh first: there is no $needed" >&2; exit 1; }
done
for program in go cargo pkg-config; do
    command -v "$program" >/dev/null || { echo "tests/examples.sh: missing here: $program" >&2; exit 1; }
done

mkdir -p "$built"
# Lock files are kept as they are: a build that wants to change one fails.
(cd examples/go && nice go build -mod=readonly -buildvcs=false -o "$built/go/example" .)
(cd examples/rust && CARGO_TARGET_DIR="$built/rust" nice cargo build --quiet --locked)

run_java() { java -cp "$tools/java/libs/*" examples/java/Example.java; }
run_python() { "$tools/venv/bin/python" examples/python/example.py; }
run_node() { NODE_PATH="$tools/node/node_modules" node examples/node/example.js; }
run_go() { "$built/go/example"; }
run_rust() { "$built/rust/debug/example"; }

broker=
trap '[ -z "$broker" ] || kill "$broker" 2>/dev/null || true' EXIT
reserve_port
export BOOTSTRAP=127.0.0.1:$port YAGURA_BOOTSTRAP=127.0.0.1:$port
"$binary" broker --storage memory:// --admin off --listen "$BOOTSTRAP" 2>"$built/broker.log" &
broker=$!
wait_until_it_listens "$port" "$built/broker.log"

fail() {
    echo "examples/$1: $2" >&2
    tail -n 60 "$built/$1.log" "$built/broker.log" >&2
    exit 1
}

# same LANGUAGE WHAT SAID
same() {
    local expected
    expected=$(printf "%s from $1\n" "alice: hello" "bob: hello" "alice: goodbye")
    [ "$3" = "$expected" ] || fail "$1" "$2:"$'\n'"$3"
}

check() {
    local language=$1 code=0 said group
    # timeout knows programs, not functions.
    said=$(timeout "$seconds_max" bash -euc "$(declare -p tools built); $(declare -f "run_$language"); run_$language" \
        2>"$built/$language.log") || code=$?
    [ "$code" != 124 ] || fail "$language" "did not end in $seconds_max s"
    [ "$code" = 0 ] || fail "$language" "ended with $code"
    same "$language" "printed" "$said"
    same "$language" "the broker has" "$("$binary" consume "greetings-$language" --key-separator ': ')"
    group=$("$binary" group describe "readers-$language" --format json)
    [[ $group == *'"committed": 3,'* && $group == *'"members": []'* ]] || fail "$language" "the group is $group"
    echo "ok: examples/$language"
}

for language in "${languages[@]}"; do
    check "$language"
done

# After the Python example, whose records it copies; a second run finds nothing left.
for _ in once twice; do
    timeout "$seconds_max" "$tools/venv/bin/python" examples/python/exactly_once.py 2>&1
done >"$built/exactly_once.log" || fail exactly_once "ended with $?"
expected=$(printf '%s FROM PYTHON\n' "alice: HELLO" "bob: HELLO" "alice: GOODBYE")
[ "$(cat "$built/exactly_once.log")" = "$expected" ] || fail exactly_once "printed something else"
copied=$("$binary" consume shouts-python --key-separator ': ' --isolation read_committed)
[ "$copied" = "$expected" ] || fail exactly_once "the broker has: $copied"
echo "ok: examples/python/exactly_once.py"
kill "$broker"
wait "$broker"
broker=
