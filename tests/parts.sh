# Sourced by what runs the parts of `make test`: runs them, says how long each took, and what failed. Set $logs before,
# to a folder for what they print.

took=()  # "SECONDS NAME" of each part
running= # the name of the one that runs

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

# lane NAME COMMAND... -- runs it beside others, as soon as a lane is free; what it says is shown when it has ended.
lanes_max=${LANES:-2}
declare -A lane_name=() lane_started=() # by process
failed=()

lane() {
    while [ ${#lane_name[@]} -ge "$lanes_max" ]; do end_of_one; done
    [ ${#failed[@]} -eq 0 ] || exit 1
    local name=$1
    shift
    # Each has a process group of its own, so that a key press ends whatever it has started.
    set -m
    "$@" >"$logs/lane $name.log" 2>&1 &
    set +m
    lane_name[$!]=$name lane_started[$!]=$SECONDS
}

end_of_one() {
    local process code=0 name seconds
    wait -n -p process "${!lane_name[@]}" || code=$?
    name=${lane_name[$process]} seconds=$((SECONDS - lane_started[$process]))
    unset "lane_name[$process]" "lane_started[$process]"
    echo "== $name"
    cat "$logs/lane $name.log"
    if [ "$code" = 0 ]; then
        took+=("$seconds $name")
        echo "== done in $seconds s"
    else
        took+=("$seconds $name: FAILED")
        failed+=("$name")
        echo "== FAILED in $seconds s: $name ended with $code"
    fi
}

all_lanes() {
    while [ ${#lane_name[@]} -gt 0 ]; do end_of_one; done
    [ ${#failed[@]} -eq 0 ] || exit 1
}

interrupted() {
    local process
    for process in "${!lane_name[@]}"; do kill -INT -- "-$process" 2>/dev/null || true; done
    exit 130
}
trap interrupted INT TERM

table() {
    while [ ${#lane_name[@]} -gt 0 ]; do end_of_one; done
    [ -z "$running" ] || took+=("$((SECONDS - started)) $running: FAILED")
    [ ${#took[@]} -gt 0 ] || return 0
    echo "== seconds by part"
    printf '%s\n' "${took[@]}" | sort -k 1,1nr | while read -r seconds name; do printf '%6s  %s\n' "$seconds" "$name"; done
    echo "== $SECONDS s in all"
    [ ${#failed[@]} -eq 0 ] || printf '== failed: %s\n' "${failed[@]}"
}
trap table EXIT
