# make demo: install, train and evaluate on a synthetic herd, then name photographs of another one
#            (minutes, no data, no GPU)
# make test: install, then lint, types and the test suite
# make install: the set-up alone, once; the others reuse it
# make test-oldest: the tests on the lowest versions that setup.py allows, in .venv-oldest
# make test-newest: the tests on the newest ones and PYTHON_NEWEST, in .venv-newest
# make bench: time all of it on the CPU and write docs/performance.md (15 minutes, an idle machine)
# make bench-gpu: the same for one CUDA device

PYTHON ?= python3
PYTHON_OLDEST ?= python3.10
PYTHON_NEWEST ?= python3.13
VENV ?= .venv
EXTRAS ?= test,lint
PIP_FLAGS ?=
BIN := $(VENV)/bin
BENCHMARKS := photographs step evaluation reranking matching scale startup backends review

.PHONY: install demo test suite test-oldest test-newest lint bench bench-gpu

install: $(VENV)/.installed

$(VENV)/.installed: setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --quiet $(PIP_FLAGS) -e '.[$(EXTRAS)]'
	# wildlife-datasets brings an OpenCV that wants libGL; its headless twin does without.
	$(BIN)/python -c 'import cv2' 2>/dev/null || \
		$(BIN)/pip install --quiet --force-reinstall --no-deps opencv-python-headless
	touch $@

demo: install
	$(BIN)/python tools/train_net.py --config-file configs/ARBase/demo.yml --resume
	$(BIN)/python tools/demo_identify.py logs/demo

test: lint suite

suite: install
	# pytest-xdist waits for ever for the tests of a process that died, unless it may not replace it.
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --max-worker-restart 0

test-oldest:
	$(MAKE) suite VENV=.venv-oldest PYTHON=$(PYTHON_OLDEST) EXTRAS=test \
		PIP_FLAGS='-c tests/oldest.txt'

test-newest:
	$(MAKE) suite VENV=.venv-newest PYTHON=$(PYTHON_NEWEST) EXTRAS=test

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	set -e; for area in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$area --write; done

bench-gpu: install
	$(BIN)/python -m benchmarks.gpu --write
