# make demo    set up, run the main job on the demo section, open it in napari where there is a display
# make test    set up, then lint, types and tests
# make setup   only set up
# make bench   speed and scale (BENCH=--quick for 100,000 cells at most); make bench-annotation: scores, an hour
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
OUT    ?= demo_output

.PHONY: setup demo test check bench bench-setup bench-annotation clean

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml constraints.txt scripts/system_packages.sh
	sh scripts/system_packages.sh
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; say which: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: setup
	$(BIN)/stplm demo --out $(OUT)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Two processes that take work from each other (worksteal: the scheduler that goes on when a process dies; loadfile waits
# for ever, pytest-xdist's issue 1378); each with one thread, or they would wait for each other. A test that failed is
# run once more alone: a real window may be late where another one is busy, but not twice.
AGAIN := --last-failed --last-failed-no-failures none
TESTS := OMP_NUM_THREADS=1 $(BIN)/python -m pytest
test: check
	$(TESTS) -n 2 --dist worksteal --ignore tests/napari || $(TESTS) $(AGAIN) --ignore tests/napari
	$(TESTS) -n 2 --dist worksteal tests/napari || $(TESTS) $(AGAIN) tests/napari

bench-setup: setup
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,bench]'

bench: bench-setup
	$(BIN)/python -m benchmarks.run $(BENCH)

bench-annotation: bench-setup
	$(BIN)/python benchmarks/annotation.py

clean:
	rm -rf $(VENV) $(OUT) .pytest_cache .mypy_cache .ruff_cache
