# Needs Python 3.11 or newer, git and make; every target brings the rest. See `make help`.
#
#   make test PYTHON=python3.13 VENV=.venv313     another interpreter, in an environment of its own
#   make test ARGS="-k lease -x"                  arguments for pytest
#   make test UV=                                 pip even where uv is installed
#   make package-lambda REQUIREMENTS=requirements.txt INCLUDE="datasets.toml templates" ARCH=arm64

VENV ?= .venv
UV ?= $(shell command -v uv 2>/dev/null)
ARGS ?=
# Processes that share `make test`; 0 runs it in one.
WORKERS ?= 2
# As `provider.runtime` in serverless.yml.
PYTHON_LAMBDA ?= 3.12
ARCH ?= x86_64
REQUIREMENTS ?=
INCLUDE ?=

# Each candidate is run, not only looked up: a version manager's shim may stand in PATH with nothing
# behind it. Without uv the interpreter must also be able to make environments.
PYTHON ?= $(shell for candidate in python3.14 python3.13 python3.12 python3.11 python3; do \
	"$$candidate" -c 'import sys; sys.version_info < (3, 11) and sys.exit(1)$(if $(UV),,; import ensurepip, venv)' \
	>/dev/null 2>&1 && { echo "$$candidate"; break; }; done)

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := local,mysql,aws,migrations,pydantic,crypto,metrics,parquet,reports,dev

.DEFAULT_GOAL := help
.PHONY: help test test-slow demo bench package-lambda lint format clean

help:
	@echo "make test       the tests, on SQLite and PostgreSQL (and MySQL: set TEST_MYSQL_URL)"
	@echo "make test-slow  the longer tests"
	@echo "make demo       a running system to look at (ONCE=1: run it through and leave)"
	@echo "make bench      the measurements"
	@echo "make package-lambda  build/lambda.zip for serverless.yml (modules: JOBS_HANDLERS=shop.tasks)"
	@echo "make lint       style, format and types"
	@echo "make format     mend what can be mended by itself"
	@echo "make clean      remove the environment and the caches"

test: $(STAMP)
	@$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ARGS)

test-slow: $(STAMP)
	@$(BIN)/python -m pytest -m slow $(ARGS)

demo: $(STAMP)
	@$(BIN)/tickwork demo $(ARGS)

bench: $(STAMP)
	@$(BIN)/python -m benchmarks $(ARGS)

package-lambda: $(STAMP)
	@$(BIN)/python deploy/lambda_package.py --python $(PYTHON_LAMBDA) --architecture $(ARCH) \
		$(if $(REQUIREMENTS),--requirements $(REQUIREMENTS)) $(addprefix --include ,$(INCLUDE)) $(ARGS)

# `api` holds entry files only; mypy refuses a folder without a Python file.
lint: $(STAMP)
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { $(BIN)/ruff format --check . ; echo 'Mend it with: make format'; exit 1; }
	@$(BIN)/mypy jobs deploy $(if $(wildcard api/*.py),api) tests/support tests/conftest.py

format: $(STAMP)
	@$(BIN)/ruff check --quiet --fix . ; $(BIN)/ruff format --quiet .

clean:
	[ ! -e $(VENV)/pyvenv.cfg ] || rm -rf $(VENV)
	rm -rf build .mypy_cache .pytest_cache .ruff_cache .hypothesis

# The stamp is written last, so an installation that broke off is done again.
$(STAMP): pyproject.toml
	@if [ -z "$(PYTHON)" ]; then \
		echo "Found no Python 3.11 or newer that can make environments." >&2; \
		echo "Install one (Debian, Ubuntu: apt install python3 python3-venv; macOS: brew install python3)," >&2; \
		echo "or name it: make $(or $(MAKECMDGOALS),test) PYTHON=/path/to/python3.12" >&2; \
		exit 1; \
	fi
	@"$(PYTHON)" -c 'import sys; sys.version_info < (3, 11) and sys.exit("Tickwork needs Python 3.11 or newer; $(PYTHON) is %d.%d. Name another: make PYTHON=/path/to/python3.12" % sys.version_info[:2])'
	@echo "Setting up $(VENV) with $(PYTHON) (a minute or two, once) ..."
	@if [ -n "$(UV)" ]; then \
		{ $(BIN)/python -c '' 2>/dev/null || "$(UV)" venv --quiet --allow-existing \
			--python "$$("$(PYTHON)" -c 'import sys; print(sys.executable)')" $(VENV); } && \
		"$(UV)" pip install --quiet --python $(BIN)/python --editable ".[$(EXTRAS)]"; \
	else \
		{ $(BIN)/python -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv $(VENV); } && \
		$(BIN)/python -m pip install -qq --disable-pip-version-check --editable ".[$(EXTRAS)]"; \
	fi
	@touch $@
