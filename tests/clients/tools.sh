# Runs Kafka's command-line tools and checks what they say; sourced by the scripts that try them. Wants $bootstrap, and the
# jars in $KAFKA_LIBS.

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Fifty short-lived programs: no time for the second compiler, and the first run leaves its classes to the others
# (which halves the time). 900 KB lines: a console consumer needs some memory.
java=(java -Xmx384m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -cp "$KAFKA_LIBS/*")
tool() { "${java[@]}" -XX:SharedArchiveFile="$work/classes.jsa" "$@"; }
keep_classes() { "${java[@]}" -XX:ArchiveClassesAtExit="$work/classes.jsa" "$@"; }
server() { local main=$1; shift; tool "$main" --bootstrap-server "$bootstrap" "$@"; }

fail() { echo "kafka tools: $*" >&2; exit 1; }

# What waits ends when there is what it waits for; this is for a machine that has no time for the test.
wait_seconds_max=180
# until_true COMMAND...: again and again until it succeeds
until_true() {
    local deadline=$((SECONDS + wait_seconds_max))
    until "$@" >"$work/out" 2>&1; do
        [ $SECONDS -lt $deadline ] || fail "not within $wait_seconds_max s: $*"$'\n'"$(tail -20 "$work/out")"
        sleep 0.1
    done
}

checks=0
# expect EXIT PATTERN COMMAND...: its exit code, and a line of its output that matches (- for no output at all)
expect() {
    local exit=$1 pattern=$2 got=0
    shift 2
    "$@" >"$work/out" 2>"$work/err" || got=$?
    grep -v SLF4J "$work/err" >>"$work/out" || true
    sed -i 's/[[:space:]]*$//' "$work/out" # some pad their tables
    [ "$got" = "$exit" ] || fail "exit $got, not $exit, of: $*"$'\n'"$(tail -20 "$work/out")"
    if [ "$pattern" = - ]; then
        [ ! -s "$work/out" ] || fail "no output expected of: $*"$'\n'"$(tail -20 "$work/out")"
    else
        grep -qE -e "$pattern" "$work/out" || fail "no '$pattern' in: $*"$'\n'"$(tail -20 "$work/out")"
    fi
    checks=$((checks + 1))
}

keep_classes org.apache.kafka.tools.TopicCommand --bootstrap-server "$bootstrap" --list >"$work/out" 2>&1
