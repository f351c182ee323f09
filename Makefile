# make demo: install, then train and evaluate on a synthetic herd (minutes, no data, no GPU)
# make test: install, then lint, types and the test suite
# make install: the set-up alone, once; the others reuse it
# make bench: time all of it on the CPU and write docs/performance.md (15 minutes, an idle machine)
# make bench-gpu: the same for one CUDA device

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
BENCHMARKS := photographs step evaluation reranking scale startup

.PHONY: install demo test lint bench bench-gpu

install: $(VENV)/.installed

$(VENV)/.installed: setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --disable-pip-version-check --quiet -e '.[test]'
	# wildlife-datasets brings an OpenCV that wants libGL; its headless twin does without.
	$(BIN)/python -c 'import cv2' 2>/dev/null || \
		$(BIN)/pip install --quiet --force-reinstall --no-deps opencv-python-headless
	touch $@

demo: install
	$(BIN)/python tools/train_net.py --config-file configs/ARBase/demo.yml --resume

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install
	set -e; for area in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$area --write; done

bench-gpu: install
	$(BIN)/python -m benchmarks.gpu --write
