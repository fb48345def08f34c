# What a checkout needs is make, Python 3.11 or later with pip, and nothing installed by root.
#
#   make demo      a workflow run from start to end, everything set up by itself
#   make test      every check that needs no cluster
#
# PYTHON chooses the interpreter: make setup PYTHON=python3.12

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := build/uv/bin/uv
RUN_UV := scripts/uv.sh $(PYTHON) $(UV)
READY := $(VENV)/.ready
# Ansible is large, and only what checks or makes clusters waits for it.
READY_ANSIBLE := $(VENV)/.ready-ansible
READY_BENCH := $(VENV)/.ready-bench
CHECKOV := build/checkov/bin/checkov

# Written bytecode decides how fast a worker starts, so nothing here may run without it.
unexport PYTHONDONTWRITEBYTECODE
LOCK := $(RUN_UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-emit-find-links --custom-compile-command 'make lock'
COMPILE := $(LOCK) --all-extras --group dev --group ansible --group bench pyproject.toml

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup setup-ansible demo test lint unit chart local-e2e semantics fuzz faults bench bench-quick bench-cluster bench-release bench-compare images lock format clean

help: ## Show what there is to make
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Install everything a checkout needs into .venv, as locked

setup-ansible: $(READY_ANSIBLE) ## Install Ansible beside it, which installs clusters

demo: $(READY) ## Run a workflow through the gateway on this machine; KEEP=1 leaves it up
	@KEEP=$(KEEP) scripts/demo.sh

test: lint unit chart local-e2e semantics fuzz ## Run every check that needs no cluster

lint: $(READY) $(READY_ANSIBLE) ## Check style, types, YAML, roles and playbooks, and that the lock fits
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/yamllint --strict .
	$(BIN)/ansible-playbook --syntax-check --inventory inventory/sample site.yml playbooks/*.yml
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/ansible-lint --offline
	@scripts/check-lock.sh $(COMPILE)

unit: $(READY) $(READY_ANSIBLE) ## Run the unit tests
	$(BIN)/pytest tests/unit

chart: $(READY) $(CHECKOV) ## Render the Helm chart and check what comes out (the first time, helm is built: 8 minutes)
	$(BIN)/pytest tests/chart

local-e2e: $(READY) ## Run the end-to-end tests: real Airflow, real PostgreSQL, real HTTP, on this machine
	$(BIN)/pytest tests/local
	$(BIN)/pytest tests/faults

faults: $(READY) ## Break every part of a local instance, 20 times each (hours); SEED=n, COUNT=n
	$(BIN)/python -m tests.faults.harness --seed $(or $(SEED),1) --count $(or $(COUNT),20)
	$(BIN)/python -m tests.faults.scenarios --seed $(or $(SEED),1)

semantics: $(READY) ## Run DAGs of every kind through Knative and on LocalExecutor, and compare what is left of them
	$(BIN)/pytest tests/semantics

# AIRFLOW_KNATIVE_FUZZ_EXAMPLES=5000 makes it long, and new each time.
fuzz: $(READY) ## Send hostile input to dispatcher, worker and gateway
	$(BIN)/pytest tests/fuzz

# Plots and reports go to build/bench; `make bench BENCH="--only cold --rounds 1"` measures less, BENCH=--help says what there is.
bench: $(READY_BENCH) ## Measure this executor beside LocalExecutor and Celery, and draw the plots (30 minutes)
	$(BIN)/python -m benchmarks local $(BENCH)

bench-quick: $(READY) ## Time the seed workflow, warm, beside LocalExecutor as it comes and tuned (10 minutes)
	$(BIN)/python -m benchmarks quick $(BENCH)

bench-cluster: $(READY_ANSIBLE) $(READY_BENCH) ## Measure a cluster through its gateway; BENCH="--gateway-url URL --kubeconfig FILE"
	$(BIN)/python -m benchmarks cluster $(BENCH)

bench-release: $(READY_ANSIBLE) $(READY_BENCH) ## Time helm upgrade of 500 services on a cluster; BENCH as for bench-cluster
	$(BIN)/python -m benchmarks release $(BENCH)

bench-compare: $(READY) ## Fail if build/bench is worse than benchmarks/results, measured by the ratio to LocalExecutor
	$(BIN)/python -m benchmarks compare $(BENCH)

images: $(READY_ANSIBLE) ## Build the images of Airflow, the workers and the gateway into podman's store, where their content changed
	$(BIN)/ansible-playbook playbooks/images.yml --extra-vars images_push=false $(IMAGES_FLAGS)

include mirror/mirror.mk

lock: $(UV) ## Write requirements.lock anew, with newer versions where pyproject.toml allows them
	$(COMPILE) --upgrade --output-file requirements.lock
	$(LOCK) tests/chart/checkov.in --upgrade --output-file tests/chart/checkov.lock

format: $(READY) ## Format the code and mend what can be mended by itself
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## Remove what was made here: .venv and build
	rm -rf $(VENV) build .mypy_cache .ruff_cache .pytest_cache

$(READY): requirements.lock pyproject.toml | $(UV)
	@$(RUN_UV) venv --quiet --allow-existing --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV)
	$(RUN_UV) pip install --quiet --python $(BIN)/python --constraints requirements.lock --compile-bytecode \
		--editable '.[local]' --group dev
	@$(BIN)/python -m compileall -q src
	@touch $@

$(READY_ANSIBLE): $(READY)
	$(RUN_UV) pip install --quiet --python $(BIN)/python --constraints requirements.lock --compile-bytecode \
		--editable '.[local,cluster]' --group dev --group ansible
	@touch $@

# Celery, a Redis server and matplotlib, for the rivals and the plots.
$(READY_BENCH): $(READY)
	$(RUN_UV) pip install --quiet --python $(BIN)/python --constraints requirements.lock --compile-bytecode \
		--editable '.[local]' --group dev --group bench
	@touch $@

# Apart from .venv: it wants older versions of what Airflow wants, and a hundred packages of its own.
$(CHECKOV): tests/chart/checkov.lock | $(UV)
	@$(RUN_UV) venv --quiet --clear --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" build/checkov
	$(RUN_UV) pip install --quiet --python build/checkov/bin/python --require-hashes --compile-bytecode \
		--requirement tests/chart/checkov.lock
	@touch $@

$(UV): requirements.lock
	@scripts/install-uv.sh $(PYTHON) build/uv
