#!/usr/bin/env bash
# The static release binary runs in a chroot that holds nothing else, and resolves a host name there.
set -euo pipefail
cd "$(dirname "$0")/.."
. tests/broker.sh
make -s static
binary=target/x86_64-unknown-linux-gnu/release/yagura
if ldd "$binary" 2>&1 | grep -q '=>'; then
    echo "$binary needs shared libraries:" && ldd "$binary" && exit 1
fi
echo "$(stat -c %s "$binary") bytes"
if [ "$(id -u)" != 0 ]; then
    echo "not root: the chroot is left out" && exit 0
fi

jail=$(mktemp -d)
broker=
trap '[ -z "$broker" ] || kill "$broker" 2>/dev/null || true; rm -rf "$jail"' EXIT
cp "$binary" "$jail/yagura"
mkdir "$jail/etc" "$jail/data"
# The one file that a name needs when there is no name server.
echo "127.0.0.1 broker.test" >"$jail/etc/hosts"
reserve_port
chroot "$jail" /yagura broker --storage sqlite:///data/y.db --listen "127.0.0.1:$port" \
    --advertise "broker.test:$port" --admin off 2>"$jail/log" &
broker=$!
wait_until_it_listens "$port" "$jail/log"
fail() { echo "$1"; cat "$jail/log"; exit 1; }
jailed() { chroot "$jail" /yagura "$@" --bootstrap "broker.test:$port" --timeout 120s; }
jailed topic create jailed >"$jail/said" 2>&1 || fail "topic create: $(cat "$jail/said")"
echo hello | jailed produce jailed >"$jail/said" 2>&1 || fail "produce: $(cat "$jail/said")"
said=$(jailed consume jailed) || fail "consume ended with $?"
[ "$said" = hello ] || fail "consumed '$said'"
kill "$broker"
wait "$broker"
broker=
echo "ok: runs in an empty chroot and resolves a host name"
