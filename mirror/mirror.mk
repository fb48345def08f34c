# Targets around the mirror and the test nodes; included by the Makefile.

MIRROR_OUT ?= dist/mirror
# build: compile everything; download: from upstream; auto: upstream first.
MIRROR_SOURCE ?= build
MIRROR := $(BIN)/python -m airflow_knative.mirror

.PHONY: mirror mirror-tools mirror-verify mirror-test mirror-upgrade test-nodes test-cluster test-cluster-full

mirror-tools:
	@mirror/tools.sh $(MIRROR_SOURCE)

mirror: $(READY) mirror-tools ## Fill dist/mirror with every file and image that a cluster needs
	$(MIRROR) build --source $(MIRROR_SOURCE) --out $(MIRROR_OUT)

mirror-verify: $(READY) ## Compare every byte of the mirror with its manifest
	$(MIRROR) verify --out $(MIRROR_OUT)

# Molecule, with a machine's own nodes and the mirror served to them.
MOLECULE := PATH="$(CURDIR)/$(BIN):$$PATH" AIRFLOW_KNATIVE_MIRROR="$(abspath $(MIRROR_OUT))" \
	$(BIN)/molecule --base-config molecule/shared/base.yml test --scenario-name

test-cluster: test-nodes molecule-default molecule-multinode ## Run the tests that start real nodes (as root)
	@echo "Left to make test-cluster-full: a kind cluster, several control-plane nodes, upgrades of Kubernetes and Knative, nodes" \
		"that go and come back, a cluster that is reset and made again, and five faults of each kind instead of one."

test-cluster-full: test-cluster molecule-kind molecule-ha molecule-day2 ## Run them all: also the life of a cluster, from an older version on (2 hours)

test-nodes: mirror-test
	$(BIN)/pytest tests/cluster --timeout 900

mirror-test: mirror $(READY_ANSIBLE)
	$(MIRROR) build --source $(MIRROR_SOURCE) --set test --out $(MIRROR_OUT)

# One scenario of molecule/, such as molecule-default.
test-cluster-full: export AIRFLOW_KNATIVE_FAULTS = 5
molecule-day2 molecule-ha: mirror-upgrade
molecule-%: mirror-test
	$(MOLECULE) $*

mirror-upgrade: mirror-test
	$(MIRROR) build --source $(MIRROR_SOURCE) --set upgrade --out $(MIRROR_OUT)
