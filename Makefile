# `make help` lists what there is to do.
SHELL := /bin/sh
PYTHON_IN_VENV := .venv/bin/python
.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

.PHONY: run
run: setup ## Open the store and print its address (PORT=8001 for another port than 8000)
	@export RUN_WORKER=$${RUN_WORKER:-on}; $(PYTHON_IN_VENV) manage.py prepare && exec .venv/bin/gunicorn simple_django_redis.wsgi

.PHONY: setup
setup: ## Make .venv and install what the store needs
	@bin/setup

.PHONY: setup-dev
setup-dev:
	@bin/setup dev

.PHONY: mysql
mysql: setup ## Install MySQL support, once what it is compiled with is there
	@bin/install .venv/bin/python requirements.lock

.PHONY: lock
lock: setup-dev ## Lock the requirements with hashes (UPGRADE=1: at the newest versions that they allow)
	@bin/lock

.PHONY: compare
compare: setup ## Compare both lists on the running store (N=200 requests each)
	@$(PYTHON_IN_VENV) -m bench.compare --requests $(or $(N),200) --url http://127.0.0.1:$(or $(PORT),8000)

.PHONY: bench
bench: setup-dev ## Compare ways of caching under load (writes docs/bench/ and docs/benchmarks.md)
	@bin/test-servers wrk
	@$(PYTHON_IN_VENV) -m bench.strategies

.PHONY: bench-cache
bench-cache: setup-dev ## Measure what a hit, a miss and an invalidation cost (writes docs/cache-costs.md)
	@bin/test-servers
	@$(PYTHON_IN_VENV) -m bench.cache_costs

.PHONY: bench-views
bench-views: setup-dev ## Compare ways of caching a whole answer (writes docs/view-caching.md)
	@bin/test-servers
	@$(PYTHON_IN_VENV) -m bench.views

.PHONY: bench-events
bench-events: setup-dev ## Measure how long a change takes to the clients of /store/events/
	@bin/test-servers
	@$(PYTHON_IN_VENV) -m bench.events

.PHONY: bench-import
bench-import: setup-dev ## Measure an import of N=1000000 rows: rows a second and memory
	@bin/test-servers
	@$(PYTHON_IN_VENV) -m bench.imports --rows $(or $(N),1000000)

.PHONY: bench-refresh
bench-refresh: setup-dev ## Measure what readers wait for while another process writes (docs/bench/refresh.md)
	@bin/test-servers
	@$(PYTHON_IN_VENV) -m bench.refresh

.PHONY: bench-statements
bench-statements: setup-dev ## Measure what table watch costs each SQL statement (docs/bench/statements.md)
	@bin/test-servers
	@$(PYTHON_IN_VENV) -m bench.statements

.PHONY: bench-lag
bench-lag: setup-dev ## Measure for how long a copy in another process may be old (writes docs/bench/lag.md)
	@bin/test-servers
	@$(PYTHON_IN_VENV) -m bench.lag

.PHONY: test
test: setup-dev ## Run the tests on MariaDB and Redis, and what engines may differ in on the embedded default
	@bin/test-servers wrk browser xgettext:gettext haproxy nginx:nginx-light
	@bin/test

.PHONY: test-coverage
test-coverage: setup-dev ## Run all tests at full depth on both engines, and measure what they cover
	@bin/test-servers wrk browser xgettext:gettext haproxy nginx:nginx-light
	@bin/test --all

.PHONY: test-alone
test-alone: setup-dev ## Run the tests that take a whole machine or server, one after the other
	@bin/test-servers
	@ENGINES=servers $(PYTHON_IN_VENV) -m pytest -q -m alone

.PHONY: test-all
test-all: test-coverage test-alone ## Run test-coverage, test-alone and, as root, test-scale
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) -s test-scale; else echo "test-scale is left out: it needs root."; fi

.PHONY: mutate
mutate: setup-dev ## Break the cache in one place after the other, and see that tests notice (ONLY=pattern, AREA=name)
	@bin/test-servers wrk
	@$(PYTHON_IN_VENV) -m tests.mutations.runner --only "$(ONLY)" --area "$(AREA)"

.PHONY: test-stress
test-stress: setup-dev ## Run the tests ROUNDS=10 times in random order beside LOOPS=4 busy loops
	@bin/test-servers wrk browser xgettext:gettext haproxy nginx:nginx-light
	@bin/test-stress --rounds $(or $(ROUNDS),10) --loops $(or $(LOOPS),4)

.PHONY: test-matrix
test-matrix: setup-dev ## Run the tests on other versions of Python, Django, MySQL and Redis
	@bin/test-servers wrk browser xgettext:gettext haproxy nginx:nginx-light
	@bin/test-matrix

.PHONY: test-scale
test-scale: setup-dev ## Run the tests of a store on several machines (as root: they are network namespaces)
	@bin/test-servers haproxy dnsmasq:dnsmasq-base ip:iproute2 cc:gcc
	@bin/test-scale

.PHONY: soak
soak: setup-dev ## Load and break a store on several machines for MINUTES=30 (writes docs/scale/soak.md)
	@bin/test-servers haproxy dnsmasq:dnsmasq-base ip:iproute2
	@$(PYTHON_IN_VENV) -m bench.soak --minutes $(or $(MINUTES),30)

.PHONY: screenshots
screenshots: setup-dev ## Take the README's pictures of the pages (writes docs/screenshots/)
	@bin/test-servers browser
	@bin/screenshots

.PHONY: messages
messages: setup-dev ## Collect the pages' texts for translation, and compile the translations
	@bin/test-servers xgettext:gettext
	@bin/messages

.PHONY: lint
lint: setup-dev ## Check style, types and migrations
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@$(PYTHON_IN_VENV) manage.py makemigrations --check --dry-run
	@$(PYTHON_IN_VENV) manage.py check --fail-level WARNING
