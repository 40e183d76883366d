# Two commands for a newcomer: `make demo` and `make test`. Each makes its own environment.
PYTHON ?= python3
LOWEST ?= python3.10
NEWEST ?= python3.13
# What uses the library; all other tests are of the library itself, and must cover so many percent of it.
USES = tests/distributed tests/examples tests/integrations tests/test_benchmarks.py tests/test_benchmark_tasks.py
COVERAGE = 94
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check
# A published generator, without what it needs for its own training; left out where it does not install.
FACES = 'gan-face-generate; python_version < "3.13"'

.PHONY: demo test lint types unit dist sdist-unit smoke lowest wheel site test-long test-lowest test-newest format clean

## Install the examples and run two: a differential equation, and rotation against MP-SSL on built-in data.
demo: $(VENV)/example
	$(BIN)/python -m examples.pinn
	$(BIN)/python -m examples.mpssl

## Install everything and pass all fast checks; CI runs this.
test: lint types wheel site sdist-unit smoke lowest

lint: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

types: $(VENV)/dev
	$(BIN)/mypy

unit: $(VENV)/dev
	$(BIN)/python -m pytest -q -n 2 -rs

## The wheel and the sdist, as they are released.
dist: $(VENV)/dev
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(BIN)/twine check --strict dist/*

## The same tests as `unit`, on what the sdist holds, from its own folder; those of the library with the branches that
## they cover.
sdist-unit: dist
	rm -rf build/sdist && mkdir -p build/sdist
	tar xzf dist/*.tar.gz -C build/sdist --strip-components 1
	cd build/sdist && $(abspath $(BIN))/python -m pytest -q -n 2 -rs --durations=15 $(USES)
	cd build/sdist && $(abspath $(BIN))/python -m pytest -q -n 2 -rs --durations=15 $(USES:%=--ignore=%) \
	  --cov=gradbalance --cov-branch --cov-report=term:skip-covered --cov-fail-under=$(COVERAGE)

## The examples on a few images, start to end.
smoke: $(VENV)/dev
	rm -rf build/smoke
	$(BIN)/python -m examples.mpssl --max-train 64 --max-test 64 --epochs 1 --out build/smoke/mpssl
	$(BIN)/python -m examples.pinn --adam-steps 20 --lbfgs-steps 10 --out build/smoke/pinn
	$(BIN)/python -m examples.metapseudo --num-steps 2 --map-steps 2 --batch-size 8 --num-samples 8 --out build/smoke/metapseudo

## The tests of numerics, solvers and plots with the lowest versions of NumPy, SciPy and matplotlib, and the pinned torch.
lowest:
	rm -rf build/lowest
	$(PYTHON) -m venv build/lowest
	(grep -v ^torch== constraints-lowest.txt; grep ^torch== constraints.txt) > build/lowest/constraints.txt
	build/lowest/bin/python -m pip --disable-pip-version-check install -q -c build/lowest/constraints.txt -e '.[test]'
	build/lowest/bin/python -m pytest -q -n 2 tests/numerics tests/solvers tests/test_report_and_history.py \
	  tests/test_comparison.py tests/test_replay.py

## A wheel, installed without extras in a clean environment and used from outside the checkout.
wheel: dist
	rm -rf build/wheel
	$(PYTHON) -m venv build/wheel/env
	build/wheel/env/bin/python -m pip --disable-pip-version-check install -q -c constraints.txt dist/*.whl
	cd build/wheel && env/bin/python -W error ../../.ci/wheel_check.py

## The documentation, in build/site; a warning, or a link that leads nowhere, is an error.
site: $(VENV)/dev
	$(BIN)/sphinx-build -q -W --keep-going -b html docs build/site

## The fast tests, without those of the frameworks, with the lowest versions that we claim to support and with the newest
## ones. Each installs gigabytes.
test-lowest:
	$(call test-with,$(LOWEST),-c constraints-lowest.txt)

test-newest:
	$(call test-with,$(NEWEST),)

define test-with
	$(1) -m venv build/$@
	build/$@/bin/python -m pip --disable-pip-version-check install -q $(2) -e '.[test]'
	build/$@/bin/python -m pytest -q -n 2 -rs
endef

## The checks that take minutes.
test-long: $(VENV)/dev
	$(BIN)/python -m pytest -q -n 2 -m long

format: $(VENV)/dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist *.egg-info

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/example $(VENV)/dev: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) install -q -c constraints.txt -e '.[$(@F)]'
	$(PIP) install -q -c constraints.txt --no-deps $(FACES)
	if [ $(@F) = dev ]; then $(PIP) install -q -c constraints.txt -e '.[integrations]' || \
	  echo 'the frameworks of .[integrations] do not install here: tests with them are skipped'; fi
	touch $@
