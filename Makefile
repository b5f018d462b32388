# make demo: smoke past a knot, simulated      make test: every check and every test
# Both first make a virtual environment in .venv, once, and again when the requirements change. The demo installs what it
# needs (no torch, no linters), the tests add the rest.

VENV ?= .venv
BIN := $(VENV)/bin
PYTHON := $(VENV)/pyvenv.cfg
DEMO := $(VENV)/.demo-ready
READY := $(VENV)/.ready
INSTALL := $(BIN)/python -m pip install --constraint constraints.txt

.PHONY: demo test resolve lowest lint format coverage clean

demo: $(DEMO)
	$(BIN)/deepcd demo --out out/demo

# CUDA kernels run in numba's simulator, which has to be chosen before numba is imported. The matrices of the tests are so
# small that threads of OpenBLAS would wait for one another.
test: lint
	NUMBA_ENABLE_CUDASIM=1 $(BIN)/python -m pytest tests/test_cuda_kernels.py tests/test_cuda_solves.py tests/test_cuda_faces.py
	OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest

# What a machine meets that has the public index and nothing else: no wheels at hand, no settings of pip.
resolve:
	@python=$$(command -v python3.11 || command -v python3) && $$python .ci/resolve.py

# The oldest versions that pyproject.toml allows, in an environment of their own, on a selection of the tests.
LOWEST := .venv-lowest
lowest:
	python3.11 -m venv $(LOWEST)
	$(LOWEST)/bin/python -m pip install --constraint constraints-lowest.txt --editable ".[cli,fem,pinn,simulate,train]" \
		hypothesis pytest
	NUMBA_CACHE_DIR=$(LOWEST)/numba $(LOWEST)/bin/python -m pytest tests/test_cli.py tests/test_deepcd.py tests/test_fem.py \
		tests/test_flows.py tests/test_matrix_files.py tests/test_network.py tests/test_pinn_training.py \
		tests/test_simulation.py tests/test_skfem.py tests/test_volume_meshes.py tests/test_weight_files.py

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
	rm -rf $(VENV) $(LOWEST) build dist out .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name .git -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

$(PYTHON):
	@for python in python3.11 python3; do \
		$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
		echo "$$python -m venv $(VENV)"; \
		$$python -m venv $(VENV) && exit 0; \
		echo "error: $$python cannot make a virtual environment (on Debian: apt install python3-venv)"; exit 1; \
	done; echo "error: deepcd needs Python 3.11 or newer as python3.11 or python3"; exit 1

# Without --no-compile pip compiles every module of SciPy, most of which the demo never imports. setuptools, which comes
# with Python 3.11, and pip's own bytecode take space and are not needed.
$(DEMO): pyproject.toml constraints.txt | $(PYTHON)
	$(INSTALL) --no-compile --editable ".[cli,simulate]"
	@$(BIN)/python -m pip uninstall --quiet --yes setuptools 2>/dev/null
	@find $(VENV) -path '*/site-packages/pip/*' -name __pycache__ -prune -exec rm -r {} +
	@touch $@

$(READY): $(DEMO)
	$(INSTALL) --editable ".[all,lint,test]"
	@touch $@
