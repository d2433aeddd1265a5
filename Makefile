# Two commands for everyone: `make demo` runs the product, `make test` its tests. Both set up what they need.
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# uv on the machine, or else the one that bootstrap installs into .venv
UV := $(or $(shell command -v uv 2>/dev/null),$(BIN)/uv)
SYNCED := .venv/.synced
PYTEST_ARGS ?=
# The tests start some hundreds of Pythons: where nothing compiled may be kept, each compiles anew all that it imports.
unexport PYTHONDONTWRITEBYTECODE
# Most tests of the real parts wait more than they compute: three at a time on two cores, file by file, those of real
# parts first and the quick ones last, which fill whatever time is left on either core.
WORKERS ?= 3

.PHONY: help setup demo test long unit light aws lint types bench truth clean

help: ## what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

setup: $(SYNCED) ## the virtual environment, with every room in it

$(SYNCED): uv.lock pyproject.toml */pyproject.toml deploy/local/pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "deploytrail needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Set PYTHON=…"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
		{ echo "the venv module is missing: install it (Debian: apt-get install python3-venv)"; exit 1; }
	@command -v $(UV) >/dev/null || { echo "installing uv into .venv"; $(BIN)/python -m pip install --quiet 'uv>=0.13,<0.14'; }
	$(UV) sync --locked
	@touch $@

demo: setup ## start the embedded stack, play a first day, print what was planted and found
	@exec $(BIN)/deploytrail demo

test: setup ## every test, real Kafka included
	@exec $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# The suite kills, rebalances and flips bytes a few times; these are the whole numbers. One at a time: two hours.
long: setup ## the promises at full length: 50 kills, 80 rebalances, 20 zombies, every byte of an archive
	@DEPLOYTRAIL_TEST_KILLS=50 DEPLOYTRAIL_TEST_REBALANCES=80 exec $(BIN)/pytest tests/chaos/test_kill_9.py tests/chaos/test_rebalances.py $(PYTEST_ARGS)
	@DEPLOYTRAIL_TEST_RESTARTS=20 DEPLOYTRAIL_TEST_REBALANCES=8 DEPLOYTRAIL_CHAOS=full DEPLOYTRAIL_TEST_EVERY_BYTE=1 exec $(BIN)/pytest \
		tests/chaos/test_processors.py tests/chaos/test_clickhouse_sink_members.py tests/chaos/test_archive_writers.py \
		tests/unit/sinks/test_archive_every_byte.py $(PYTEST_ARGS)

unit: setup ## the tests without I/O
	@exec $(BIN)/pytest tests/unit $(PYTEST_ARGS)

light: setup ## the producers' tests with nothing but the producers installed
	@$(UV) run --quiet --isolated --locked --package deploytrail --no-default-groups --with 'pytest<10' \
		--with 'pytest-timeout<3' --with 'hypothesis<7' \
		pytest tests/unit/producers --ignore-glob '*/producers/test_gateway*.py' -p no:cacheprovider $(PYTEST_ARGS)

# An environment of its own: only what runs on AWS is there.
aws: setup ## the tests of what runs on AWS, with boto3 and cfn-lint
	@$(UV) run --quiet --isolated --locked --package deploytrail --extra signing --no-default-groups --with 'boto3<2' \
		--with 'cfn-lint<2' --with 'pyjwt[crypto]<3' --with 'pytest<10' --with 'pytest-timeout<3' \
		pytest tests/aws -p no:cacheprovider $(PYTEST_ARGS)

lint: setup ## ruff and mypy
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

bench: setup ## the numbers, measured on this machine, as ratios of one run
	@PYTHONPATH=tests exec $(BIN)/python -m benchmarks $(BENCH)

truth: setup ## how right correlation is, on simulated companies whose causes are known
	@PYTHONPATH=tests exec $(BIN)/python -m truth $(TRUTH)

clean: ## what the embedded stack left: data, logs, state
	-$(BIN)/deploytrail down
	rm -rf .deploytrail
