# One command each; everything is installed into .venv beside this file.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet
SHELL := /bin/bash
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help demo serve test fast check format protos stubs lock sbom audit clean
help: ## shows this
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

$(BIN)/python:
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.embedded: pyproject.toml .ci/locked/embedded.txt .ci/locked/dev.txt compose/services/pyproject.toml hatch_build.py $(wildcard protos/askonce/v1/*.proto) | $(BIN)/python
	@echo "installing what the embedded default needs (no torch) ..."
	@$(PIP) --require-hashes --requirement .ci/locked/embedded.txt
	@$(PIP) --no-deps --editable ./compose/services --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.embedded
	@echo "installing the tools and the extras that the tests need (with torch: several GB) ..."
	@$(PIP) --require-hashes --requirement .ci/locked/dev.txt
	@$(PIP) --no-deps --editable ./compose/services --editable .
	@touch $@

protos: $(VENV)/.embedded ## compiles the protos again
	@$(PIP) grpcio-tools==1.85.1 mypy-protobuf==5.1.0 hatchling
	@$(BIN)/python hatch_build.py

TEMPLATE ?= buf.gen.yaml
OUT ?= build/stubs
stubs: $(VENV)/.dev ## generates stubs for other languages, by buf's templates
	@.ci/protos generate $(TEMPLATE) $(OUT)

demo: $(VENV)/.embedded ## starts the system, asks about the example pages, shows who answered
	@$(BIN)/python -m compose.demo

serve: $(VENV)/.embedded ## starts the system and keeps it running for your own client
	@echo "gRPC on 127.0.0.1:50051; HTTP and the web page on http://127.0.0.1:8080"
	@ASKONCE_GATEWAY_EDGE_LISTEN=127.0.0.1:8080 $(BIN)/python -m compose.local --gateway 127.0.0.1:50051 --dedup 127.0.0.1:50052

# Tests wait for the disk whenever a store brings something to it: where memory serves as one, with room, they use that.
TESTERS ?= 2
SCRATCH ?= $(shell [ "$$(df --output=avail /dev/shm 2>/dev/null | tail -1)" -gt 4000000 ] 2>/dev/null && echo /dev/shm || echo /tmp)
test: $(VENV)/.dev servers ## all tests, in TESTERS processes
	@TMPDIR=$(SCRATCH) OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(TESTERS) --dist loadfile

fast: $(VENV)/.dev ## the fast ring: under a minute
	@$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow and not system" --ignore tests/inference_service/glm

check: $(VENV)/.dev ## style, types, architecture, protos
	@ruff check . && ruff format --check .
	@mypy
	@lint-imports
	@.ci/protos

TOOLS := .venv-tools
$(TOOLS)/bin/python:
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/python -m pip --disable-pip-version-check install --quiet 'uv>=0.13' 'cyclonedx-bom>=7' 'pip-licenses>=5' 'pip-audit>=2.9'

lock: $(TOOLS)/bin/python ## writes .ci/locked anew, after a change of the dependencies
	@PATH="$(CURDIR)/$(TOOLS)/bin:$$PATH" .ci/lock

sbom: $(VENV)/.embedded $(TOOLS)/bin/python ## writes build/sbom.json (CycloneDX) and build/licences.md of what is installed
	@mkdir -p build
	@$(TOOLS)/bin/cyclonedx-py environment $(BIN)/python --output-file build/sbom.json
	@$(TOOLS)/bin/pip-licenses --python $(BIN)/python --format markdown --order license --output-file build/licences.md

audit: $(TOOLS)/bin/python ## asks the advisory database about the locked versions, where it can be reached
	@$(TOOLS)/bin/pip-audit --requirement .ci/locked/embedded.txt --require-hashes --disable-pip

format: $(VENV)/.dev ## formats the code
	@ruff check --fix . ; ruff format .

.PHONY: servers
servers:
	@.ci/servers

clean: ## removes what was built and stored
	@rm -rf $(VENV) $(TOOLS) var build dist
