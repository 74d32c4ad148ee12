# Everything is kept inside the project: .venv (Python packages of the lock) and .cache (the livekit-server).
# PYTHON=... picks the interpreter, LOCK=... the set of packages, LIVEKIT_SERVER=... a server of your own.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?=
LOCK ?= requirements.lock
ARGS ?=
LIVEKIT_VERSION := 1.13.5
LIVEKIT_SERVER ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed-$(notdir $(LOCK))
SERVER := .cache/bin/livekit-server
SERVER_READY := .cache/.livekit-server-$(LIVEKIT_VERSION)
PAGE_READY := web/node_modules/.installed
ifneq ($(shell test -x $(SERVER) && echo there),there) # nothing there, or a link to a server that is gone
.PHONY: $(SERVER_READY)
endif

.PHONY: help install server page demo test check lint types unit e2e bench soak lock pictures docs clean

help:  ## Say what can be done
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

install: $(INSTALLED)  ## Put the locked packages and the project into .venv

server: $(SERVER_READY)  ## Put a livekit-server into .cache/bin

page: $(PAGE_READY)  ## Put LiveKit's client for the page into web/node_modules (needs npm)
	@test -e $(PAGE_READY)

demo: $(INSTALLED) $(PAGE_READY)  ## Talk to the offline model by a page or in a room: make demo ARGS="--say a.wav --save b.wav"
	@$(MAKE) --silent --no-print-directory server || echo "going on without a livekit-server" >&2
	@$(BIN)/roombridge demo $(ARGS)

# One pytest run, last, so that the closing line counts every test.
test: lint types $(SERVER_READY) $(PAGE_READY)  ## Install, lint, check types, run every test
	@tools/get_test_programs
	@$(BIN)/python -m pytest -q

check: lint types  ## Everything that needs no livekit-server
	@$(BIN)/python -m pytest -q -m "not e2e"

lint: $(INSTALLED)  ## ruff: rules and format
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --quiet --check . || { echo "mend: $(BIN)/ruff format ." >&2; exit 1; }

types: $(INSTALLED)  ## mypy --strict
	@$(BIN)/mypy --no-error-summary

unit: $(INSTALLED)  ## Only the unit tests
	@$(BIN)/python -m pytest -q tests/unit

e2e: $(INSTALLED) $(SERVER_READY) $(PAGE_READY)  ## Only the tests that need a livekit-server
	@$(BIN)/python -m pytest -q -m e2e

bench: $(INSTALLED) $(SERVER_READY)  ## Measure latency, barge-in, CPU, memory, start: make bench ARGS="latency --rounds 1"
	@$(BIN)/python -m bench $(ARGS)

soak: $(INSTALLED) $(SERVER_READY)  ## A simulated day, then half an hour of calls with faults
	@SOAK_HOURS=$${SOAK_HOURS:-24} $(BIN)/python -m pytest -q -s --show-capture=no tests/conformance/test_a_day.py
	@$(BIN)/python -m bench.soak $(ARGS)

# uv lives in a folder of its own: a tool for maintainers, not part of the lock that it writes.
lock: $(INSTALLED)  ## Write both lock files anew from pyproject.toml
	@test -x .cache/uv/bin/uv || { $(BIN)/python -m venv .cache/uv && .cache/uv/bin/python -m pip install --quiet uv; }
	@.cache/uv/bin/uv pip compile --quiet --upgrade --universal --generate-hashes --no-annotate --no-header \
	  --python-version 3.11 --all-extras --group build pyproject.toml --output-file requirements.lock
	@grep -v '^    --hash' requirements.lock | sed 's/ *\\$$//' > .cache/versions.txt
	@.cache/uv/bin/uv pip compile --quiet --universal --generate-hashes --no-annotate --no-header --python-version 3.11 \
	  --constraint .cache/versions.txt --extra fast --extra vertex --extra video --extra webrtc --group build pyproject.toml \
	  --output-file requirements-image.lock

pictures: $(INSTALLED) $(PAGE_READY)  ## Make the pictures of docs/page.md anew (needs Chromium)
	@$(BIN)/python -m tools.page_pictures

docs: $(INSTALLED)  ## Write the key tables and the example file anew from the settings
	@$(BIN)/python -m tools.config_reference

clean:  ## Remove what make has put into the project
	rm -rf $(VENV) .cache web/node_modules .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

# ---------------------------------------------------------------------------------------------------------- files

$(INSTALLED): $(LOCK) pyproject.toml Makefile
	@tools/make_venv $(VENV) $(LOCK) $(PYTHON)
	@touch $@

$(SERVER_READY):
	@tools/get_livekit_server $(LIVEKIT_VERSION) $(SERVER) $(LIVEKIT_SERVER)
	@touch $@

# Without npm nothing is made, and whatever wants the page goes on without LiveKit's client.
$(PAGE_READY): web/package.json web/package-lock.json
	@tools/get_page_packages web $@
