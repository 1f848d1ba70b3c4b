# Each target is one obvious command. `make run` and `make test` set up what they need, or say what to install.

.PHONY: run test check bench static clean

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

# Figures, each beside the raw limit of the same run.
bench:
	@tests/setup.sh
	cargo build --release --locked
	target/test-tools/venv/bin/python benches/run.py

# One file that needs nothing else, not even a libc.
static:
	@tests/setup.sh build
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked --target x86_64-unknown-linux-gnu --bin yagura

clean:
	cargo clean
