# Two commands do everything: `make demo` and `make test`. Run as root on Debian 12 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test check bench bench-peers bench-costs bench-handover bench-home-agent bench-idle bench-path-swap fuzz conformance setup clean

demo: setup
	$(BIN)/mnctl lab run tour

test: check
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: setup bench-peers
	$(BIN)/python -m benchmarks data-plane

bench-costs: setup
	$(BIN)/python -m benchmarks costs

bench-handover: setup bench-peers
	$(BIN)/python -m benchmarks handover

bench-home-agent: setup
	$(BIN)/python -m benchmarks home-agent

bench-idle: setup bench-peers
	$(BIN)/python -m benchmarks idle

bench-path-swap: setup
	$(BIN)/python -m benchmarks path-swap

bench-peers:
	sh packaging/install-benchmark-peers

fuzz: setup
	$(BIN)/python -m tests.fuzz --count 2000000

setup: $(READY)

$(READY): pyproject.toml packaging/debian-packages
	sh packaging/install-debian-packages
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

conformance: setup
	$(BIN)/python -m pytest
	$(BIN)/python -m tests.conformance
