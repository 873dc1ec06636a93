# Everything runs from this folder. The first target that needs it builds $(VENV) from requirements.lock:
# any Python from 3.11 on will do, for example `make run PYTHON=python3.12`.

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# One more worker than there are processors: a good part of the tests' time is waiting for other processes.
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help run test check bench proof pictures evidence install format lock

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile | expand -t 10

# Ctrl-C belongs to the program alone: with `set -m` the shell gives it the terminal in a process group of its own,
# so that make is not interrupted too and returns the program's own exit code. Only in the foreground of a terminal;
# with nobody to resume a stopped program, Ctrl-Z is ignored.
run: $(INSTALLED)  ## start everything, no keys needed; make run ARGS="--speed 100" passes arguments on
	@case "$$(ps -o stat= -p $$$$ 2>/dev/null)" in \
	    *+*) trap '' TSTP; set -m; $(BIN)/python main.py run $(ARGS); exit $$?;; \
	    *) exec $(BIN)/python main.py run $(ARGS);; \
	esac

test: $(INSTALLED)  ## the whole test suite; make test ARGS="-k strategy" passes arguments to pytest
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

check: $(INSTALLED)  ## lint, types, import contracts
	@$(BIN)/python -m ruff check .
	@$(BIN)/python -m mypy
	@$(BIN)/lint-imports --no-logo

bench: $(INSTALLED)  ## the benchmarks, as a table; make bench ARGS="replay" runs those whose name holds the word
	@$(BIN)/python -m tests.benchmarks $(ARGS)

# What CI runs a short slice of, whole: ten months of candles over the wire, twenty kills of each kind, a minute's
# outages, whatever a model can do to a council. CONCLAVE_TEST_DATA names the folder with recorded candles. Results:
# docs/proofs.md
proof: $(INSTALLED)  ## the slow proofs (an hour); make proof ARGS="-k outage" runs some of them
	@CONCLAVE_FULL_WIRE=1 CONCLAVE_FULL_COUNCIL=1 $(BIN)/python -m pytest -rP --timeout 3600 \
	    tests/faults tests/journeys/test_council.py tests/journeys/test_council_cli.py $(ARGS)

pictures: $(INSTALLED)  ## play a newcomer in a browser and take the README's pictures (needs chromium)
	@CONCLAVE_PICTURES=1 $(BIN)/python -m pytest --timeout 300 tests/journeys/test_newcomer.py $(ARGS)

# Recorded candles are needed: CONCLAVE_TEST_DATA names their folder.
evidence: $(INSTALLED)  ## what the defaults earned on recorded prices, into README.md and docs/evidence.md
	@$(BIN)/python -m tests.evidence

install: $(INSTALLED)  ## build the virtual environment from the lock

format: $(INSTALLED)  ## sort imports, mend what can be mended
	@$(BIN)/python -m ruff check --fix .

# The same versions for every Python, with hashes, and no address of any package index (needs uv).
lock:  ## resolve pyproject.toml into requirements.lock anew
	uv pip compile --universal --python-version 3.11 --fork-strategy fewest --generate-hashes \
	    --custom-compile-command "make lock" --extra cluster --extra dev --quiet \
	    pyproject.toml --output-file requirements.lock

$(INSTALLED): requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and \
	    "Conclave needs Python 3.11 or newer and this is %d.%d: choose one with make PYTHON=python3.12" % sys.version_info[:2])'
	@echo "Building $(VENV) from requirements.lock (a minute or two, once)" >&2
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock
	@$(BIN)/python -m research.lab warm  # compiles the kernel once, for the first backtest
	@touch $@
