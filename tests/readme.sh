#!/usr/bin/env bash
# Runs the README's commands as a newcomer would: every line of its `sh` blocks that are marked with <!-- run -->, in a
# fresh folder, with what `make install` puts on the PATH and a broker on the default port. All of it is in a network of
# its own, so that a broker that somebody runs on this machine is left alone.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
. tests/broker.sh

if [ "${1:-}" != inside ]; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    make -s -C "$root" install DESTDIR="$folder/root" PREFIX=/usr
    # Root needs no user namespace, and others may not have a network without one.
    [ "$(id -u)" = 0 ] && own=(unshare --net) || own=(unshare --net --map-root-user)
    "${own[@]}" tests/readme.sh inside "$folder"
    exit
fi

folder=$2
broker=
trap '[ -z "$broker" ] || kill "$broker" 2>/dev/null || true' EXIT
ip link set lo up
export PATH="$folder/root/usr/bin:$PATH"
mkdir "$folder/work"
cd "$folder/work"
yagura 2>log &
broker=$!
wait_until_it_listens 9092 log
awk '/<!-- run -->/ {wanted = 1} /^```sh/ && wanted {inside = 1; next} /^```/ {if (inside) wanted = 0; inside = 0} inside' \
    "$root/README.md" >commands.sh
[ -s commands.sh ] || { echo "README.md has no commands to run"; exit 1; }
bash -euxo pipefail commands.sh >said 2>&1 || { tail -n 60 said log; exit 1; }
kill "$broker"
wait "$broker"
broker=
echo "ok: the README's commands work"
