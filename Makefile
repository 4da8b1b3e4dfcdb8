# make pretrain   the demo: builds a corpus, pre-trains a small BERT, fills masks
# make test       all tests
# make parity     the tests against torch and transformers, which it installs into .venv as well, and
#                 those of recorded numbers with programs as users have them
# make tpu-compiler   the TPU compiler of --compile-for, into .venv-tpu; needs no TPU
# make compile-for-tpu   the tests with it
# make lint       ruff, mypy and shellcheck
# Each makes .venv on first use; a second run installs nothing.

# TensorFlow has no wheels for Python 3.14 yet.
IN_RANGE := import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c '$(IN_RANGE)' 2>/dev/null && echo $$python && break; done)
VENV := .venv
READY := $(VENV)/.installed
PARITY_READY := $(VENV)/.installed-parity
TPU_COMPILER := .venv-tpu
RUN := $(VENV)/bin/python

.PHONY: pretrain test parity tpu-compiler compile-for-tpu lint install

pretrain: install
	$(RUN) run_pretrain.py

# A worker takes neighbouring tests, so that runs which several of them read are made once.
test: install
	$(RUN) -m pytest -n auto --dist worksteal

# With programs as users have them: tests/conftest.py leaves out most of the compiler's work.
parity: $(PARITY_READY)
	JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(RUN) -m pytest tests/parity tests/test_trajectory.py tests/bert_jax/layers -n auto

tpu-compiler: $(TPU_COMPILER)/.installed

compile-for-tpu: tpu-compiler
	PYTHONPATH=$(TPU_COMPILER) $(RUN) -m pytest tests/tpu

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/shellcheck scripts/*.sh findings/*.sh .ci/run

install: $(READY)

$(READY): setup.cfg pyproject.toml constraints.txt
	@$(or $(PYTHON),false) -c '$(IN_RANGE)' || { \
		echo "error: no Python 3.11, 3.12 or 3.13 found; install one, or name it: make PYTHON=/path/to/python3.12" >&2; exit 2; }
	@echo "installing the packages into $(VENV); this takes a minute or two"
	@if command -v uv >/dev/null; then \
		uv venv --quiet --allow-existing --python "$$(command -v $(PYTHON))" $(VENV) && \
		uv pip install --quiet --python $(RUN) --constraint constraints.txt --editable '.[dev]'; \
	else \
		{ $(PYTHON) -m venv $(VENV) || { echo "error: $(PYTHON) cannot make a virtual environment; on Debian or Ubuntu: apt install python3-venv" >&2; exit 2; }; } && \
		$(RUN) -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'; \
	fi
	@touch $@

# By pip: an index of CPU builds of torch that is set up for pip is not seen by uv. seqeval is built from
# source: an older pip takes the versions for that from the first variable, a newer one from the second. Without
# --use-pep517 an older pip builds in another folder, from which the file of the constraints is not seen.
$(PARITY_READY): $(READY)
	@if command -v uv >/dev/null; then uv pip install --python $(RUN) pip; fi
	PIP_CONSTRAINT=constraints.txt PIP_BUILD_CONSTRAINT=constraints.txt \
		$(RUN) -m pip install --disable-pip-version-check --use-pep517 --constraint constraints.txt --editable '.[dev,parity]'
	@touch $@

# In a folder of its own: in .venv every run would look for a TPU first.
$(TPU_COMPILER)/.installed: $(READY)
	@if command -v uv >/dev/null; then uv pip install --python $(RUN) pip; fi
	$(RUN) -m pip install --disable-pip-version-check --constraint constraints.txt --no-deps --upgrade --target $(TPU_COMPILER) libtpu
	@touch $@
