# From a bare checkout: Python 3.11 or newer with pip, make and a C++20 compiler are enough; see `make help`.

PYTHON ?= python3
VENV   ?= .venv
WERROR ?=
ARGS   ?=

# The compiler CMake would find, found here so that a missing one is said in one sentence. CXX=... names another.
ifeq ($(origin CXX),default)
CXX := $(firstword $(foreach name,c++ g++ clang++,$(shell command -v $(name) 2>/dev/null)))
endif
export CXX

PY        := $(VENV)/bin/python
PIP       := $(PY) -m pip --disable-pip-version-check --no-input
BUILD     := --no-build-isolation -C cmake.define.RSTAR_FAST_WERROR=$(if $(WERROR),ON,OFF)
INSTALLED := $(VENV)/.rstar-fast-installed$(if $(WERROR),-werror)
SOURCES   := pyproject.toml CMakeLists.txt $(wildcard csrc/*.h csrc/*.cc csrc/sandbox/*.h csrc/sandbox/*.cc)

.PHONY: help demo test stress install wheel stubs lint clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    search a few problems live, then measure search against greedy on held-out ones; CPU, no download"
	@echo "make test    the tests; ARGS='-k name' goes to pytest, WERROR=1 turns compiler warnings into errors"
	@echo "make stress  the search forest's parts, and it under many threads, with sanitizers; ROUNDS=5000 by default, some minutes"
	@echo "make install all that the two need, in $(VENV): done by them, and again when the C++ or pyproject.toml changes"
	@echo "make wheel   the sdist, and the wheel built from it, in dist/"
	@echo "make stubs   rstar_fast/_core.pyi and _sandbox.pyi from the compiled modules"
	@echo "make lint    ruff check"
	@echo "make clean   removes what was built, but not $(VENV)"
	@echo "PYTHON=... names the Python that makes $(VENV), VENV=... another environment, CXX=... another compiler."

demo: $(INSTALLED)
	$(VENV)/bin/rstar-fast demo $(ARGS)

# Not `python -m pytest`, which puts the repository root, and with it kernels/, on sys.path.
test: $(INSTALLED)
	$(VENV)/bin/pytest -q --durations=10 $(ARGS)

# Without Python: the forest alone, once for each set of sanitizers.
ROUNDS ?= 5000
SEED   ?= 1
comma  := ,
FOREST := csrc/tree.cc csrc/selection.cc csrc/forest.cc csrc/forest_select.cc csrc/forest_claim.cc
PARTS  := $(FOREST) csrc/extract.cc csrc/extract_texts.cc csrc/fault.cc

stress: $(foreach kind,thread address$(comma)undefined,build/unit-$(kind) build/stress-$(kind))
	build/unit-thread
	build/unit-address,undefined
	build/stress-thread $(SEED) $(ROUNDS)
	build/stress-address,undefined $(SEED) $(ROUNDS)

SANITIZED = $(CXX) -O1 -g -std=c++20 -pthread -Wall -Wextra -fsanitize=$* -fno-sanitize-recover=all -Icsrc -o $@ $< $(PARTS)

build/unit-%: tests/cpp/unit.cc tests/cpp/check.h $(PARTS) $(wildcard csrc/*.h)
	@mkdir -p build
	$(SANITIZED)

build/stress-%: tests/cpp/stress.cc tests/cpp/check.h $(PARTS) $(wildcard csrc/*.h)
	@mkdir -p build
	$(SANITIZED)

install: $(INSTALLED)

wheel: $(INSTALLED)
	rm -rf dist
	$(PY) -c "from scikit_build_core.build import build_sdist; build_sdist('dist')"
	$(PIP) wheel -q --no-deps $(BUILD) -w dist dist/*.tar.gz
	@ls -l dist

stubs: $(INSTALLED)
	for module in _core _sandbox; do \
	  $(VENV)/bin/pybind11-stubgen rstar_fast.$$module --exit-code -o build/stubs && \
	  sed -E 's/^([A-Z_]+: [^=]+) = .*/\1/' build/stubs/rstar_fast/$$module.pyi > rstar_fast/$$module.pyi || exit; done

lint: $(INSTALLED)
	@test -x $(VENV)/bin/ruff || $(PIP) install -q ruff
	$(VENV)/bin/ruff check rstar_fast kernels tests benchmarks

clean:
	rm -rf build dist .pytest_cache .hypothesis .ruff_cache $(VENV)/.rstar-fast-installed*
	find rstar_fast kernels tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# $(1): a Python. Also read by versions too old for us.
define check_python
@command -v $(1) >/dev/null || { \
  echo "$(1) was not found: install Python 3.11 or newer, or name one with make PYTHON=/path/to/python3" >&2; exit 1; }
@$(1) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("$(1) is Python %d.%d: rstar_fast needs 3.11 or newer, $(2)" % sys.version_info[:2])'
endef

define CPP20
#include <atomic>
#include <concepts>
#include <span>
#include <thread>
std::atomic<double> sum{0};
int main() { std::jthread([] { sum.fetch_add(1); }); return std::span<double>().size(); }
endef
export CPP20

$(PY):
	$(call check_python,$(PYTHON),named with make PYTHON=/path/to/python3)
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "$(PYTHON) lacks venv or pip: install them (on Debian or Ubuntu: apt-get install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Build requirements are listed in pyproject.toml only. Plain `torch` would fetch gigabytes of CUDA packages, hence its version.
$(INSTALLED): $(SOURCES) | $(PY)
	$(call check_python,$(PY),so delete $(VENV) and make it anew)
	@test -n "$(CXX)" && command -v $(firstword $(CXX)) >/dev/null || { \
	  echo "no C++ compiler was found$(if $(CXX), under the name $(CXX)): install one that knows C++20 (on Debian or Ubuntu:" \
	       "apt-get install g++), or name one with make CXX=/path/to/g++" >&2; exit 1; }
	@echo "$$CPP20" | $(CXX) -std=c++20 -pthread -x c++ -fsyntax-only - 2>/dev/null || { \
	  echo "$(CXX) does not know C++20: rstar_fast needs g++ 11, clang++ 16 or newer, named with make CXX=/path/to/g++" >&2; exit 1; }
	@$(PY) -c 'import os, sys, sysconfig; sys.exit(not os.path.isfile(sysconfig.get_path("include") + "/Python.h"))' || { \
	  echo "$(PY) has no header Python.h to build against: install it (on Debian or Ubuntu: apt-get install python3-dev)" >&2; exit 1; }
	@echo "Installing into $(VENV): some minutes the first time ..."
	@$(PY) -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)' || $(PIP) install -q torch==2.13.0
	@$(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], "cmake", "ninja", sep="\n")' \
	  > $(VENV)/.build-requires.txt
	@$(PIP) install -q -r $(VENV)/.build-requires.txt
	$(PIP) install -q $(BUILD) -C build-dir=build/editable -e '.[test]'
	@rm -f $(VENV)/.rstar-fast-installed* && touch $@
