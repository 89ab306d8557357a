# `make demo` and `make test` need Python ≥ 3.11, make and a package registry, nothing else.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
JOBS ?= 2

.PHONY: demo test test-all coverage asan mutants soak lint results clean

demo: $(VENV)/.demo
	$(BIN)/trainopt compare mnist-softmax --optimizers secant,full,diagonal,rankone,adam,sgd \
		--epochs 10 --seeds 3 --tune 8 --out demo

PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

test: $(VENV)/.installed
	$(PYTEST)

test-all: $(VENV)/.installed asan
	$(PYTEST) -m ''

# The kernels with every access to memory checked, through what users do to weights and state.
CXX_FOR_ASAN ?= g++
asan: $(VENV)/.installed
	cache=$$(mktemp -d) && trap 'rm -rf "$$cache"' EXIT && \
	TRAINOPT_CACHE="$$cache" CXX="$(CXX_FOR_ASAN) -fsanitize=address -g" \
	LD_PRELOAD="$$($(CXX_FOR_ASAN) -print-file-name=libasan.so) $$($(CXX_FOR_ASAN) -print-file-name=libstdc++.so)" \
	ASAN_OPTIONS=detect_leaks=0 $(BIN)/python -m pytest -q -k "not compiled" \
		tests/kernels/test_kernels.py tests/optim/test_checks.py tests/optim/test_exactness.py

# Some forty wrong changes to rules, optimizers, kernels and schedules: which no test notices.
mutants: $(VENV)/.installed
	$(BIN)/python tests/mutants/run.py

# Adversarial gradients for every variant, rule and dtype; some hours. Words choose among them.
SOAK_STEPS ?= 1000000
soak: $(VENV)/.installed
	$(BIN)/python tests/soak/soak.py --steps $(SOAK_STEPS) --out tests/soak/results $(SOAK)

# Apart from the tests, which it makes half as long again.
coverage: $(VENV)/.installed
	$(PYTEST) --cov --cov-report=term

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# The committed results, which the commands go on with; another folder makes them anew.
RESULTS ?= results
ALL := secant,full,diagonal,rankone,adam,adamw,sgd,momentum,adagrad,rmsprop,schedulefree-sgd,schedulefree-adamw
results: $(VENV)/.installed
	$(BIN)/trainopt compare mnist-softmax --optimizers $(ALL) \
		--epochs 10 --seeds 10 --tune 32 --out $(RESULTS)/mnist-softmax
	$(BIN)/trainopt compare digits-softmax --optimizers $(ALL) \
		--epochs 20 --seeds 10 --tune 32 --out $(RESULTS)/digits-softmax

# Every report of results/ drawn again in a copy: are its tables the committed ones?
.PHONY: results-check
results-check: $(VENV)/.installed
	$(BIN)/python tests/results/regenerate.py

# The studies, from their committed protocols: hours, half an hour twice, 10 minutes, seconds, hours.
.PHONY: studies
studies: $(VENV)/.installed
	$(BIN)/trainopt study convex --out $(RESULTS)/convex
	$(BIN)/trainopt study secant --out $(RESULTS)/secant
	$(BIN)/trainopt study scientific --out $(RESULTS)/scientific
	$(BIN)/trainopt study theory --out $(RESULTS)/theory
	$(BIN)/trainopt study memory --out $(RESULTS)/memory
	$(BIN)/trainopt study spectrum --out $(RESULTS)/spectrum
	$(BIN)/trainopt study deep --out $(RESULTS)/deep
	$(BIN)/trainopt study advice --out $(RESULTS)/advice

clean:
	rm -rf $(VENV) demo

# What the demo needs, a part of what development needs.
$(VENV)/.demo: requirements-dev.txt pyproject.toml | $(BIN)/python
	@echo "Installing what the demo needs into $(VENV): 0.4 GB to download, 1.8 GB on disk, with a CPU build of torch."
	test -e $(VENV)/.installed || { \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check \
			-c requirements-dev.txt --editable '.[demo]'; }
	touch $@

$(VENV)/.installed: requirements-dev.txt pyproject.toml | $(BIN)/python
	@echo "Installing all that development needs into $(VENV): 0.8 GB to download, 3.2 GB on disk, with a CPU build of torch."
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "Development needs Python 3.11 or newer: give one as PYTHON=python3.x")'
	$(PYTHON) -m venv $(VENV)
