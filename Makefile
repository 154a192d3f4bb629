# Bare `make` prints this help. Everything a target needs is installed into the checkout.
.DEFAULT_GOAL := help
SHELL := /bin/bash
TOOLS := .tools
export UV ?= $(shell command -v uv || echo $(TOOLS)/bin/uv)
export PATH := $(CURDIR)/$(TOOLS)/bin:$(PATH)

help: ## This help
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

env: ## uv, where the machine has none, the locked environment, native/ where there is cargo, and ./recount
	@command -v $(UV) >/dev/null || { python3 -m venv $(TOOLS) && $(TOOLS)/bin/pip install -q uv; }
	@{ command -v cargo >/dev/null && $(UV) sync -q --frozen --compile-bytecode --group native; } || \
	  { echo "native/ is not built (it takes Rust's cargo): plain events are folded by Python, slower"; \
	    $(UV) sync -q --frozen --compile-bytecode; }
	@$(UV) run --frozen python -m compileall -q definitions pipeline tests
	@printf '%s\n' '#!/bin/sh' 'exec "$$(dirname "$$0")/.venv/bin/recount" "$$@"' > recount && chmod +x recount

demo: env ## Real events through real Kafka and Redis, compared with a recount; SERVE=1 goes on with live events and the page
	@$(UV) run --frozen recount demo $(if $(SERVE),--serve)

test: env ## Every test of the default suite, and the checks
	@$(MAKE) --no-print-directory check && $(UV) run --frozen pytest -n 2 --dist worksteal

quick: env ## What most changes need, without Kafka and Redis, in under two minutes (fewer random examples)
	@RUNS=30 $(UV) run --frozen pytest -q -n 2 --dist worksteal --hypothesis-profile=quick tests/unit tests/property tests/conformance/test_tidy.py

faults: env ## Every fault of the catalogue, the long ones too; SEED=n repeats the draws of one run
	@SEED=$(SEED) $(UV) run --frozen pytest -m "fault or long" tests/fault

soak: env ## Faults under traffic, audited all the while: SHAPE=plain|secure|cluster|both, MINUTES=10, or RUNS=n EVENTS=200000; METRICS=200; SEED=n; ONLY=fault,fault
	@$(UV) run --frozen python -m tests.soak --shape $(or $(SHAPE),plain) --minutes $(or $(MINUTES),10) --runs $(or $(RUNS),0) --events $(or $(EVENTS),200000) --metrics $(or $(METRICS),200) --seed $(or $(SEED),0) --only "$(ONLY)"

RUST := cargo clippy --version >/dev/null 2>&1 && cargo fmt --version >/dev/null 2>&1

check: env ## Format, lint, types, contracts, spelling
	@if $(RUST); then cd native && cargo fmt --check && cargo clippy -q --release -- -D warnings; fi
	@$(UV) run --frozen ruff format --check -q . && $(UV) run --frozen ruff check -q .
	@$(UV) run --frozen mypy && $(UV) run --frozen lint-imports --no-cache --no-logo > /dev/null && $(UV) run --frozen codespell

fmt: env ## Format and repair what can be repaired
	@if $(RUST); then cd native && cargo fmt; fi
	@$(UV) run --frozen ruff format -q . && $(UV) run --frozen ruff check -q --fix .

bench: env ## Recount beside its floors and its peers, a quarter of an hour; SAVE=1 keeps the result
	@$(UV) run --frozen --group bench python -m benchmarks.bench $(if $(SAVE),--save)

bench-growth: env ## How the cost of an event grows, and latency at a steady rate; SAVE=1 keeps the curves
	@$(UV) run --frozen --group bench python -m benchmarks.growth $(if $(SAVE),--save)

bench-memory: env ## Bytes of Redis a cell and an identity; SAVE=1 keeps the result
	@$(UV) run --frozen --group bench python -m benchmarks.memory $(if $(SAVE),--save)

profile: env ## Where each microsecond of a worker goes
	@$(UV) run --frozen --group bench python -m benchmarks.profile

fuzz: env ## Coverage-guided fuzzing of definitions and events, SECONDS=60 (Linux, CPython 3.11 to 3.13)
	@$(UV) run --frozen --group fuzz python -m tests.fuzz -max_total_time=$(or $(SECONDS),60) -print_final_stats=1

.PHONY: help env demo test quick faults soak check fmt bench bench-growth bench-memory profile fuzz
