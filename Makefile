# Each target installs what it needs, shows progress, and can be run on its own. `make` alone lists them.

CACHE := $(or $(ZENOP_CACHE),$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/zenop)
ZENML_VERSION := 0.98.0
VENV := $(CACHE)/zenml-$(ZENML_VERSION)
SERVER_VENV := $(CACHE)/zenml-server-$(ZENML_VERSION)
# The release before, from which databases are upgraded in tests.
ZENML_BEFORE := 0.97.0
SERVER_BEFORE := $(CACHE)/zenml-server-$(ZENML_BEFORE)
# Raise the number with the versions.
TOOLS := $(CACHE)/python-tools-1
# Archives of images. Raise the number with what is in them: cluster/images/.
ZENML_IMAGE := $(CACHE)/images/zenml-server-$(ZENML_VERSION)-1.tar
BEFORE_IMAGE := $(CACHE)/images/zenml-server-$(ZENML_BEFORE)-1.tar
MARIADB_IMAGE := $(CACHE)/images/mariadb-1.tar
DENY := $(CACHE)/cargo/bin/cargo-deny
# The machine's own architecture: a static binary for it is the image.
HOST := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
IMAGE_BINARY := target/$(HOST)/release/zenop
CLUSTER := target/debug/zenop-cluster

export ZENOP_ZENML := $(VENV)/bin/zenml
export ZENOP_ZENML_SERVER := $(SERVER_VENV)/bin/python
export ZENOP_ZENML_BEFORE := $(SERVER_BEFORE)/zenml
export ZENOP_TOOLS := $(TOOLS)/bin
export ZENOP_IMAGE_BINARY := $(CURDIR)/$(IMAGE_BINARY)
export ZENOP_ZENML_IMAGE := $(ZENML_IMAGE)
export ZENOP_BEFORE_IMAGE := $(BEFORE_IMAGE)
export ZENOP_MARIADB_IMAGE := $(MARIADB_IMAGE)

.PHONY: help demo test node-test bench fuzz check generate needs image zenml zenml-server zenml-before zenml-image before-image mariadb-image \
	peers browser python-tools cluster-tool
.DEFAULT_GOAL := help

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1 · /p' $(MAKEFILE_LIST) | column -t -s '·'

demo: needs cluster-tool image zenml ## the whole idea on a real Kubernetes, in a few minutes; KEEP=1 leaves it up
	KEEP=$(KEEP) cluster/demo.sh

test: needs zenml zenml-server zenml-before peers browser python-tools ## every test but those of real pods
	cargo test --workspace --no-fail-fast

node-test: needs cluster-tool image zenml zenml-image before-image mariadb-image ## the tests of real pods (root on Linux)
	cargo test --package zenop-cluster --test node --features zenop-cluster/node
	@# One after the other: each has a whole node.
	cargo test --package zenop --test node --features zenop/node -- --test-threads=1

bench: needs zenml-server ## the ratios of what zenop does to what the machine could do; ONLY=reconcile, secrets, references, latency, rest, door or polls
	cargo bench --bench ratios -- $(ONLY)

fuzz: needs ## a million cases of every parser that sees bytes of strangers; CASES= for another number
	PROPTEST_CASES=$(or $(CASES),1000000) cargo test --release --lib --test hermetic fuzz -- --nocapture

check: needs $(DENY) ## formatting, lints, docs, dependencies, generated files, chart
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --all-features -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
	$(DENY) --log-level error check bans licenses sources
	cargo test --quiet --test hermetic tidy
	cargo run --quiet --package zenop-cluster -- tools helm
	"$$(cargo run --quiet --package zenop-cluster -- tools helm | tail -1)" lint --strict charts/zenop

generate: ## make the generated files anew: CRDs, their copy in the chart, the API reference
	cargo run --quiet -- crds --dir crds --dir charts/zenop/crds-files --docs docs/api.md

image: needs ## the static binary that the image holds
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --bin zenop --target $(HOST)

cluster-tool:
	cargo build --quiet --package zenop-cluster

zenml: $(VENV)/bin/zenml

browser: ## Chromium and its driver, for the tests of the pages
	@found() { { command -v chromium || command -v chromium-browser || command -v google-chrome; } && command -v chromedriver; }; \
	found >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
		echo "installing Chromium" && apt-get install -y -qq --no-install-recommends chromium chromium-driver fonts-dejavu-core >/dev/null; } || { \
		echo "missing: chromium and chromedriver (apt-get install -y chromium chromium-driver)"; exit 1; }

$(VENV)/bin/zenml:
	@echo "installing the zenml client $(ZENML_VERSION): about a minute"
	python3 -m venv $(VENV)
	$(VENV)/bin/pip install --quiet "zenml==$(ZENML_VERSION)"

zenml-server: $(SERVER_VENV)/bin/uvicorn

$(SERVER_VENV)/bin/uvicorn:
	@echo "installing the zenml server $(ZENML_VERSION), to measure against: two minutes"
	python3 -m venv $(SERVER_VENV)
	$(SERVER_VENV)/bin/pip install --quiet "zenml[server]==$(ZENML_VERSION)"

zenml-before: $(SERVER_BEFORE)/zenml/VERSION

$(SERVER_BEFORE)/zenml/VERSION: $(SERVER_VENV)/bin/uvicorn
	@echo "installing the zenml server $(ZENML_BEFORE), to upgrade from"
	$(SERVER_VENV)/bin/pip install --quiet --no-deps --upgrade --target $(SERVER_BEFORE) "zenml==$(ZENML_BEFORE)"

peers: ## a MySQL server and a gateway, for the tests with them
	@found() { for it in mariadbd mariadb-install-db mariadb nginx; do command -v "$$it" || return 1; done; }; \
	packages="mariadb-server-core mariadb-client-core nginx-light"; \
	found >/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && \
		echo "installing MariaDB and nginx" && apt-get install -y -qq --no-install-recommends $$packages >/dev/null; } || { \
		echo "missing: mariadbd or nginx (apt-get install -y $$packages)"; exit 1; }

zenml-image: $(ZENML_IMAGE) ## the ZenML server as an image for the local node: its PyPI release on Debian's packages

$(ZENML_IMAGE): | cluster-tool $(SERVER_VENV)/bin/uvicorn
	@echo "making the image of the ZenML server: about a minute"
	mkdir -p $(@D)
	cluster/images/zenml.sh $(SERVER_VENV) zenop.dev/zenml-server:$(ZENML_VERSION) $@

before-image: $(BEFORE_IMAGE)

$(BEFORE_IMAGE): | cluster-tool $(SERVER_BEFORE)/zenml/VERSION
	@echo "making the image of the ZenML server of the release before: about a minute"
	mkdir -p $(@D)
	cluster/images/zenml.sh $(SERVER_VENV) zenop.dev/zenml-server:$(ZENML_BEFORE) $@ $(SERVER_BEFORE)

mariadb-image: $(MARIADB_IMAGE)

$(MARIADB_IMAGE): | cluster-tool
	@echo "making the image of a MariaDB server, for tests: half a minute"
	mkdir -p $(@D)
	cluster/images/mariadb.sh zenop.dev/mariadb:debian $@

python-tools: $(TOOLS)/bin/schemathesis

$(TOOLS)/bin/schemathesis:
	@echo "installing an OAuth client and a tester of OpenAPI documents: about a minute"
	python3 -m venv $(TOOLS)
	$(TOOLS)/bin/pip install --quiet authlib==1.9.9 requests==2.34.2 schemathesis==4.32.5

$(DENY):
	@echo "building cargo-deny: some minutes, once"
	cargo install --quiet --locked cargo-deny --version 0.20.2 --root $(CACHE)/cargo

needs:
	@missing=; for tool in cargo go python3 cc; do command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -n "$$missing" ]; then \
		echo "missing:$$missing"; \
		echo "get Rust from rustup, Go 1.26 or newer from your distribution, the rest as packages:"; \
		echo "  apt-get install -y python3 python3-venv build-essential"; exit 1; \
	fi
	@python3 -c 'import ensurepip' 2>/dev/null || { \
		[ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -y -qq python3-venv; } || { \
		echo "missing: python3-venv (apt-get install -y python3-venv)"; exit 1; }
