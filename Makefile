# Everything a developer needs; the virtual environment is made when it is first wanted.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test clients lint format dashboards bench ci clean

help:            ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */\t/' | expand -t 12

$(BIN)/tallygate: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[demo,test,lint]'
	@touch $@

demo: $(BIN)/tallygate     ## see it count: a mock AI API, the gateway, three organizations
	$(BIN)/tallygate demo

# One worker for each processor, four at most. What tests start finds its modules compiled, whatever the machine's habit is.
test: $(BIN)/tallygate     ## run all tests
	env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal

clients: $(BIN)/tallygate  ## try every client from PyPI and npm (docs/clients.md), or ONLY='claude or aider'
	$(BIN)/python -m pytest tests/clients -m '' -k '$(ONLY)' -v -p no:randomly --timeout 900

lint: $(BIN)/tallygate     ## ruff, formatting, mypy, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(BIN)/tallygate   ## format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

dashboards: $(BIN)/tallygate    ## write grafana/dashboards from grafana/generator
	$(BIN)/python -m grafana.generator

bench: $(BIN)/tallygate    ## measure the gateway beside nginx, Envoy and a naive proxy
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python -m bench

ci:              ## what the build server runs
	.ci/run

clean:           ## remove what can be made again
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
