# The manual: `make help` lists what can be done. Everything is installed into .venv.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
BIN := .venv/bin
RUST := $(wildcard rust/*.rs rust/*/*.rs) Cargo.toml Cargo.lock pyproject.toml
UV := $(BIN)/uv pip install --quiet --python $(BIN)/python

.PHONY: help quickstart install test check bench assets wheel clean tools

help: ## List the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

quickstart: .venv/core ## Find the best Transformer for WMT'14 En-De on a Titan Xp under 150 ms
	$(BIN)/llmpp search --task wmt14.en-de --hardware titan-xp --latency-ms 150

install: .venv/all ## Install everything into .venv, extras included

test: .venv/test ## Run all tests, Rust and Python
	cargo test --quiet
	$(BIN)/python -m pytest

check: .venv/all ## The gate: formats, lints, types, stubs, and the tests last
	cargo fmt --check
	cargo clippy --quiet --all-targets --features python -- --deny warnings
	$(BIN)/ruff format --check --quiet
	$(BIN)/ruff check --quiet
	$(BIN)/mypy
	$(BIN)/python -m mypy.stubtest llmpp._core
	$(MAKE) --no-print-directory test

bench: .venv/all ## Measure speed, as ratios taken in one run
	cargo bench --quiet
	$(BIN)/python -m pytest benches -s --benchmark-disable-gc

assets: .venv/test ## Rebuild what ships inside the package: make assets DATA=DIR
	@test -d "$(DATA)" || { echo "usage: make assets DATA=DIR, the folder with tfs, llm_answers and hat_latency"; exit 2; }
	$(BIN)/python -m llmpp.assets.rebuild "$(DATA)"
	$(BIN)/llmpp study task studies/multi30k.toml python/llmpp/assets/tasks/multi30k.en-de.json -o studies/multi30k

wheel: .venv/test ## Build a wheel into dist
	$(BIN)/maturin build --release --quiet --out dist
	@ls -1 dist

clean: ## Remove what was built and installed
	rm -rf .venv target dist

tools:
	@command -v cargo >/dev/null || { echo "llmpp needs Rust: install it with rustup, then run make again"; exit 1; }
	@command -v cc >/dev/null || { echo "llmpp needs a C compiler: install gcc or clang, then run make again"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null \
		|| { echo "llmpp needs Python 3.10 or newer: install it, then run make PYTHON=path/to/python"; exit 1; }

.venv/uv: | tools
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@touch $@

.venv/core: .venv/uv $(RUST)
	$(UV) --editable .
	@touch $@

.venv/test: .venv/uv $(RUST)
	$(UV) --editable '.[train,plot,dev]'
	@touch $@ .venv/core

.venv/all: .venv/uv $(RUST)
	$(UV) --editable '.[train,plot,onnx,ray,dev]'
	@touch $@ .venv/test .venv/core
