# Every target sets up what it needs in .venv: nothing is asked, nothing is assumed but Python 3.11 or newer.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint format docs bench fuzz soak minimal python312 ordinary audit-dependencies clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    set up, run the quickstart on the embedded corpus, print the path of its report"
	@echo "make test    set up, run every test      make lint    ruff and mypy"
	@echo "make docs    build the site into site/   make bench   ratios against plain PyTorch"
	@echo "make fuzz    tamper with everything that is read (FUZZ_CASES in all, or FUZZ_SECONDS)"
	@echo "make minimal install the oldest versions that are allowed beside .venv, and run MINIMAL_TESTS"
	@echo "make python312  a selection of tests (PYTHON312_TESTS) on Python 3.12, in an environment of its own"
	@echo "make ordinary   what rights, links and hostile folders are about (ORDINARY_TESTS), as a user who may not do everything"
	@echo "make audit-dependencies  advisories of the installed packages, where they can be had"
	@echo "make soak    kill runs at SOAK_KILLS random moments and before every call that changes a file, and compare what comes out"

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev,docs]"
	touch $(READY)

demo: $(READY)
	$(BIN)/mmcl run quickstart --out runs/quickstart

# One thread in each of the two workers: more of them than cores wait for each other most of the time. Compiled modules are kept, even
# where the surroundings say otherwise: tests start hundreds of processes, each of which would compile all of mmcl anew.
test: $(READY)
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist worksteal

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(READY)
	$(BIN)/python docs/build.py
	$(BIN)/mkdocs build --strict

bench: $(READY)
	$(BIN)/python -m benchmarks

FUZZ_CASES ?= 20000
FUZZ_SECONDS ?= 1e9
fuzz: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m fuzz --cases $(FUZZ_CASES) --seconds $(FUZZ_SECONDS)

SOAK_KILLS ?= 105
soak: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m soak moments --kills $(SOAK_KILLS)
	OMP_NUM_THREADS=1 $(BIN)/python -m soak moments --kills 14 --what rerun
	OMP_NUM_THREADS=1 $(BIN)/python -m soak moments --kills 14 --what sweep
	OMP_NUM_THREADS=1 $(BIN)/python -m soak calls
	OMP_NUM_THREADS=1 $(BIN)/python -m soak calls --kill --every 6

# Packages into an environment of its own ($(1): folder, $(2): what pip is told). Where they cannot be had within PATIENCE seconds a sentence
# says so and ends it well; versions that do not fit each other are a fault of ours.
PATIENCE ?= 900
define packages
{ timeout $(PATIENCE) $(1)/bin/python -m pip install --quiet $(2) --editable . pytest pytest-timeout hypothesis hatchling 2>$(1)/words || { \
  grep ResolutionImpossible $(1)/words && exit 1; \
  echo "packages for $(1) cannot be had, so nothing was tested in it: $$(grep ERROR $(1)/words | tail -n 1)"; exit 0; }; }
endef

# The oldest versions that pyproject.toml allows; MINIMAL_TESTS: which tests.
MINIMAL := .venv-minimal
MINIMAL_TESTS ?= tests/test_minimal.py tests/test_mending.py tests/test_stages.py tests/test_media.py tests/test_report.py tests/test_model.py tests/test_evaluate.py
minimal:
	@test -x $(MINIMAL)/bin/python || $(PYTHON) -m venv $(MINIMAL)
	@$(call packages,$(MINIMAL),--constraint constraints/minimal.txt); \
	OMP_NUM_THREADS=1 $(MINIMAL)/bin/python -m pytest $(MINIMAL_TESTS)

# A selection on Python 3.12. Where there is none, a sentence says so. Each candidate is tried: a name on the path may be one that only says
# which versions there are.
PYTHON312 ?= python3.12 $(wildcard $(HOME)/.pyenv/versions/3.12*/bin/python3.12 /opt/pyenv/versions/3.12*/bin/python3.12)
NEWER := .venv-312
PYTHON312_TESTS ?= tests/test_recipe_read.py tests/test_plan.py tests/test_evaluate.py tests/test_model.py tests/test_windows.py tests/test_score.py tests/test_data.py tests/test_foreign.py
python312:
	@for one in $(PYTHON312); do test -x $(NEWER)/bin/python || $$one -m venv $(NEWER) 2>/dev/null || true; done; \
	test -x $(NEWER)/bin/python || { \
	  echo "no Python 3.12 that makes an environment is at hand: nothing was tested on it (name one by PYTHON312=…)"; exit 0; }; \
	$(call packages,$(NEWER)); \
	OMP_NUM_THREADS=1 $(NEWER)/bin/python -m pytest $(PYTHON312_TESTS)

# What rights, links and hostile folders are about: `make test` may run as root, who may do everything; this runs as an ordinary user.
ORDINARY_TESTS ?= tests/test_ordinary.py tests/test_foreign.py tests/test_hostile.py tests/test_reading.py tests/test_environment.py
ordinary: $(READY)
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= .ci/ordinary $(BIN)/python -m pytest -p no:cacheprovider $(ORDINARY_TESTS)

# pip-audit in an environment of its own: what it needs is no dependency of ours.
AUDIT := .venv-audit
audit-dependencies: $(READY)
	test -x $(AUDIT)/bin/pip-audit || { $(PYTHON) -m venv $(AUDIT) && $(AUDIT)/bin/python -m pip install --quiet pip-audit; }
	rm -f $(AUDIT)/report.json
	-$(AUDIT)/bin/pip-audit --format json --progress-spinner off --output $(AUDIT)/report.json --path $$($(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))") 2>$(AUDIT)/words
	$(BIN)/python constraints/advisories.py $(AUDIT)/report.json

clean:
	rm -rf $(VENV) $(MINIMAL) $(NEWER) $(AUDIT) site dist .pytest_cache .mypy_cache .ruff_cache
