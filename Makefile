# Two commands do everything: `make demo` and `make test`. Run as root on Debian 12 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# What is measured runs on the distribution's Python, as it does for who installs this there: a build of one's own
# is often without the optimisations of the packaged one, and a third slower.
MEASURED := build/measured
MEASURE := $(MEASURED)/bin/python -m benchmarks
MEASURED_READY := $(MEASURED)/.ready
PACKAGED_PYTHON ?= $(firstword $(wildcard /usr/bin/python3) $(PYTHON))

.PHONY: demo test tests check fuzz conformance setup clean
.PHONY: bench bench-costs bench-handover bench-home-agent bench-idle bench-path-swap bench-peers

demo: setup
	$(BIN)/mnctl lab run tour

test: check tests

# What keeps no time is shared among the processors; what does then has the machine for itself.
tests: setup
	$(BIN)/python -m pytest -n auto -m "not lab or unhurried"
	$(BIN)/python -m pytest --add-evidence -m "lab and not unhurried"

check: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

# What speed costs, in docs/performance.md; `make bench FLAGS=--quick` for a look. None of them is part of `test`.
bench: $(MEASURED_READY) bench-peers
	$(MEASURE) data-plane $(FLAGS)

bench-costs: $(MEASURED_READY)
	$(MEASURE) costs $(FLAGS)

bench-handover: $(MEASURED_READY) bench-peers
	$(MEASURE) handover $(FLAGS)

bench-home-agent: $(MEASURED_READY)
	$(MEASURE) home-agent $(FLAGS)

bench-idle: $(MEASURED_READY) bench-peers
	$(MEASURE) idle $(FLAGS)

bench-path-swap: $(MEASURED_READY)
	$(MEASURE) path-swap $(FLAGS)

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

$(MEASURED_READY): pyproject.toml packaging/debian-packages
	sh packaging/install-debian-packages
	$(PACKAGED_PYTHON) -m venv $(MEASURED)
	$(MEASURED)/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	touch $(MEASURED_READY)

clean:
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info

conformance: tests
	$(BIN)/python -m tests.conformance
