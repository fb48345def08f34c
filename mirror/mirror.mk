# Targets around the mirror and the test nodes; included by the Makefile.

MIRROR_OUT ?= dist/mirror
# build: compile everything; download: from upstream; auto: upstream first.
MIRROR_SOURCE ?= build
MIRROR := $(BIN)/python -m airflow_knative.mirror

.PHONY: mirror mirror-tools mirror-verify test-cluster

mirror-tools:
	@mirror/tools.sh $(MIRROR_SOURCE)

mirror: $(READY) mirror-tools ## Fill dist/mirror with every file and image that a cluster needs
	$(MIRROR) build --source $(MIRROR_SOURCE) --out $(MIRROR_OUT)

mirror-verify: $(READY) ## Compare every byte of the mirror with its manifest
	$(MIRROR) verify --out $(MIRROR_OUT)

test-cluster: mirror ## Run the tests that start real nodes (as root)
	$(MIRROR) build --source $(MIRROR_SOURCE) --set test --out $(MIRROR_OUT)
	$(BIN)/pytest tests/cluster --timeout 900
