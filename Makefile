# Doorward's runner: `make run` serves the demo, `make test` runs every test. Both do all set-up themselves.

SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(HOME)/.cache/doorward-target
export CARGO_INCREMENTAL ?= 0
CARGO := $(shell command -v cargo 2>/dev/null || echo $(HOME)/.cargo/bin/cargo)
NEED := bash .ci/need

.PHONY: run test quick lint bench costs soak fresh fuzz release hooks clean

run: ## serve the demo on http://127.0.0.1:8080 (the first build takes minutes: OpenSSL and zlib-ng are built too)
	$(NEED) build
	$(CARGO) run --locked -- demo

test: ## every test at CI size
	$(NEED) build test
	$(CARGO) fmt --check
	INSTA_UPDATE=no $(CARGO) test --locked

soak: ## the same tests at full size, then what only belongs here
	$(NEED) build test fuzz
	INSTA_UPDATE=no DOORWARD_TEST_SIZE=full $(CARGO) test --locked -- --test-threads=1
	$(CARGO) bench --locked --bench router --bench balance
	bash tests/fuzz.sh 600
	$(MAKE) costs
	bash tests/scan.sh $(CARGO_TARGET_DIR)/debug/doorward
	bash tests/fresh.sh --test

fresh: ## `make run` and `make test` on a Debian 12 made for it, which has nothing but the Rust toolchain (as root)
	bash tests/fresh.sh --test

quick: ## what a commit has to pass, in seconds
	$(CARGO) fmt --check
	$(CARGO) test --locked --test tidy

lint: ## clippy with the house lints, and the docs
	$(NEED) build
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

bench: ## Doorward beside its peers: table, JSON and charts in bench of the target directory; then routing, the access log and the choice of targets alone
	$(NEED) build bench
	python3 -B bench/run.py
	$(CARGO) bench --locked --bench router --bench access_log --bench balance

costs: ## instructions of a request, with and without each clause, held to bench/instructions.json
	$(NEED) build bench
	$(CARGO) build --locked --release
	python3 -B bench/instructions.py

fuzz: ## what reads foreign bytes (heads, bodies, paths, addresses, units, configs): fuzz targets for FUZZ_SECONDS each, a million drawn inputs
	$(NEED) build fuzz
	bash tests/fuzz.sh $${FUZZ_SECONDS:-60}
	PROPTEST_CASES=$${PROPTEST_CASES:-1000000} $(CARGO) test --locked --lib -- base:: exchange:: server:: expr::

release: ## the optimised binary
	$(NEED) build
	$(CARGO) build --locked --release

hooks: ## run `make quick` before each commit
	git config core.hooksPath .githooks

clean:
	$(CARGO) clean
