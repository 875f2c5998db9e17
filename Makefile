# Two commands: `make campaign` runs the example to its end, `make test` passes the tests. Both set everything up first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# One thread per process: Ray runs several processes, and results then do not depend on the number of cores.
export OMP_NUM_THREADS := 1

.PHONY: setup dft campaign test test-platform test-services test-others test-all check weights lock wheel clean

setup: $(READY)

# The locked versions are for one version of Python.
PYTHON_CHECK := $(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else "error: Python 3.11 is needed; got %d.%d; set PYTHON=/path/to/python3.11" % v)'

# Locked and repeatable: exactly the versions in requirements.lock, then the project itself, built by the locked
# hatchling, without resolving or fetching anything.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON_CHECK)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	@touch $(READY)

# Electronic-structure programs for the oracles gpaw, feff and espresso: Debian's packages, then the locked Python ones.
# GPAW has no wheel and is built here, in a minute or two.
DFT := $(VENV)/.dft
DFT_PACKAGES := g++ libopenmpi-dev openmpi-bin libxc-dev libopenblas-dev libfftw3-dev quantum-espresso quantum-espresso-data
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)

dft: $(DFT)

$(DFT): requirements-dft.lock deploy/dft/siteconfig.py $(READY)
	dpkg -s $(DFT_PACKAGES) 2>/dev/null | grep -c "^Status: install ok installed" | grep -qx $(words $(DFT_PACKAGES)) || { $(SUDO) apt-get update -q && \
		$(SUDO) env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(DFT_PACKAGES); }
	GPAW_CONFIG=$(CURDIR)/deploy/dft/siteconfig.py $(BIN)/python -m pip install --quiet --disable-pip-version-check \
		-c requirements.lock -r requirements-dft.lock
	$(BIN)/python -c "import _gpaw; _gpaw.Communicator" || GPAW_CONFIG=$(CURDIR)/deploy/dft/siteconfig.py \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps --force-reinstall \
		$$(grep gpaw== requirements-dft.lock)  # one without MPI was there, or in pip's cache
	$(BIN)/python -m pip check
	$(BIN)/python -c "import feff10, gpaw, gpaw_data, _gpaw; _gpaw.Communicator"
	@touch $(DFT)

campaign: setup
	$(BIN)/nearedge run examples/quickstart.yaml

# Three parts side by side, of which the last mostly waits for Ray and for servers; each is shown when it is done.
test: setup
	$(MAKE) --no-print-directory --output-sync=target -j 3 test-platform test-services test-others

test-platform: setup
	$(BIN)/python -m pytest -q -m "not slow" tests/platform

test-services: setup
	$(BIN)/python -m pytest -q -m "not slow" tests/services

test-others: setup
	$(BIN)/python -m pytest -q -m "not slow" tests --ignore tests/platform --ignore tests/services

test-all: setup
	$(BIN)/python -m pytest -q

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Makes the shipped carbon models anew, from nothing: about three hours of two cores. An interrupted call goes on.
WEIGHTS := services/nearedge_services/weights/carbon
weights: setup
	$(BIN)/nearedge pretrain build/first
	$(BIN)/nearedge pretrain build/pretrained --start build/first
	for kind in prior surrogate potential; do mkdir -p $(WEIGHTS)/$$kind; \
		cp build/pretrained/models/$$kind/*.json build/pretrained/models/$$kind/weights.safetensors $(WEIGHTS)/$$kind/; done
	cp build/pretrained/pretraining.json build/pretrained/models/*.npz $(WEIGHTS)/

# Writes requirements.lock anew from what pyproject.toml asks for.
lock:
	@$(PYTHON_CHECK)
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/python -m pip install --quiet -c requirements.pins -e '.[dev,postgresql]'
	build/lock/bin/python -m pip freeze --exclude-editable | sed "s/+cpu$$//" > requirements.lock

# What containers and other machines install: dist/nearedge-VERSION-py3-none-any.whl
wheel: setup
	$(BIN)/python -m hatchling build -t wheel

clean:
	rm -rf $(VENV) build dist
