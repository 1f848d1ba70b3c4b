# Each target is one obvious command. `make run` and `make test` set up what they need, or say what to install.

.PHONY: run test check differential bench static clean

# The main job: a broker on 127.0.0.1:9092 that keeps its data in ./yagura.db.
run:
	@tests/setup.sh build
	cargo run --release --locked -- broker

# All that CI runs.
test:
	tests/all.sh

# The quick half of it: no clients, no servers.
check:
	@tests/setup.sh build
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	cargo test --workspace --locked

# The same calls to Apache Kafka and to Yagura, which is the longest part of `make test`, alone.
differential:
	@tests/setup.sh
	cargo build --release --locked
	target/test-tools/venv/bin/python tests/differential/run.py --kafka-libs target/test-tools/java/libs --binary target/release/yagura

# Figures, each beside the raw limit of the same run.
bench:
	@tests/setup.sh
	cargo build --release --locked
	target/test-tools/venv/bin/python benches/run.py

# One file that needs nothing else, not even a libc. Random numbers come from the system call: the usual way looks the
# function up in a shared libc, and then falls back to /dev/urandom, which a bare chroot does not have.
static:
	@tests/setup.sh build
	RUSTFLAGS='-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"' cargo build --release --locked --target x86_64-unknown-linux-gnu --bin yagura

clean:
	cargo clean
