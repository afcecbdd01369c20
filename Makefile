# Doorward's runner: `make run` serves the demo, `make test` runs every test. Both do all set-up themselves.

SHELL := /bin/bash
export CARGO_TARGET_DIR ?= $(HOME)/.cache/doorward-target
export CARGO_INCREMENTAL ?= 0
CARGO := $(shell command -v cargo 2>/dev/null || echo $(HOME)/.cargo/bin/cargo)
NEED := bash .ci/need

.PHONY: run test quick lint bench soak fuzz release hooks clean

run: ## serve the demo on http://127.0.0.1:8080 (the first build takes minutes: OpenSSL and zlib-ng are built too)
	$(NEED) build
	$(CARGO) run --locked -- demo

test: ## every test at CI size
	$(NEED) build test
	$(CARGO) fmt --check
	INSTA_UPDATE=no $(CARGO) test --locked

soak: ## the same tests at full size, then what only belongs here
	$(NEED) build test
	INSTA_UPDATE=no DOORWARD_TEST_SIZE=full $(CARGO) test --locked -- --test-threads=1
	$(CARGO) bench --locked --bench router

quick: ## what a commit has to pass, in seconds
	$(CARGO) fmt --check
	$(CARGO) test --locked --test tidy

lint: ## clippy with the house lints, and the docs
	$(NEED) build
	$(CARGO) clippy --locked --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items

bench: ## what routing costs
	$(NEED) build
	$(CARGO) bench --locked --bench router

fuzz: ## the config loader and the canonical path, ten minutes each
	$(NEED) build fuzz
	bash .ci/fuzz

release: ## the optimised binary
	$(NEED) build
	$(CARGO) build --locked --release

hooks: ## run `make quick` before each commit
	git config core.hooksPath .githooks

clean:
	$(CARGO) clean
