# Everything runs in $(VENV). PYTHON chooses the interpreter; TORCH the torch build:
#   make run                  CPU torch (the wheel of TORCH_VERSION; on Linux from PyTorch's CPU index)
#   make run TORCH=pypi       what PyPI serves, with CUDA on Linux
# WORKERS processes run the tests, one for each core: more make agents so slow that deadlines end.
# constraints/tested.txt pins what was tested with Python 3.11; other Pythons take the newest that fits.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= cpu
TORCH_VERSION ?= 2.13.0
WORKERS ?= 2
BIN := $(VENV)/bin
CONSTRAINT := $(shell $(PYTHON) -c 'import sys; print("--constraint constraints/tested.txt" * (sys.version_info[:2] == (3, 11)))')
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

.PHONY: run test pytest test-pythons other-site lint docs recording bench chaos clean constraints

## the main job: two clients on this machine, real digits, no account
run: $(VENV)/.installed
	$(BIN)/python examples/globus_compute/run.py \
	    --server_config examples/resources/config_gc/mnist/server_fedavg.yaml \
	    --client_config examples/resources/config_gc/mnist/clients.yaml

## linters, types, layers, tests, documentation
test: lint pytest docs

pytest: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n $(WORKERS)

## what needs no torch, under the other Pythons that are installed
test-pythons:
	sh tools/test_without_torch.sh python3.10 python3.12 python3.13

## a site's environment without torch under another Python, for tests/globus_compute
other-site:
	sh tools/site_without_torch.sh python3.12 python3.13 python3.10

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(VENV)/.installed-dev
	$(BIN)/mkdocs build --strict --quiet --site-dir build/site

## record the run with four endpoints that the documentation shows; needs rabbitmq-server
recording: $(VENV)/.installed-dev
	$(BIN)/python docs/recording/record.py

bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/run_all.py

## break everything on purpose, for half an hour, and print what became of it
chaos: $(VENV)/.installed-dev
	mkdir -p build && rm -f build/chaos.jsonl
	CHAOS_TABLE=$(CURDIR)/build/chaos.jsonl $(BIN)/python -m pytest -m chaos -n $(WORKERS); status=$$?; \
	    $(BIN)/python tests/faults/print_table.py build/chaos.jsonl; exit $$status

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 10) <= sys.version_info < (3, 14) else "appfl_gc needs Python 3.10 to 3.13; choose one with: make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.torch: $(VENV)/bin/python
	PYTHON=$(BIN)/python sh tools/install_torch.sh $(TORCH) $(TORCH_VERSION)
	touch $@

$(VENV)/.installed: pyproject.toml constraints/tested.txt $(VENV)/.torch
	$(PIP) install $(CONSTRAINT) --editable ".[examples]"
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) install $(CONSTRAINT) --editable ".[examples,sandbox,dev,docs]"
	touch $@

## write constraints/tested.txt anew from what is installed
constraints: $(VENV)/.installed-dev
	$(BIN)/python -m pip freeze --exclude-editable --exclude torch | grep -v "@" > constraints/tested.txt

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
