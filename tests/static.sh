#!/usr/bin/env bash
# The static release binary runs in a chroot that holds nothing else, and resolves a host name there.
set -euo pipefail
cd "$(dirname "$0")/.."
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
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
chroot "$jail" /yagura broker --storage sqlite:///data/y.db --listen "127.0.0.1:$port" \
    --advertise "broker.test:$port" --admin off 2>"$jail/log" &
broker=$!
for _ in $(seq 100); do
    (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null && break
    sleep 0.1
done
chroot "$jail" /yagura topic create jailed --bootstrap "broker.test:$port"
echo hello | chroot "$jail" /yagura produce jailed --bootstrap "broker.test:$port"
said=$(chroot "$jail" /yagura consume jailed --bootstrap "broker.test:$port")
[ "$said" = hello ] || { echo "consumed '$said'"; cat "$jail/log"; exit 1; }
kill "$broker"
wait "$broker"
broker=
echo "ok: runs in an empty chroot and resolves a host name"
