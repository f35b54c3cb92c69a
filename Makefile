# Everything a checkout needs. `make` alone lists the targets.

PYTHON ?= python3
PYTEST_ARGS ?=
WORKERS ?= 2
BENCH_ARGS ?=
BIN := .venv/bin
APT := DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120

.DEFAULT_GOAL := help
# The order of the prerequisites is meant: an engine before images, checks before tests.
.NOTPARALLEL:
.PHONY: help setup demo test test-unit bench bench-places lint docs engine engine-for-tests test-packages test-images browser clean

help:
	@echo 'make demo       set up this machine and run a notebook in a container'
	@echo 'make test       set up and run every check and test; PYTEST_ARGS="-k oom" selects'
	@echo 'make test-unit  only the tests that need no engine'
	@echo 'make bench      measure against local kernels'
	@echo 'make bench-places  the same in Podman, on another host, in a swarm'
	@echo 'make lint       ruff and mypy'
	@echo 'make docs       build the documentation into site/; a warning is an error'
	@echo 'make setup      the virtual environment .venv; PYTHON=python3.12 chooses another Python'
	@echo 'make clean      remove .venv and every cache'

setup: .venv/installed

# A stamp, so that a second run costs nothing; a newer pyproject.toml installs again.
.venv/installed: pyproject.toml
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    $(APT) update -q && $(APT) install -q -y --no-install-recommends python3 python3-venv; \
	  else \
	    echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu:" \
	      "apt-get install python3 python3-venv" >&2; exit 1; \
	  fi; }
	@test -x $(BIN)/pip || { rm -rf .venv && $(PYTHON) -m venv .venv; }
	@echo 'setup: installing into .venv'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[test]'
	@touch $@

engine: setup
	@scripts/engine

# JupyterLab's tests need a browser.
browser: setup
	@scripts/browser

# What else they need of the distribution.
test-packages:
	@scripts/test-packages

# The tests need Docker and Podman, whatever a notebook would be content with.
engine-for-tests: setup
	@scripts/engine docker
	@scripts/engine podman

test-images: setup engine-for-tests
	@$(BIN)/python scripts/test-images
	@$(BIN)/python scripts/podman-images

demo: setup engine
	@$(BIN)/python examples/quickstart/demo.py

lint: setup
	$(BIN)/ruff check . scripts/test-images scripts/podman-images
	$(BIN)/ruff format --check . scripts/test-images scripts/podman-images
	$(BIN)/mypy

docs: setup
	$(BIN)/mkdocs build --strict

# Real engines on a busy machine: what fails is run once more, and listed as rerun.
# pytest comes last: its closing line is the last line of the output.
test: setup lint test-packages test-images browser
	$(BIN)/pytest --run-docker --run-podman -n $(WORKERS) --dist loadfile --reruns 1 $(PYTEST_ARGS)

test-unit: setup
	$(BIN)/pytest $(PYTEST_ARGS)

# `gateway.py` is apart: it needs an image and packages that nothing else here needs.
bench: setup engine
	@$(BIN)/python benchmarks/bench.py $(BENCH_ARGS)
	@$(BIN)/python benchmarks/server.py
	@$(BIN)/python benchmarks/load.py
	@$(BIN)/python benchmarks/reattach.py

bench-places: setup engine-for-tests test-images
	@$(BIN)/python benchmarks/places.py $(BENCH_ARGS)

clean:
	rm -rf .venv build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
