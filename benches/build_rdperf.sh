#!/usr/bin/env bash
# Builds librdkafka's own performance tool from the sources that Debian's librdkafka-dev ships: benches/build_rdperf.sh OUT
set -euo pipefail
source=/usr/share/doc/librdkafka-dev/examples/rdkafka_performance.c
[ -e "$source" ] || source=$source.gz
here=$(cd "$(dirname "$0")" && pwd)
{
    echo "#include \"$here/rdkafka_shim.h\""
    if [[ $source == *.gz ]]; then zcat "$source"; else cat "$source"; fi |
        sed -e '/#include "\(..\/src\/rd\|rdkafka\|rd\|rdtime\)\.h"/d'
} | gcc -O2 -w -x c - -o "$1" -lrdkafka
