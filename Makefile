.DEFAULT_GOAL := help
GSCH := .venv/bin/gsch
CODE := cluster serving latency filters scheduler extender global gsch lab tests bench
WORKERS ?= 3
COVERED := 95

.PHONY: help setup demo demo-global test coverage test-fast test-pythons lint docs format lock lab image bench soak differential experiment clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## Make .venv from the hashed lock
	@scripts/setup

lab: setup ## Build the lab's binaries (about ten minutes the first time)
	@$(GSCH) lab build --all

demo: ## See pods placed and why: in seconds without Go, then on a control plane; KEEP=1 leaves that
	@scripts/setup --runtime
	@$(GSCH) demo $(if $(KEEP),--keep)

demo-global: setup ## See requests placed over five clusters by the layer's processes; one is cut off (two minutes)
	@$(GSCH) demo --global

test: setup ## Run every test, those on real control planes, nodes and browsers included
	@scripts/system-packages
	@$(GSCH) lab build --all || echo "tests on control planes are left out"
	@scripts/test-pythons
	$(if $(COVERAGE),.venv/bin/coverage erase)
	.venv/bin/python -m $(if $(COVERAGE),coverage run -m) pytest -n $(WORKERS) --dist worksteal
	$(if $(COVERAGE),@$(MAKE) -s coverage)

coverage: ## Say what of the code the last `make test COVERAGE=1` ran, in all processes, by branch
	.venv/bin/coverage combine -q
	.venv/bin/coverage report --fail-under=$(COVERED)

test-fast: setup ## Run the tests that need no servers
	.venv/bin/python -m pytest -q -m "not lab"

test-pythons: setup ## Run those under each further Python from 3.11 to 3.13 that is here
	@scripts/test-pythons

lint: setup ## Check style, types and layers
	.venv/bin/ruff check $(CODE)
	.venv/bin/ruff format --check $(CODE)
	.venv/bin/mypy
	.venv/bin/lint-imports

docs: setup ## Write the references anew from the code, and build the site into build/site
	.venv/bin/cog -I scripts -r docs/cli.md docs/configuration.md
	.venv/bin/python -m mkdocs build -q

format: setup ## Put the code into the project's style
	.venv/bin/ruff check --fix $(CODE)
	.venv/bin/ruff format $(CODE)

lock: ## Pin the dependencies again (needs uv)
	uv pip compile -q --universal --all-extras --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-header --python-version 3.11 pyproject.toml -o requirements.lock
	uv pip compile -q --universal --all-extras --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-header --python-version 3.11 pyproject.toml --group dev -o requirements-dev.lock
	uv pip compile -q --universal --all-extras --generate-hashes --no-emit-index-url --no-emit-find-links \
		--no-header --python-version 3.11 pyproject.toml --group dev --group experiment \
		-o requirements-experiment.lock

image: ## Build the container image into gsch.tar, on Debian and without a registry (root; two minutes)
	@scripts/image gsch.tar

bench: setup lab ## Drain 10,000 pods on 5,000 nodes with gsch and kube-scheduler in turns
	.venv/bin/python -m bench.drain

soak: setup lab ## Watch memory over 200,000 pods that come and go, then kill the global layer 500 times, and its parts (2 hours)
	.venv/bin/python -m bench.soak
	GSCH_KILLS=500 .venv/bin/python -m pytest -q --timeout 7200 tests/front_door/federation/test_endurance.py -k killed_again
	GSCH_REQUESTS=500 .venv/bin/python -m pytest -q --timeout 7200 tests/front_door/federation/test_apart.py -k killed_in_turn

differential: setup lab ## Compare with kube-scheduler: verdicts, victims, volumes of random pods
	.venv/bin/python -m bench.differential --worlds 100 --pods 50
	.venv/bin/python -m bench.differential.preemption --worlds 20
	.venv/bin/python -m bench.differential.volumes --worlds 40

experiment: setup lab ## Place a video pipeline on six real nodes in three ways (root; 25 min; ARGS=--quick: 2)
	.venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes \
		-r requirements-experiment.lock
	.venv/bin/python -m bench.pipeline $(ARGS)

clean: ## Remove environments and caches of this checkout
	rm -rf .venv .venv-3.* .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
