# `make demo` and `make test` set up everything on a bare machine (python3.11, gcc 12, make, cmake): the pinned
# .venv, the extension, then the demo or the tests. What is up to date is left alone.
PYTHON ?= python3.11
JOBS ?= $(shell nproc)
DEMO_ARGS ?=
PYTEST_ARGS ?=

BIN := .venv/bin
CXX_FILES := $(shell git ls-files 'csrc/*.cpp' 'csrc/*.h')
CCACHE := $(shell command -v ccache)
CONFIGURE = $(BIN)/cmake -S . -G Ninja -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python \
	-DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja $(if $(CCACHE),-DCMAKE_CXX_COMPILER_LAUNCHER=$(CCACHE))

.PHONY: demo test lint format pytest test-package asan build clean

demo: build
	$(BIN)/python benchmarks/resnet18.py $(DEMO_ARGS)

test: lint pytest

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)

format: .venv/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

pytest: build
	$(BIN)/python -X faulthandler -m pytest $(PYTEST_ARGS)

# Builds the wheel twice from nothing, with and without build isolation: minutes, so not part of `make test`.
test-package: build
	$(BIN)/python -m pytest -m package test/test_package.py

build: build/build.ninja
	@$(BIN)/ninja -C build -j$(JOBS)

build/build.ninja: .venv/installed
	$(CONFIGURE) -B build
	@touch $@

.venv/installed: requirements.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -c requirements.txt torch==2.13.0
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -r requirements.txt
	@touch $@

clean:
	rm -rf build torch_tvm/lib torch_tvm/_C.*.so
