# People and CI use the same targets. "make" lists them.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

GO ?= go
COUNT ?= 1
RUN ?=
PLATFORMS ?= windows/amd64 darwin/arm64 linux/arm64 linux/386

# The tools have a go.mod of their own, so that users of the library do not get
# the linter's dependencies. The first use builds them; then they are cached.
TOOL := $(GO) tool -modfile=tools/go.mod

# The packages whose tests need a broker: those that reach the harness. Found
# when used, because go list takes a moment.
HARNESS := github.com/mqkit/mqkit/integration/broker
broker_packages = $$($(GO) list -test -f '{{$$p := .ImportPath}}{{if eq .Name "main"}}{{range .Deps}}{{if eq . "$(HARNESS)"}}{{$$p}}{{"\n"}}{{end}}{{end}}{{end}}' ./... | sed -n 's/\.test$$//p')

.PHONY: help
help: ## List the targets
	@echo "usage: make TARGET [SERIES=4.0] [RUN=TestName] [COUNT=10]"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: ## Publish and consume 10,000 orders and print the ledger
	@$(GO) run ./examples/quickstart

.PHONY: build
build: ## Build everything; the command-line tools go to bin/
	$(GO) build ./...
	$(GO) build -o bin/ ./cmd/...

.PHONY: test
test: get-image lint-if-possible ## Everything: lint, vet, unit tests, integration tests; ends with their counts
	$(GO) vet ./...
	@$(MAKE) unit
	@$(MAKE) integration

.PHONY: unit
unit: ## The tests that need no broker
	@brokers="$(broker_packages)"; \
	packages=$$($(GO) list ./... | grep -vxF "$${brokers:-none}"); \
	echo "$(GO) test -race -count=$(COUNT) (packages that need no broker)"; \
	$(GO) test -race -count=$(COUNT) $(if $(RUN),-run '$(RUN)') $$packages | sed '/\[no test files\]$$/d'

# -p 1: each package starts brokers of its own.
.PHONY: integration
integration: get-image ## The tests against RabbitMQ; SERIES picks the image
	@packages="$(broker_packages)"; \
	echo "$(GO) test -race -count=$(COUNT) (packages that need a broker)"; \
	$(GO) run ./integration/summary -race -count=$(COUNT) -p 1 -timeout 60m $(if $(RUN),-run '$(RUN)') $$packages

.PHONY: race
race: ## All tests under the race detector, COUNT times
	$(GO) test -race -count=$(COUNT) -timeout 120m $(if $(RUN),-run '$(RUN)') ./...

.PHONY: bench
bench: ## The benchmarks; RUN picks some
	$(GO) test -run '^$$' -bench '$(or $(RUN),.)' -benchmem ./...

.PHONY: proof
proof: ## A sample of pairs of cuts, and 200 random schedules, under the race detector
	$(GO) test -race ./internal/proof -count=1 -v -run 'PairsOfCuts|RandomSchedules' -pairs $(or $(PAIRS),5000) -seeds $(or $(SEEDS),200) $(if $(SEED),-seed $(SEED)) -timeout 30m

.PHONY: exhaustive
exhaustive: ## The proof with every pair of cuts: some minutes
	$(GO) test ./internal/proof -count=1 -v -run 'EveryCut|PairsOfCuts' -pairs -1 -timeout 6h

.PHONY: soak
soak: ## Random schedules; SEEDS=10000 says how many, SEED=1 where they begin
	$(GO) test -race ./internal/proof -count=1 -v -run RandomSchedules -seeds $(or $(SEEDS),10000) $(if $(SEED),-seed $(SEED)) -timeout 24h

.PHONY: chaos
chaos: get-image ## Random faults on RabbitMQ in containers: FAULTS=1000 on one node, CLUSTER=100 on three; or DURATION=1h for each
	MQKIT_REQUIRE_BROKER=1 $(GO) test ./integration -count=1 -v -parallel 1 -run 'Chaos$$' -pause 0 -faults $(or $(FAULTS),1000) -cluster-faults $(or $(CLUSTER),100) $(if $(DURATION),-duration $(DURATION)) $(if $(SEED),-seed $(SEED)) -timeout 24h

.PHONY: cover
cover: ## Test coverage of the libraries, with an HTML page in build/
	@mkdir -p build
	$(GO) test -count=1 -timeout 60m -coverprofile=build/cover.out \
		-coverpkg=./reconnect,./topology,./producer,./consumer ./...
	$(GO) tool cover -html=build/cover.out -o build/cover.html
	@$(GO) tool cover -func=build/cover.out | tail -n 1

.PHONY: lint
lint: ## Run golangci-lint
	$(TOOL) golangci-lint run ./...

# Without a way to fetch the linter the tests are still worth running, but not
# in CI.
.PHONY: lint-if-possible
lint-if-possible:
	@echo "lint: the first run on a machine builds the linter, which takes minutes"
	@if reason=$$($(TOOL) golangci-lint version 2>&1); then \
		$(MAKE) lint; \
	elif [ -n "$${CI:-}" ]; then \
		echo "lint: $$reason"; exit 1; \
	else \
		echo "lint: left out, the linter cannot be built here: $$(tail -n 1 <<<"$$reason")"; \
	fi

.PHONY: fmt
fmt: ## Format the code with gofumpt
	$(TOOL) gofumpt -l -w .

.PHONY: vuln
vuln: ## Look for known vulnerabilities (needs vuln.go.dev)
	$(TOOL) govulncheck ./...

.PHONY: vet-all
vet-all: ## Vet and build for the other platforms
	@set -e; for platform in $(PLATFORMS); do \
		echo "vet and build for $$platform"; \
		GOOS=$${platform%/*} GOARCH=$${platform#*/} CGO_ENABLED=0 $(GO) vet ./...; \
		GOOS=$${platform%/*} GOARCH=$${platform#*/} CGO_ENABLED=0 $(GO) build ./...; \
	done

.PHONY: image
image: ## Build the RabbitMQ image from Debian's packages; SERIES=4.3, 4.0 or 3.10
	@integration/image/build.sh $(SERIES)

.PHONY: get-image
get-image:
	@integration/image/get.sh

.PHONY: tools
tools: ## Build the linter, the formatter and govulncheck now
	$(GO) build -modfile=tools/go.mod -o /dev/null tool
	@$(TOOL) golangci-lint version
	@$(TOOL) gofumpt -version
