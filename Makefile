# Each target makes the virtual environment it needs; nothing is installed outside .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help

.PHONY: help
help: ## Show what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "semia needs Python 3.11 or newer: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[all,dev]'
	@touch $@

.PHONY: install
install: $(INSTALLED) ## Make .venv with everything pinned as tested

.PHONY: demo
demo: $(INSTALLED) ## Make the pagoda's generator, serve it with Triton, get new pictures over gRPC
	$(BIN)/semia train-and-export examples/pagoda --resume --run demo/run --bundle demo/bundle --repository demo/model_repository
	$(BIN)/python examples/demo.py

.PHONY: side-by-side
side-by-side: $(INSTALLED) ## Prepare one generator of the pagoda, train the other for three minutes, compare them
	$(BIN)/semia train examples/pagoda --resize 0.35 --resume --run demo/copying
	$(BIN)/semia train examples/pagoda --resize 0.35 --minutes 3 --resume --run demo/published --preset paper-short
	$(BIN)/semia compare demo/copying demo/published --sheet demo/side_by_side.png

STUDIO := demo/studio

$(STUDIO)/model_repository/pagoda: | $(INSTALLED)
	mkdir -p $(STUDIO) && cp -R examples/pagoda $(STUDIO)/
	$(BIN)/semia train-and-export $(STUDIO)/pagoda --resize 0.89 --resume --run $(STUDIO)/runs/pagoda --bundle $(STUDIO)/bundles/pagoda --repository $(STUDIO)/model_repository

.PHONY: studio
studio: $(STUDIO)/model_repository/pagoda ## Open the studio in the browser, on a copy of the pagoda
	$(BIN)/semia studio $(STUDIO)/pagoda --uploads $(STUDIO)/scenes --repository $(STUDIO)/model_repository --runs $(STUDIO)/runs --bundles $(STUDIO)/bundles

SCENES := $(notdir $(patsubst %/,%,$(wildcard examples/scenes/*/)))

.PHONY: scenes
scenes: $(INSTALLED) ## Prepare generators of the example scenes, judge them, make their sheets and table
	for scene in $(SCENES); do \
		$(BIN)/semia train examples/scenes/$$scene --overwrite --run demo/scenes/$$scene \
			&& $(BIN)/semia evaluate demo/scenes/$$scene || exit 1; \
	done
	$(BIN)/python examples/scenes.py

# How long the published generator is trained does not change how fast it answers. A few iterations are enough for its
# pictures in eight bits to pass their gate, which an untrained one's do not.
BENCH_SCENE ?= examples/pagoda
BENCH_RESIZE ?= 0.89
BENCH_RUNS := demo/bench/copying demo/bench/published
BENCH_BUNDLES := demo/bench/published-fp32 demo/bench/published-int8

demo/bench/copying: | $(INSTALLED)
	$(BIN)/semia train $(BENCH_SCENE) --resize $(BENCH_RESIZE) --resume --run $@

demo/bench/published: | $(INSTALLED)
	$(BIN)/semia train $(BENCH_SCENE) --resize $(BENCH_RESIZE) --preset paper --minutes 3 --resume --run $@

demo/bench/published-fp32: | demo/bench/published
	$(BIN)/semia export demo/bench/published --bundle $@

demo/bench/published-int8: | demo/bench/published
	$(BIN)/semia export demo/bench/published --precision int8 --bundle $@

.PHONY: bench
bench: $(BENCH_RUNS) $(BENCH_BUNDLES) ## Measure both generators, and write examples/bench.json, its plot and docs/performance.md
	$(BIN)/semia bench $(BENCH_RUNS) $(BENCH_BUNDLES) --concurrency 1,8 --figures examples/bench.json --plot examples/bench.png --readme docs/performance.md

# The Python that sees the GPU: nothing is installed for these checks.
GPU_PYTHON ?= $(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON))

.PHONY: gpu-checks
gpu-checks: ## Measure on this machine's NVIDIA GPU all that is promised there, in at most ten minutes
	$(GPU_PYTHON) -m tests.load.gpu_checks --output examples/gpu.json --sheet examples/gpu.png

.PHONY: test
test: $(INSTALLED) ## Run every test but the slow and GPU ones, with a real Triton
	$(BIN)/python -m pytest -m 'not slow and not gpu' --numprocesses 2 --dist worksteal

# The rooms under their import names, for what reads files and runs nothing: mypy, editors. See docs/design.md.
ROOMS := client export serving studio training

.PHONY: build/typing
build/typing:
	rm -rf $@ && mkdir -p $@/semia
	ln -s $(addprefix ../../../,$(filter-out %/__pycache__,$(wildcard semia/*)) $(ROOMS)) $@/semia

.PHONY: lint
lint: $(INSTALLED) build/typing ## Check style, types and who imports whom
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	cd build/typing && ../../$(BIN)/lint-imports --no-logo --cache-dir ../../.import_linter_cache ../../pyproject.toml

build/node: ## Install what checks the types of the studio's page, with npm
	npm install --prefix $@ --no-save --no-package-lock --no-audit --no-fund --silent typescript@7.0.2

.PHONY: format
format: $(INSTALLED) ## Format every file
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

.PHONY: clean
clean: ## Remove the demo and caches; your runs, bundles and models stay
	rm -rf demo build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
