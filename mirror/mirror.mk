# Targets around the mirror and the test nodes; included by the Makefile.

MIRROR_OUT ?= dist/mirror
# build: compile everything; download: from upstream; auto: upstream first.
MIRROR_SOURCE ?= build
MIRROR := $(BIN)/python -m airflow_knative.mirror

.PHONY: mirror mirror-tools mirror-verify test-cluster test-cluster-full

mirror-tools:
	@mirror/tools.sh $(MIRROR_SOURCE)

mirror: $(READY) mirror-tools ## Fill dist/mirror with every file and image that a cluster needs
	$(MIRROR) build --source $(MIRROR_SOURCE) --out $(MIRROR_OUT)

mirror-verify: $(READY) ## Compare every byte of the mirror with its manifest
	$(MIRROR) verify --out $(MIRROR_OUT)

# Molecule, with a machine's own nodes and the mirror served to them.
MOLECULE := PATH="$(CURDIR)/$(BIN):$$PATH" AIRFLOW_KNATIVE_MIRROR="$(abspath $(MIRROR_OUT))" \
	$(BIN)/molecule --base-config molecule/shared/base.yml test --scenario-name

test-cluster: mirror $(READY_ANSIBLE) ## Run the tests that start real nodes (as root)
	$(MIRROR) build --source $(MIRROR_SOURCE) --set test --out $(MIRROR_OUT)
	$(BIN)/pytest tests/cluster --timeout 900
	$(MOLECULE) default
	$(MOLECULE) multinode
	@echo "Left to make test-cluster-full: a kind cluster, upgrades of Kubernetes, nodes that go and come back, a cluster that" \
		"is reset and made again."

test-cluster-full: test-cluster ## Run them all: also the life of a cluster, from an older version on (1 hour)
	$(MIRROR) build --source $(MIRROR_SOURCE) --set upgrade --out $(MIRROR_OUT)
	$(MOLECULE) kind
	$(MOLECULE) day2
