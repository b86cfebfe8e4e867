# Everything a developer needs; the virtual environment is made when it is first wanted.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo quick test packages clients soak chaos lint format dashboards site pictures bench rivals ratchet ci clean

help:            ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 12

# The extra of pyproject.toml that a target needs is installed when it is first wanted, and again when pyproject.toml has changed.
$(VENV)/with-%: pyproject.toml
	@test -x $(BIN)/python || { echo "Making a virtual environment in $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "Installing tallygate with what '$*' needs into $(VENV)"
	$(BIN)/pip install --disable-pip-version-check --no-warn-script-location --progress-bar off -e '.[$*]'
	@touch $@

demo: $(VENV)/with-demo    ## see it count: a mock AI API, the gateway, three organizations
	$(BIN)/tallygate demo

# One worker for each processor, four at most. What tests start finds its modules compiled, whatever the machine's habit is.
# The order is shuffled, and examples are made up, from SEED: each run is the same.
SEED   ?= 1
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest --randomly-seed=$(SEED) --durations=20 \
	--numprocesses logical --maxprocesses 4 --dist worksteal

# These tests wait for sockets and timers now and then: three workers keep two processors busy.
quick: $(VENV)/with-test   ## run the tests that start no process: about two minutes
	TEST_SEARCH=short $(PYTEST) --numprocesses $$(( $$(getconf _NPROCESSORS_ONLN) * 3 / 2 )) -m 'not process and not clients'

test: packages $(VENV)/with-test $(BIN)/helm    ## run all tests, after installing the servers that they start
	$(PYTEST)

$(BIN)/helm: $(VENV)/with-test
	@$(BIN)/python .ci/helm $@

packages:
	@PYTHON=$(PYTHON) .ci/packages

clients: $(VENV)/with-test ## try every client from PyPI and npm (docs/clients.md), or ONLY='claude or aider'
	$(BIN)/python -m pytest tests/clients -m '' -k '$(ONLY)' -v -p no:randomly --timeout 900

soak: packages $(VENV)/with-test ## half an hour of everything at once: sums, leaks, log; or SECONDS=60
	TALLYGATE_SOAK_SECONDS=$(or $(SECONDS),1800) $(BIN)/python -m pytest tests/system/test_soak.py -v -p no:randomly --timeout 7200

# The plan is drawn from a seed, which is told: a new one each time unless SEED is given. PLAN is a file of steps, as a run writes it.
chaos: packages $(VENV)/with-test ## 1,000 kills, partitions, failovers, pauses, clocks: every account is compared; or KILLS=20 SEED=7
	TALLYGATE_CHAOS_KILLS=$(or $(KILLS),1000) TALLYGATE_CHAOS_SEED=$(if $(filter command,$(firstword $(origin SEED))),$(SEED)) \
	TALLYGATE_CHAOS_PLAN=$(PLAN) $(BIN)/python -m pytest tests/system/chaos/test_chaos.py -s -p no:randomly

lint: $(VENV)/with-test $(VENV)/with-lint    ## ruff, formatting, mypy, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/with-lint  ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

dashboards: $(VENV)/with-test    ## write grafana/dashboards from grafana/generator
	$(BIN)/python -m grafana.generator

site: $(VENV)/with-docs    ## make a site of the documentation in dist/site
	$(BIN)/sphinx-build --quiet --nitpicky --fail-on-warning --keep-going -c docs/site . dist/site

pictures: $(VENV)/with-test    ## take docs/pictures of the Usage page and the Grafana dashboards, as the demo shows them
	$(BIN)/python docs/site/pictures.py
	PYTHONPATH=tests $(BIN)/python docs/site/dashboards.py

bench: $(VENV)/with-bench  ## measure the gateway beside nginx, Envoy, a naive proxy and its rivals, and over each topology of the store
	PYTHONPATH=tests $(BIN)/python -m bench $(BENCH)

rivals: $(VENV)/with-bench ## install LiteLLM, TensorZero and Portkey for `make bench`, apart from everything else: two minutes
	$(BIN)/python -m bench.rivals

ratchet: $(VENV)/with-test    ## count instructions and calls of a request, beside bench/instructions.json
	@PYTHON=$(PYTHON) .ci/packages valgrind
	$(BIN)/python -m bench.instructions

ci:              ## what the build server runs
	.ci/run

clean:           ## remove what can be made again
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
