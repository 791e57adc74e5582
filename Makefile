# Two of these are all that most people need: `make demo` and `make test`.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The Python that makes .venv: 3.10 or later.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PYTEST_ARGS ?=
# Else each process of a run would compile all tests anew, with what pytest makes of assertions.
unexport PYTHONDONTWRITEBYTECODE
# Most tests wait most of the time. A file's tests stay together.
PYTEST_JOBS ?= 3

.PHONY: help
help: ## Say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-15s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(VENV)/.installed ## Make .venv with .venv/bin/authproxy, from the locked dependencies

# Made anew from nothing when the lock or the metadata changes, so that nothing
# that left the lock lingers.
$(VENV)/.installed: requirements/dev.txt setup.cfg setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { \
	    echo "authproxy needs Python 3.10 or later, and $(PYTHON) is $$($(PYTHON) -V 2>&1)." \
	         "Name another one: make $(or $(MAKECMDGOALS),install) PYTHON=python3.12" >&2; exit 1; }
	@echo "Making $(VENV) from the locked dependencies: this takes a minute or two, once."
	@$(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --require-hashes \
	    -r requirements/dev.txt | scripts/install-progress requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: demo
demo: install ## See it work: a stand-in Entra and metrics store, the real proxy between
	$(BIN)/authproxy demo

# Needs nothing but .venv: no program is installed, and none is started. Whoever is done takes over
# tests of others, as no file's tests share what takes long to start.
.PHONY: unit
unit: install ## Run the tests of rules and single classes, in less than a minute
	$(BIN)/python -m pytest tests/unit -m "not slow and not process" --hypothesis-profile quick \
	    -n $(PYTEST_JOBS) --dist worksteal $(PYTEST_ARGS)

.PHONY: test
test: install system-deps apache-python browser-deps newer-programs ## Run the tests
	@$(BIN)/python -m compileall -q authproxy  # Hundreds of processes import it.
	$(BIN)/python -m pytest -m "not slow and not image and not vm" -n $(PYTEST_JOBS) --dist loadfile $(PYTEST_ARGS)

.PHONY: apache-test
apache-test: install system-deps apache-python ## Run the end-to-end tests against Apache with mod_wsgi
	$(BIN)/python -m pytest tests/e2e --server apache -n $(PYTEST_JOBS) $(PYTEST_ARGS)
	$(BIN)/python -m pytest tests/e2e --server express -n $(PYTEST_JOBS) $(PYTEST_ARGS)

# Tests have no time to make these; kept between runs, and made anew when a lock changes.
.PHONY: apache-python
apache-python: install system-deps
	@$(BIN)/python -m tests.support.debian_python

# Likewise, and into build/newer-debian: Prometheus 3, VictoriaMetrics and vmagent.
.PHONY: newer-programs
newer-programs: install
	@$(BIN)/python -m tests.support.newer_debian

# Twenty minutes of the soak itself, and a minute for each fuzz target (FUZZ_SECONDS).
# The same faults again: make soak SOAK_SEED=...; its report: build/soak.md.
SOAK_SECONDS ?= 1200
SOAK_SEED ?=

.PHONY: soak
soak: install system-deps ## Run the long and heavy tests, the fuzzing and the soak
	$(BIN)/python -m pytest -m slow $(PYTEST_ARGS)
	$(BIN)/python -m pytest tests/unit -m hypothesis --hypothesis-profile thorough --timeout 900 \
	    -n $(PYTEST_JOBS) $(PYTEST_ARGS)
	@mkdir -p build
	SOAK_SECONDS=$(SOAK_SECONDS) SOAK_SEED=$(SOAK_SEED) $(BIN)/python -m lab.soak --report build/soak.md

# Needs ten minutes at most; each row leaves its figures in a file, from which the page is written.
MEASURED := build/reliability

.PHONY: reliability
reliability: install system-deps ## Play the fault matrix, and write docs/reliability.md from it
	rm -rf $(MEASURED)
	$(BIN)/python -m pytest tests/faults --measured $(MEASURED) -n $(PYTEST_JOBS) --dist loadfile \
	    --deselect tests/faults/test_page.py $(PYTEST_ARGS)
	$(BIN)/python -m lab.faults.page $(MEASURED)

# The image, by docker, podman or buildah. The same commit gives the same image.
ENGINE ?= docker
IMAGE ?= authproxy
IMAGE_ARGS ?=
VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' authproxy/__init__.py)
REVISION ?= $(or $(shell git describe --always --match= --abbrev=40 --dirty 2>/dev/null),unknown)
SOURCE_DATE_EPOCH ?= $(or $(shell git log -1 --format=%ct 2>/dev/null),315532800)
UTC = import sys, time; print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(sys.argv[1]))))
CREATED = $(shell $(PYTHON) -c '$(UTC)' $(SOURCE_DATE_EPOCH))
# All but docker have to be told: to keep HEALTHCHECK, and which time files bear.
OTHER_ENGINE = $(if $(filter docker,$(notdir $(ENGINE))),,--format docker --timestamp $(SOURCE_DATE_EPOCH))

.PHONY: image
image: ## Build the container image IMAGE with ENGINE, which is docker, podman or buildah
	$(ENGINE) build --file docker/Dockerfile --tag $(IMAGE) $(OTHER_ENGINE) \
	    --build-arg VERSION=$(VERSION) --build-arg REVISION=$(REVISION) \
	    --build-arg CREATED=$(CREATED) --build-arg SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) \
	    $(IMAGE_ARGS) .

# Another version: make base-image BASE_TAG=3.14-slim-trixie
BASE_TAG ?=

.PHONY: base-image
base-image: ## Renew the digest of the base image in docker/Dockerfile
	@scripts/base-image $(BASE_TAG)

.PHONY: image-test
image-test: install ## Build the image without an engine, run it and test it (Debian, as root)
	@scripts/image-test $(BIN)/python -m pytest tests/deploy/image -m image $(PYTEST_ARGS)

# Only what the lock names, for this Python version and this kind of machine.
.PHONY: pyz
pyz: install ## Make dist/authproxy.pyz: one file to run, or to install from without an index
	rm -rf build/lib build/pyz
	mkdir -p build/pyz dist
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir build/pyz .
	$(BIN)/python -m pip download --quiet --no-deps --only-binary :all: --require-hashes \
	    --requirement requirements/runtime.txt --dest build/pyz
	$(BIN)/pex entra-auth-proxy --pre-resolved-dists build/pyz --pex-root build/pex --venv \
	    --include-tools --console-script authproxy --output-file dist/authproxy.pyz

# A release, of what is committed: docs/releasing.md. The image is skipped, loudly, where ENGINE does
# not work; with CI=true that is an error.
RELEASE := $(BIN)/python -m tools.release
ASKED := $(if $(filter command,$(firstword $(origin VERSION))),$(VERSION))

.PHONY: bump
bump: install ## Write the next version into all files that name it: make bump VERSION=1.2.3
	@$(RELEASE) bump "$(ASKED)"
	@$(BIN)/python -m tools.documents

.PHONY: release
release: install ## Make all files of a release in dist/: make release VERSION=1.2.3
	@$(RELEASE) check "$(ASKED)"
	rm -rf dist build/release
	$(RELEASE) files $(VERSION)
	SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) $(BIN)/python -m tools.sbom dist/authproxy-$(VERSION).cdx.json
	$(MAKE) --no-print-directory image-archive
	$(RELEASE) sums $(VERSION)

ARCHIVE = dist/authproxy-$(VERSION)-image.tar

.PHONY: image-archive
image-archive: ## Make dist/authproxy-VERSION-image.tar, the image for this machine as an OCI archive
	@mkdir -p dist
	@bash scripts/image-archive "$(ENGINE)" $(ARCHIVE) $(MAKE) --no-print-directory image IMAGE=authproxy:$(VERSION)

.PHONY: vm-test
vm-test: install ## Install and run the unit under a real systemd in a container (Debian, as root)
	@scripts/vm-test $(BIN)/python -m pytest tests/deploy/vm -m vm $(PYTEST_ARGS)

.PHONY: check
check: install ## Check form, lint, types, and for known vulnerabilities
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/hadolint docker/Dockerfile
	$(BIN)/mypy --strict authproxy lab tools tests
	$(BIN)/lint-imports --no-cache
	$(BIN)/python scripts/audit.py $(RUNTIME_LOCKS)

# What users install, and what builds it; `make audit` looks at all that is locked.
RUNTIME_LOCKS := requirements/runtime.txt requirements/build.txt

.PHONY: audit
audit: install ## Look for known vulnerabilities in everything that is locked
	$(BIN)/python scripts/audit.py $(RUNTIME_LOCKS) requirements/dev.txt requirements/apache.txt

.PHONY: sbom
sbom: install ## Make dist/authproxy.cdx.json: a CycloneDX list of what is installed with authproxy
	SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH) $(BIN)/python -m tools.sbom dist/authproxy.cdx.json

.PHONY: format
format: install ## Put the code into form
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: system-deps
system-deps: ## Install the real programs that tests drive (Debian, as root), or say what is missing
	@scripts/system-deps

# axe-core, which judges pages in a browser, as npm's lock has it.
AXE := tests/browser/node_modules/.package-lock.json
.PHONY: browser-deps
browser-deps: system-deps
	@command -v npm >/dev/null && $(MAKE) --silent --no-print-directory $(AXE) || \
	    echo "MISSING: axe-core: its tests will be skipped, and fail where CI=true." >&2
$(AXE): tests/browser/package-lock.json
	npm ci --prefix tests/browser --ignore-scripts --no-audit --no-fund --loglevel error
	@touch $@

.PHONY: docs
docs: install ## Write anew what is made from the code: docs/settings.md, the man page, the chart's files
	$(BIN)/python -m tools.documents

# Not --quiet: what is not said is not counted by --strict.
.PHONY: site
site: install ## Build the documentation as a site in build/site
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# Wants, besides what `make test` does: apt-get install librsvg2-bin pngquant fonts-inter
.PHONY: picture
picture: install system-deps ## Draw docs/telemetry/dashboard.png anew, from two minutes of traffic
	$(BIN)/python -m lab.dashboard_picture docs/telemetry/dashboard.png

.PHONY: demo-picture
demo-picture: install ## Draw docs/demo.svg anew, from `authproxy demo` on a terminal
	$(BIN)/python -m lab.demo_picture docs/demo.svg

# Takes a quarter of an hour. Wants, besides what `make test` does: apt-get install pngquant
.PHONY: status-pictures
status-pictures: install system-deps ## Draw docs/status/*.png anew, from fifteen minutes of traffic
	$(BIN)/python -m lab.status_pictures docs/status

# One lock for all supported versions and platforms; no trace of the index it
# was made from. `make lock LOCK_ARGS=--upgrade` takes the newest of everything.
LOCK_ARGS ?=
LOCK := UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --universal \
    --python-version 3.10 --generate-hashes --no-emit-index-url --no-emit-find-links \
    --no-annotate $(LOCK_ARGS)

.PHONY: lock
lock: install ## Write requirements/*.txt anew from setup.cfg and requirements/*.in
	$(LOCK) setup.cfg --output-file requirements/runtime.txt
	$(LOCK) requirements/build.in --output-file requirements/build.txt
	$(LOCK) requirements/apache.in --output-file requirements/apache.txt
	$(LOCK) setup.cfg requirements/dev.in --constraint requirements/runtime.txt \
	    --constraint requirements/build.txt --output-file requirements/dev.txt

.PHONY: clean
clean: ## Remove what the other targets made
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
