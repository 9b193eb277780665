# Quoin's build. `make help` lists what it can do.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := all
MAKEFLAGS += --no-print-directory

GO      ?= go
PREFIX  ?= /usr/local
DESTDIR ?=
# Directories: what is installed, and what only this tree uses.
BIN   := bin
STOCK := $(BIN)/stock
TOOLS := _cache/tools
OUT   := _out

CONTAINERD_VERSION := $(shell sed -n 's|^.*github.com/containerd/containerd/v2 v\([^ ]*\).*|\1|p' go.mod)

# The nearest release tag, else the first release to come.
VERSION  ?= $(or $(shell git describe --tags --match 'v[0-9]*' 2>/dev/null | sed 's/^v//'),0.1.0)
REVISION ?= $(shell rev=$$(git rev-parse --short=12 HEAD 2>/dev/null) && { git diff --no-ext-diff --quiet HEAD || rev=$$rev.m; echo $$rev; })

CONFIG_PKG  := github.com/quoin-io/quoin/config
VERSION_PKG := github.com/containerd/containerd/v2/version
STAMP        = -X $(CONFIG_PKG).Version=$(VERSION) -X $(CONFIG_PKG).Revision=$(REVISION)
# The daemon and its client also say which containerd they are made of.
STAMP_CTRD   = $(STAMP) -X $(VERSION_PKG).Version=v$(CONTAINERD_VERSION)+quoin.$(subst +,-,$(VERSION)) \
               -X $(VERSION_PKG).Revision=$(REVISION) -X $(VERSION_PKG).Package=github.com/quoin-io/quoin

# -buildvcs=false: the revision is stamped above, and a clone that git distrusts
# (another owner) must still build.
BUILD_FLAGS := -trimpath -buildvcs=false

PACKAGES ?= ./cmd/... ./config/... ./plugins/... ./shim/...
# Restrict what is tested: make test-unit RUN=TestDrain PACKAGES=./shim/stdio
INTEGRATION_PACKAGES ?= ./integration/...
RUN      ?=
FUZZTIME ?= 5s
BENCHFLAGS ?=
# How long soak goes on.
DURATION ?= 20m
# The beds of test-vm: v2 (systemd, pure cgroup v2), troubles (the same, when
# something goes wrong), hybrid (cgroup v1 beside it), bare (no systemd).
BED      ?= v2 troubles hybrid bare

# What the test runner and the fuzzer's driver read.
export GO PACKAGES INTEGRATION_PACKAGES RUN FUZZTIME BED
export QUOIN_BIN   := $(CURDIR)/$(BIN)
export QUOIN_STOCK := $(CURDIR)/$(STOCK)
export TOOLS_DIR   := $(CURDIR)/$(TOOLS)
export OUT_DIR     := $(CURDIR)/$(OUT)

.ONESHELL:
.PHONY: all build stock stock-containerd demo test test-unit test-integration test-vm test-all test-kubelet lint bench soak fuzz \
        setup install uninstall clean help FORCE

all: build ## build everything into bin/ (the default)

build: $(BIN)/quoind $(BIN)/containerd-shim-quoin-v1 $(BIN)/quoinctl $(BIN)/runc

# Go decides by content what has to be built again, so these always run.
FORCE:

# CGO for containerd's btrfs snapshotter and PKCS#11 image decryption.
$(BIN)/quoind $(BIN)/quoinctl: $(BIN)/%: FORCE
	@echo "build $@"
	CGO_ENABLED=1 $(GO) build $(BUILD_FLAGS) -tags urfave_cli_no_docs -ldflags '-s -w $(STAMP_CTRD)' -o $@ ./cmd/$*

# One process a pod: static, no cgo, no grpc, no symbols, not PIE.
$(BIN)/containerd-shim-quoin-v1: FORCE
	@echo "build $@"
	CGO_ENABLED=0 $(GO) build $(BUILD_FLAGS) -buildmode=exe -tags no_grpc -ldflags '-s -w $(STAMP)' -o $@ ./cmd/$(@F)

# The OCI runtime, so that a fresh machine needs no package of it.
$(BIN)/runc: FORCE
	@echo "build $@"
	tags=urfave_cli_no_docs
	if pkg-config --exists libseccomp 2>/dev/null; then
		tags+=,seccomp
	else
		echo "make: WARNING: no libseccomp headers (or no pkg-config): $@ is built WITHOUT seccomp and" >&2
		echo "make: WARNING: refuses containers that have a seccomp profile. 'integration/setup.sh build' installs them." >&2
	fi
	CGO_ENABLED=1 $(GO) build -C integration/tools/runc $(BUILD_FLAGS) -tags "$$tags" -ldflags '-s -w' -o $(CURDIR)/$@ github.com/opencontainers/runc

# What the integration suite runs Quoin beside; modules of their own pin the versions.
stock: stock-containerd $(STOCK)/dockerd $(STOCK)/docker ## build stock containerd, its ctr and its shim, and a current dockerd, into bin/stock/

# With its release flags: the benchmark compares with it too.
stock-containerd: $(STOCK)/containerd $(STOCK)/ctr $(STOCK)/containerd-shim-runc-v2

STOCK_MODULE := integration/tools/containerd
STOCK_DEPS   := $(STOCK_MODULE)/go.mod $(STOCK_MODULE)/go.sum
STOCK_PKG    := github.com/containerd/containerd/v2
STOCK_STAMP  := -X $(VERSION_PKG).Version=v$(CONTAINERD_VERSION) -X $(VERSION_PKG).Package=$(STOCK_PKG)

$(STOCK)/containerd $(STOCK)/ctr: $(STOCK)/%: $(STOCK_DEPS)
	@echo "build $@"
	CGO_ENABLED=1 $(GO) build -C $(STOCK_MODULE) $(BUILD_FLAGS) -buildmode=pie -tags urfave_cli_no_docs -ldflags '-s -w $(STOCK_STAMP)' -o $(CURDIR)/$@ $(STOCK_PKG)/cmd/$*

$(STOCK)/containerd-shim-runc-v2: $(STOCK_DEPS)
	@echo "build $@"
	CGO_ENABLED=0 $(GO) build -C $(STOCK_MODULE) $(BUILD_FLAGS) -tags urfave_cli_no_docs,no_grpc -ldflags '-s -w -extldflags "-static" $(STOCK_STAMP)' -o $(CURDIR)/$@ $(STOCK_PKG)/cmd/$(@F)

# No containerd embedded, no storage driver that no test uses, no cgo.
DOCKER_MODULE := integration/tools/dockerd
DOCKER_DEPS   := $(DOCKER_MODULE)/go.mod $(DOCKER_MODULE)/go.sum
DOCKERD_TAGS  := no_embedded_containerd,exclude_graphdriver_btrfs,exclude_graphdriver_fuseoverlayfs,exclude_graphdriver_zfs

$(STOCK)/dockerd: $(DOCKER_DEPS)
	@echo "build $@"
	version=$$($(GO) list -C $(DOCKER_MODULE) -m -f '{{slice .Version 1}}' github.com/moby/moby/v2)
	CGO_ENABLED=0 $(GO) build -C $(DOCKER_MODULE) $(BUILD_FLAGS) -tags $(DOCKERD_TAGS) -ldflags "-s -w -X github.com/moby/moby/v2/dockerversion.Version=$$version" -o $(CURDIR)/$@ github.com/moby/moby/v2/cmd/dockerd

# Docker's command line has no go.mod, so Go takes its source for Go 1.16's.
$(STOCK)/docker: $(DOCKER_DEPS)
	@echo "build $@"
	version=$$($(GO) list -C $(DOCKER_MODULE) -m -f '{{slice .Version 1}}' github.com/docker/cli)
	CGO_ENABLED=0 $(GO) build -C $(DOCKER_MODULE) $(BUILD_FLAGS) -gcflags github.com/docker/cli/cmd/docker=-lang=go1.24 -ldflags "-s -w -X github.com/docker/cli/cli/version.Version=$${version%+*}" -o $(CURDIR)/$@ github.com/docker/cli/cmd/docker

# The kubelet, beside links to the product: one directory that test-kubelet
# takes into the virtual machine. No cgo: it runs on another C library there.
KUBELET_DIR    := _cache/kubelet
KUBELET_MODULE := integration/tools/kubelet

$(KUBELET_DIR)/kubelet: $(KUBELET_MODULE)/go.mod $(KUBELET_MODULE)/go.sum
	@echo "build $@ (ten minutes when nothing is cached)"
	version=$$($(GO) list -C $(KUBELET_MODULE) -m -f '{{.Version}}' k8s.io/kubernetes)
	CGO_ENABLED=0 $(GO) build -C $(KUBELET_MODULE) $(BUILD_FLAGS) -ldflags "-s -w -X k8s.io/component-base/version.gitVersion=$$version" -o $(CURDIR)/$@ k8s.io/kubernetes/cmd/kubelet

CHECK_MODULE := integration/tools/check
$(TOOLS)/gotestsum: CHECK_PKG := gotest.tools/gotestsum
$(TOOLS)/staticcheck: CHECK_PKG := honnef.co/go/tools/cmd/staticcheck
$(TOOLS)/gotestsum $(TOOLS)/staticcheck: $(CHECK_MODULE)/go.mod $(CHECK_MODULE)/go.sum
	@echo "build $@"
	$(GO) build -C $(CHECK_MODULE) $(BUILD_FLAGS) -o $(CURDIR)/$@ $(CHECK_PKG)

setup: ## install by apt what building and testing needs, and say what
	@integration/setup.sh

demo: ## build, then run a container through quoind and the shim, and show what happened
	@integration/setup.sh build || echo "make: going on without libseccomp" >&2
	$(MAKE) build
	CGO_ENABLED=0 $(GO) build $(BUILD_FLAGS) -ldflags '-s -w' -o $(TOOLS)/demo ./integration/demo
	$(TOOLS)/demo

test: setup ## unit tests with -race, then the integration suite (root; installs what it needs)
	@$(MAKE) build stock $(TOOLS)/gotestsum
	integration/suite.sh unit integration

test-unit: $(TOOLS)/gotestsum ## only the unit tests, with -race
	@integration/suite.sh unit

test-integration: setup ## only the integration suite
	@$(MAKE) build stock $(TOOLS)/gotestsum
	integration/suite.sh integration

test-vm: ## tests in virtual machines, most with systemd (BED="v2 troubles hybrid bare"; RUN as above)
	@integration/setup.sh vm
	$(MAKE) build stock-containerd $(TOOLS)/gotestsum
	integration/suite.sh vm

test-all: setup ## test and test-vm, with one line of totals at the end
	@integration/setup.sh vm
	$(MAKE) build stock $(TOOLS)/gotestsum
	integration/suite.sh unit integration vm

# Apart from the other tests for what the kubelet takes to build.
test-kubelet: setup ## a real kubelet with its cgroup driver set wrong: natively, then under systemd
	@integration/setup.sh vm
	$(MAKE) build stock-containerd $(KUBELET_DIR)/kubelet $(TOOLS)/gotestsum
	mkdir -p $(KUBELET_DIR)/stock
	ln -f $(BIN)/{quoind,containerd-shim-quoin-v1,quoinctl,runc} $(KUBELET_DIR)/
	ln -f $(STOCK)/{containerd,ctr} $(KUBELET_DIR)/stock/
	export QUOIN_BIN=$(CURDIR)/$(KUBELET_DIR)
	$(GO) test -tags kubelet -count=1 -timeout 15m -v ./integration/kubelet
	RUN='^TestKubelet$$' BED=v2 VM_TAGS=vm,kubelet integration/suite.sh vm

lint: $(TOOLS)/staticcheck ## gofmt, go vet, staticcheck, and the direction of imports
	@integration/lint.sh

soak: setup ## run/exec/kill churn for DURATION (20m): memory, descriptors and goroutines stay flat
	@$(MAKE) build stock-containerd
	QUOIN_SOAK=$(DURATION) $(GO) test -count=1 -timeout 0 -run '^TestSoak$$' -v ./integration/faults

bench: setup ## Quoin beside stock containerd: a table, and JSON in _out/
	@$(MAKE) build stock-containerd
	$(GO) run ./integration/bench $(BENCHFLAGS)

fuzz: ## run every fuzz target for FUZZTIME (5s)
	@integration/fuzz.sh

# runc goes where only quoind looks for it: it must not shadow the machine's own.
BINDIR     = $(DESTDIR)$(PREFIX)/bin
LIBEXECDIR = $(DESTDIR)$(PREFIX)/libexec/quoin
SHAREDIR   = $(DESTDIR)$(PREFIX)/share/quoin
UNITDIR    = $(DESTDIR)$(PREFIX)/lib/systemd/system
EXAMPLES  := $(wildcard config/*.toml config/*.yaml config/*.json)

install: build ## install under PREFIX (/usr/local), below DESTDIR
	@install -d $(BINDIR) $(LIBEXECDIR) $(SHAREDIR) $(UNITDIR)
	install -m 755 $(BIN)/quoind $(BIN)/containerd-shim-quoin-v1 $(BIN)/quoinctl $(BINDIR)/
	install -m 755 $(BIN)/runc $(LIBEXECDIR)/
	install -m 644 $(EXAMPLES) LICENSE $(SHAREDIR)/
	install -m 644 config/quoind.service $(UNITDIR)/
	sed -i 's|/usr/local/bin/|$(PREFIX)/bin/|' $(UNITDIR)/quoind.service $(SHAREDIR)/containerd-runtime-path.toml
	echo "installed under $(DESTDIR)$(PREFIX)"

uninstall: ## remove what install put there, and nothing else
	@rm -f $(addprefix $(BINDIR)/,quoind containerd-shim-quoin-v1 quoinctl) $(LIBEXECDIR)/runc
	rm -f $(addprefix $(SHAREDIR)/,$(notdir $(EXAMPLES)) LICENSE) $(UNITDIR)/quoind.service
	for d in $(LIBEXECDIR) $(SHAREDIR); do
		[ ! -d "$$d" ] || rmdir --ignore-fail-on-non-empty "$$d"
	done

clean: ## remove what the build and the tests made in this tree
	@rm -rf $(BIN) _cache $(OUT)

help: ## this list
	@echo "usage: make [target] [VARIABLE=value]"
	sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r target text; do
		printf '  %-18s %s\n' $$target "$$text"
	done
