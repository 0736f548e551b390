# `make demo` and `make test` do all the set-up they need; the second time they start at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench clean

help: ## list the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1|\2/' | column -t -s '|'

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; name one with PYTHON=")'
	@echo "setting up $(VENV) (about 5 GB, one to three minutes; no network is needed afterwards)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## 36 small runs on built-in digits, a table and a report: runs/demo/report.html
	@$(BIN)/resweep demo

test: $(READY) ## all tests
	@$(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: $(READY) ## style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

bench: $(READY) ## overhead against a hand-written loop and plain Lightning (some minutes)
	@$(BIN)/python benchmarks/overhead.py --lightning

clean: ## remove everything that was made, the runs included
	rm -rf $(VENV) runs build dist .pytest_cache .ruff_cache
