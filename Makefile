# Everything starts here: `make demo` to talk to an agent, `make test` to check the tree. All set-up happens by itself.

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-print-directory --no-builtin-rules

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
NPM := deploy/setup/npm

# What has been done to the environment. The marks live in it, so they go when it goes.
DONE := $(VENV)/.done
LIVEKIT := $(VENV)/.livekit-server
PAGE := worker/greenroom/embedded/static/index.html
PAGE_SOURCES := $(wildcard web/src/* web/src/*/*) web/build.mjs web/tsconfig.json

export PIP_REQUIRE_VIRTUALENV := 1
say = @printf '==> %s\n'

.PHONY: help
help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: runtime server page ## Talk to an agent in the browser, with nothing but this machine
	@exec $(BIN)/greenroom dev -c config/demo.yaml

.PHONY: test
test: lint webtest setup ## Check everything: lint, types, layers, unit, real server, real browser
	$(say) "pytest"
	@HF_HUB_OFFLINE=1 $(BIN)/pytest $(PYTEST)

.PHONY: lint
lint: tools ## Check style, types and layers
	$(say) "ruff, mypy, import-linter"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy examples
	@$(BIN)/lint-imports

.PHONY: unit
unit: tools ## Run the tests that need neither server, browser nor models
	@HF_HUB_OFFLINE=1 $(BIN)/pytest -m "not e2e and not browser and not models" $(PYTEST)

.PHONY: e2e
e2e: setup ## Run the tests that do
	@HF_HUB_OFFLINE=1 $(BIN)/pytest -m "e2e or browser or models" $(PYTEST)

.PHONY: webtest
webtest: $(DONE)/npm ## Check and test the page
	$(say) "the page: types and tests"
	@$(NPM) run --silent check
	@$(NPM) run --silent test

.PHONY: setup
setup: tools server page browser ## Only set up, for development: environment, media server, page, browser

.PHONY: states
states: tools ## Draw docs/states.md from the machines' tables
	@$(BIN)/python -m tests.states > docs/states.md

.PHONY: clean
clean: ## Remove what was built here; the media server stays in the user's cache
	rm -rf $(VENV) build dist web/node_modules web/build worker/greenroom/embedded/static
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis

# The environment. Every package is pinned by hash in requirements/, what builds from source too.

.PHONY: runtime tools
runtime: $(DONE)/local $(DONE)/project
tools: $(DONE)/dev $(DONE)/project

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

$(DONE)/project: pyproject.toml worker/greenroom/version.py $(DONE)/environment
	$(say) "greenroom itself, editable"
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

# The media server: found, pulled or built, then remembered.

.PHONY: server
server: | $(DONE)/project
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

# The locks: hashes, no registry addresses. `make locks UPGRADE=--upgrade` takes the newest versions.

LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 $(UPGRADE) --generate-hashes \
	--no-emit-index-url --no-emit-find-links --no-annotate --custom-compile-command "make locks"

.PHONY: locks
locks: $(DONE)/environment ## Compile requirements/*.txt and web/package-lock.json anew
	@$(PIP) install --quiet uv==0.13.8
	$(LOCK) pyproject.toml --extra dev -o requirements/dev.txt
	$(LOCK) pyproject.toml --extra local -c requirements/dev.txt -o requirements/local.txt
	$(LOCK) requirements/build.in -c requirements/dev.txt -o requirements/build.txt
	$(LOCK) requirements/node.in -o requirements/node.txt
	$(NPM) install --package-lock-only --omit-lockfile-registry-resolved --no-audit --no-fund
