# Two commands matter: `make run` (build, fetch the default model, serve the chat) and `make test` (everything that must hold).
# All of Rust is built with the one release profile, so that run, tests and lints share their compiled dependencies.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MODEL ?= smollm2:135m
ADDR ?= 127.0.0.1:8080
# More options of bench/compare.py, bench/server_compare.py, bench/training/compare.py or bench/embeddings/compare.py.
BENCH ?=
SOAK_MINUTES ?= 30
KILLS ?= 1000
# Of the processors that `make release` builds for: x86_64 or aarch64.
ARCHITECTURE ?= x86_64
ZHENJIN := target/release/zhenjin
# Where the fetched model lies: tests run on the real one.
TEST_MODEL = $(shell $(ZHENJIN) inspect $(MODEL) --json | sed -n 's/^  "path": "\(.*\)",$$/\1/p')

.PHONY: release test-aarch64 slurm link mpi-program help run test build web model setup setup-test format lint unit mpi doc-test deny clients browser fuzz sanitise soak bench bench-server bench-train bench-align bench-embeddings clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  \1\t/' | expand -t 16

run: build model ## build, fetch the default model, serve the chat at http://127.0.0.1:8080
	$(ZHENJIN) serve $(MODEL) --addr $(ADDR)

test: setup-test format web lint build model unit mpi doc-test deny clients browser ## everything that must hold
	@echo "make test: all checks passed"

setup: ## install what the build lacks (Rust is expected; Node and Python come from Debian where they are missing)
	scripts/setup build

setup-test:
	scripts/setup test

web: setup ## the chat page, which is embedded into the program
	scripts/build-web

build: web ## the program, target/release/zhenjin
	cargo build --release --locked --workspace --bins

model: build ## fetch the default model
	$(ZHENJIN) pull $(MODEL)

format:
	cargo fmt --all --check

lint:
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	cargo run --release --locked --quiet --package xtask -- tidy
	cd web && npm run --silent check

unit: model
	ZHENJIN_TEST_MODEL="$(TEST_MODEL)" cargo nextest run --release --locked --workspace --no-fail-fast
	cd web && npm run --silent test

# The whole workspace is named, so that dependencies have the features that they have already been compiled with.
mpi: setup-test ## training over several processes, started by mpirun
	cargo build --release --locked --workspace --features zhenjin-train/mpi --example ranks
	cargo nextest run --release --locked --workspace --features zhenjin-train/mpi --test mpi

doc-test:
	cargo test --release --locked --workspace --doc --quiet

deny:
	cargo deny --locked --log-level error check bans licenses sources

clients: model ## the real OpenAI client libraries against the real server
	ZHENJIN_BIN=$(CURDIR)/$(ZHENJIN) ZHENJIN_TEST_MODEL="$(TEST_MODEL)" tests/clients/run.sh

browser: model ## the chat page in a real browser against the real server
	cd web && ZHENJIN_BIN=$(CURDIR)/$(ZHENJIN) ZHENJIN_TEST_MODEL="$(TEST_MODEL)" npm run --silent e2e

fuzz: ## each fuzz target for 60 seconds (FUZZ_SECONDS=n for another time)
	scripts/fuzz

bench: model ## measure beside llama.cpp, ik_llama.cpp and OpenVINO GenAI on a quiet machine; writes docs/bench and README.md (BENCH="--rounds 3" adds options)
	ZHENJIN_BIN=$(CURDIR)/$(ZHENJIN) ZHENJIN_BENCH_MODEL="$(MODEL)" bench/run.sh $(BENCH)

bench-server: model ## measure the server beside llama-server under load; writes docs/bench and README.md
	ZHENJIN_BIN=$(CURDIR)/$(ZHENJIN) ZHENJIN_BENCH_MODEL="$(MODEL)" bench/server.sh $(BENCH)

bench-train: ## time training steps beside PyTorch, eager and compiled, on a quiet machine; writes docs/bench/training.md
	cargo build --release --locked --package zhenjin-train --example train_speed
	bench/train.sh $(BENCH)

bench-align: model ## time steps of SFT, DPO and GRPO beside TRL on a quiet machine; writes docs/bench/align.md
	ZHENJIN_BIN=$(CURDIR)/$(ZHENJIN) ZHENJIN_BENCH_MODEL="$(MODEL)" bench/align.sh $(BENCH)

bench-embeddings: ## time embeddings beside sentence-transformers, by PyTorch and by ONNX Runtime, on a quiet machine; writes docs/bench/embeddings.md
	cargo build --release --locked --package zhenjin-assistant --example embed_speed
	ZHENJIN_BIN=$(CURDIR)/$(ZHENJIN) bench/embeddings.sh $(BENCH)

release: ## the program for other machines, target/dist (ARCHITECTURE=aarch64 for ARM)
	scripts/release $(ARCHITECTURE)

test-aarch64: ## the tests of kernels, models and the engine as AArch64 programs, under QEMU
	scripts/test-aarch64

sanitise: ## the tensor crate's tests under Miri (scalar code) and AddressSanitizer (every level of instructions)
	scripts/sanitise

soak: model ## 1,000 requests together against each alone, SOAK_MINUTES (30) of random load, a training run killed KILLS (1,000) times: nothing may change, leak or grow
	cargo run --release --locked --package zhenjin-engine --example soak -- invariance --requests 1000 "$(TEST_MODEL)"
	cargo run --release --locked --package zhenjin-engine --example soak -- endurance --minutes $(SOAK_MINUTES) "$(TEST_MODEL)"
	ZHENJIN_KILLS=$(KILLS) cargo test --release --locked --package zhenjin-cli --test suite killed_at_random_instants

# Replaces the default program by one with the feature; the next `make build` brings it back.
mpi-program: setup-test
	cargo build --release --locked --workspace --features zhenjin-cli/mpi --bins

link: mpi-program ## two ranks over a shaped link (1 Gbit/s, 10 ms): seconds and bytes of a step beside the plan's; needs root
	ZHENJIN_BIN=$(CURDIR)/$(ZHENJIN) tests/link/run.sh

slurm: mpi-program ## a node of a real Slurm cluster (two nodes on this host) dies in the middle of training: same weights in the end; needs root
	scripts/setup slurm
	ZHENJIN_BIN=$(CURDIR)/$(ZHENJIN) tests/slurm/run.sh

clean:
	cargo clean
	rm -rf web/dist web/node_modules
