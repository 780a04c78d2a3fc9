# Everything here also runs by hand: a target is a name for a command, not a place for logic.

SHELL      := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

GO      ?= go
CLANG   ?= clang-19
STRIP   ?= llvm-strip-19
FORMAT  ?= clang-format-19
PREFIX  ?= /usr/local
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# The version comes from here, so the build does not depend on who owns the checkout.
BUILD = CGO_ENABLED=0 $(GO) build -buildvcs=false -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
BPF   = bpf/*.bpf.c bpf/include/*.h
# Packages that need neither root nor namespaces.
PURE  = ./tracer/path ./internal/wire ./internal/flow ./internal/diagnose ./internal/render ./internal/target
E2E   = TEST_FORMAT=testname scripts/test.sh ./internal/e2e/... -tags e2e -count=1 -timeout 25m

.DEFAULT_GOAL := help
.PHONY: help build demo test test-short test-kernels e2e bench generate check-generated fmt lint race clean install dist

help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

build: ## build ./pathtrace, one static binary
	$(BUILD) -o pathtrace ./cmd/pathtrace

demo: build ## trace two connections through a network of namespaces (root; no Docker needed)
	@if [ "$$(id -u)" = 0 ]; then ./pathtrace demo; \
	elif command -v sudo >/dev/null; then sudo ./pathtrace demo; \
	else echo "make demo: it needs root, and there is no sudo: run it as root." >&2; exit 1; fi

test: ## test everything this machine can, installing what is missing (root)
	scripts/install-test-needs.sh
	scripts/test.sh ./... -count=1 -timeout 20m
	$(E2E)

test-short: ## run the quick tests; those that need root are skipped without it
	$(GO) test -short ./...

test-kernels: ## run the tests that build their own network on Linux 5.10, 6.1 and 6.12, emulated (root, amd64)
	scripts/kernels.sh

e2e: ## run the tests against a Docker engine that they start themselves (root)
	$(E2E)

bench: ## print the numbers: start-up, cost per packet, throughput, loss, memory (root; BENCH_SHORT=1 for a quick look)
	$(GO) test -tags e2e,bench -count=1 -timeout 30m -v -run '^TestBench' ./internal/e2e/...

generate: ## compile bpf/ into internal/bpfobj (clang 19)
	scripts/apt-need.sh $(CLANG):clang-19 $(STRIP):llvm-19 /usr/include/bpf/bpf_helpers.h:libbpf-dev
	BPF2GO_CC=$(CLANG) BPF2GO_STRIP=$(STRIP) $(GO) generate ./internal/bpfobj

check-generated: ## compile bpf/ again and fail if internal/bpfobj changes
	scripts/check-generated.sh

fmt: ## format Go and C
	gofmt -l -w cmd internal tracer
	$(FORMAT) -i $(BPF)

lint: ## check formatting, imports and code
	scripts/apt-need.sh $(FORMAT):clang-format-19
	$(FORMAT) --dry-run -Werror $(BPF)
	scripts/install-lint.sh
	.cache/bin/golangci-lint run ./...

race: ## run the tests of the pure packages with the race detector (needs a C compiler)
	CGO_ENABLED=1 $(GO) test -race -count=1 $(PURE)

clean: ## remove what was built
	rm -rf pathtrace dist

install: build ## install to $(DESTDIR)$(PREFIX)/bin
	install -D -m 0755 pathtrace $(DESTDIR)$(PREFIX)/bin/pathtrace

dist: ## build static binaries for amd64 and arm64 into dist/
	for arch in amd64 arm64; do GOOS=linux GOARCH=$$arch $(BUILD) -o dist/pathtrace-linux-$$arch ./cmd/pathtrace; done
