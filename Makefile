# make demo: smoke past a knot, simulated      make test: every check and every test
# Both first make a virtual environment in .venv, once, and again when the requirements change.

VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: demo test lint format coverage clean

demo: $(READY)
	$(BIN)/deepcd demo --out out/demo

# CUDA kernels run in numba's simulator, which has to be chosen before numba is imported.
test: lint
	NUMBA_ENABLE_CUDASIM=1 $(BIN)/python -m pytest tests/test_cuda_kernels.py tests/test_cuda_solves.py
	$(BIN)/python -m pytest

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

# The bodies of compiled kernels are seen only where they run as plain Python, which the second run does on small sizes.
coverage: $(READY)
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q
	NUMBA_DISABLE_JIT=1 $(BIN)/coverage run --append -m pytest -q -m "not compiled"
	$(BIN)/coverage report

clean:
	rm -rf $(VENV) build dist out .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@for python in python3.11 python3; do \
		$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		echo "$$python -m venv $(VENV)"; \
		$$python -m venv $(VENV) && exit 0; \
		echo "error: $$python cannot make a virtual environment (on Debian: apt install python3-venv)"; exit 1; \
	done; echo "error: deepcd needs Python 3.11 or newer as python3.11 or python3"; exit 1
	$(BIN)/python -m pip install --constraint constraints.txt --editable ".[adapters,lint,test]"
	@touch $@
