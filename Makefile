# Each target is one obvious command. `make run` and `make test` set up what they need, or say what to install.

.PHONY: run quick build install test soak check differential fuzz bench bench-postgres static clean

# The main job: a broker on 127.0.0.1:9092 that keeps its data in ./yagura.db.
run:
	@tests/setup.sh build
	@[ -e target/release/yagura ] || echo "make run: the first build takes about 4 minutes on 2 idle cores, and longer on busy ones; then the broker starts. For a first look, 'make quick' starts sooner."
	cargo run --release --locked -- broker

# The same for a first look: built sooner, and slower.
quick:
	@tests/setup.sh build
	@[ -e target/quick/yagura ] || echo "make quick: the first build takes some minutes; then the broker starts. It is slower than the one of 'make run'."
	cargo run --profile quick --locked -- broker

build:
	@tests/setup.sh build
	cargo build --release --locked

# Under sudo there is often no cargo: then what `make build` has made is installed.
PREFIX ?= /usr/local
install:
	@if command -v cargo >/dev/null; then $(MAKE) build; \
	elif [ ! -e target/release/yagura ]; then echo "make install: run 'make build' first" >&2; exit 1; fi
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 755 target/release/yagura "$(DESTDIR)$(PREFIX)/bin/yagura"

# All that CI runs.
test:
	tests/all.sh

# The long forms of what depends on chance.
soak:
	tests/soak.sh

# The quick half of `make test`: no clients, no servers.
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

# Mutated inputs for everything that reads what clients, disks and operators supply, guided by the branches that they take;
# a stable compiler counts these. TARGETS=batch for those with "batch" in their names; tests/fuzz/lib.rs has the settings.
FUZZ_FLAGS = -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=3 -C llvm-args=-sanitizer-coverage-inline-8bit-counters
fuzz:
	@tests/setup.sh build
	if [ -z "$$FUZZ_SECONDS$$FUZZ_INPUTS" ]; then export FUZZ_SECONDS=300; fi; \
	RUSTFLAGS='$(FUZZ_FLAGS)' cargo test -p yagura-fuzz --test campaign --profile fuzz --locked \
		--target "$$(rustc -vV | sed -n 's/^host: //p')" --target-dir target/fuzz/build -- $(TARGETS)

# Figures, each beside the raw limit of the same run.
bench:
	@tests/setup.sh
	cargo build --release --locked
	target/test-tools/venv/bin/python benches/run.py

# The same of a store in Postgres, in a private cluster.
bench-postgres:
	@tests/setup.sh
	cargo build --release --locked
	mkdir -p target/test-tools/bench
	[ -e target/test-tools/bench/rdperf ] || benches/build_rdperf.sh target/test-tools/bench/rdperf
	target/test-tools/venv/bin/python benches/postgres.py

# One file that needs nothing else, not even a libc. Random numbers come from the system call: the usual way looks the
# function up in a shared libc, and then falls back to /dev/urandom, which a bare chroot does not have.
static:
	@tests/setup.sh build
	RUSTFLAGS='-C target-feature=+crt-static --cfg getrandom_backend="linux_getrandom"' cargo build --release --locked --target x86_64-unknown-linux-gnu --bin yagura

clean:
	cargo clean
