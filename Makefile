# `make demo` and `make test` set up everything on a bare machine (python3.11, gcc 12, make, cmake): the pinned
# .venv, the extension, then the demo or the tests. What is up to date is left alone.
PYTHON ?= python3.11
JOBS ?= $(shell nproc)
DEMO_ARGS ?=
BENCH_ARGS ?=
PYTEST_ARGS ?=

BIN := .venv/bin
CXX_FILES := $(shell git ls-files 'csrc/*.cpp' 'csrc/*.h')
CCACHE := $(shell command -v ccache)
CONFIGURE = $(BIN)/cmake -S . -G Ninja -DPython_EXECUTABLE=$(CURDIR)/$(BIN)/python \
	-DCMAKE_MAKE_PROGRAM=$(CURDIR)/$(BIN)/ninja $(if $(CCACHE),-DCMAKE_CXX_COMPILER_LAUNCHER=$(CCACHE))

.PHONY: demo bench test lint format pytest conformance test-package asan build clean

demo: build
	$(BIN)/python benchmarks/resnet18.py $(DEMO_ARGS)

# torch_tvm beside the other runtimes, which are installed beside it: requirements.txt keeps torch what it is.
bench: build .venv/bench-installed
	$(BIN)/python benchmarks/peers.py $(BENCH_ARGS)

.venv/bench-installed: .venv/installed requirements-bench.txt
	$(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -c requirements.txt -r requirements-bench.txt
	@touch $@

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

# All of OpInfo beside eager PyTorch, one process for each CPU: 20 minutes on two. Writes docs/conformance.* and docs/operators.md.
CONFORMANCE_ARGS ?=
conformance: build
	PYTHONPATH=$(CURDIR):$(CURDIR)/test $(BIN)/python -W ignore -m conformance $(CONFORMANCE_ARGS)
	PYTHONPATH=$(CURDIR) $(BIN)/python test/operators_table.py

# Builds the wheel twice from nothing, with and without build isolation: minutes, so not part of `make test`.
test-package: build
	$(BIN)/python -m pytest -m package test/test_package.py

# The core under AddressSanitizer, beside the ordinary build: build/asan/torch_tvm has the sanitized libraries and links
# to all else. Leaks are not reported: the interpreter and torch keep much until the process ends. The python executable does
# not load libstdc++, and libasan looks for __cxa_throw when it starts: so both are preloaded.
ASAN_TESTS ?= $(wildcard test/test_runtime_*.py test/test_jit_*.py test/test_relay_*.py test/test_convert_*.py)
asan: .venv/installed
	$(CONFIGURE) -B build/asan -DTORCH_TVM_SANITIZE=address
	$(BIN)/ninja -C build/asan -j$(JOBS)
	cp -rsn $(CURDIR)/torch_tvm/. build/asan/torch_tvm
	ln -sfn $(CURDIR)/csrc build/asan/csrc
	PYTHONPATH=$(CURDIR)/build/asan:$(CURDIR) LD_PRELOAD="$(foreach library,asan stdc++,$(shell gcc -print-file-name=lib$(library).so))" \
		ASAN_OPTIONS=detect_leaks=0 $(BIN)/pytest $(ASAN_TESTS)

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
