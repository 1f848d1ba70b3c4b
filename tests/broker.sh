# Sourced by the tests that start a broker from a shell.

broker_seconds_max=120 # a busy machine may need much of it, and others nothing

# Sets $port to one that is this shell's alone until it ends: a socket that is bound to it and does not listen keeps it.
# The kernel gives it to nobody else meanwhile, and a broker may bind it, since both set SO_REUSEADDR.
reserve_port() {
    coproc reserved {
        exec python3 -c '
import socket, sys
one = socket.socket()
one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
one.bind(("127.0.0.1", 0))
print(one.getsockname()[1], flush=True)
sys.stdin.read()'
    }
    read -r port <&"${reserved[0]}"
}

# wait_until_it_listens PORT LOG -- on 127.0.0.1; $broker is its process
wait_until_it_listens() {
    local deadline=$((SECONDS + broker_seconds_max))
    until (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do
        if ! kill -0 "$broker" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
            echo "the broker does not listen on port $1:" >&2
            cat "$2" >&2
            return 1
        fi
        sleep 0.1
    done
}
