# `make demo` and `make test` set themselves up in .venv; nothing outside this folder and the cache
# of compiled operators (~/.cache/bninv, or BNINV_CACHE_DIR) is written.
#
#   make demo PYTHON=/path/to/python     use an interpreter that already has torch, as it is
#   make test ARGS="-k conv2d"           arguments for pytest
#   make test WORKERS=0                  in one process (2: one for each of two cores)
#   make mutants ARGS="gemm pool"        only the faults whose names begin so
#   make zoo ARGS="--uncovered"          arguments for benchmarks/zoo: see its --help
#   make gpu ARGS="--seconds 420"        arguments for tests/gpu/run.py: see its --help

SHELL := /bin/sh
PYTHON ?=
ARGS ?=
WORKERS ?= 2
VENV_PYTHON := .venv/bin/python
CXX_FILES = $(wildcard csrc/*.h csrc/*/*.h csrc/*/*.cpp csrc/*/*.cu csrc/*/*.cuh tests/sanitize/*.h benchmarks/*.cpp \
    benchmarks/*/*.cpp tests/gpu/*/*.cu tests/gpu/*/*.cuh \
    tests/sanitize/*.cpp $(foreach kind,h cpp cu cuh,tests/emulation/*.$(kind) tests/emulation/*/*.$(kind) \
    tests/emulation/*/*/*.$(kind)))

.DEFAULT_GOAL := help
.PHONY: help demo test test-all nightly matrix newest mutants lint format sanitize aarch64 cuda kernels bench zoo gpu gpu-emulated gpu-library \
    gpu-sanitize clean environment lint-environment python

help: ## show this list
	@sed -n 's/^\([a-z0-9-]*\):[^#]*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 22

demo: environment ## show a stock ResNet-34 whose bits move with the batch, and a patched one
	$(VENV_PYTHON) -m bninv check resnet34 --batch-sizes 1,2,3,8,32

# Files stay whole: what they share, such as a network, is then made once.
PYTEST = $(VENV_PYTHON) -m pytest -n $(WORKERS) --dist loadfile

test: environment ## run the tests: each property once, at awkward shapes
	$(PYTEST) -m "not exhaustive" $(ARGS)

test-all: test ## run the tests, and then the long ones: more cases, huge tensors, compilations
	$(PYTEST) -m exhaustive $(ARGS) || test $$? = 5 # ARGS chose none of them

nightly: test-all sanitize aarch64 cuda newest mutants ## what CI leaves out: over an hour; as root `aarch64` installs what it needs

matrix: python ## run demo and tests on each Python and torch found: takes hours and gigabytes
	@"$(or $(PYTHON),python3)" tools/matrix.py $(ARGS)

newest: python ## run a few minutes of tests with the newest PyTorch, in .venv-newest: 5 GB
	@"$(or $(PYTHON),python3)" tools/newest.py $(ARGS)

mutants: environment ## plant faults in the CUDA kernels: the tests must catch each; needs no GPU
	$(VENV_PYTHON) -m tests.mutants.run $(ARGS)

lint: lint-environment ## check formatting, style, types and the directions of imports
	$(VENV_PYTHON) -m ruff check .
	$(VENV_PYTHON) -m ruff format --check .
	$(VENV_PYTHON) -m mypy
	.venv/bin/lint-imports --no-cache --no-logo
	.venv/bin/clang-format --dry-run -Werror $(CXX_FILES)

format: lint-environment ## format all code in place
	$(VENV_PYTHON) -m ruff check --fix-only --quiet .
	$(VENV_PYTHON) -m ruff format .
	.venv/bin/clang-format -i $(CXX_FILES)

sanitize: python ## run the kernels, the GPU's emulated, under the address and undefined-behaviour sanitizers
	@"$(or $(PYTHON),python3)" -m tests.sanitize.run

aarch64: python ## run the CPU kernels for Arm under an emulator: the bits must be this machine's
	@tools/install_aarch64
	@"$(or $(PYTHON),python3)" -m tests.aarch64.run

cuda: environment ## compile and link the CUDA kernels for every architecture; needs no GPU
	PYTHONPATH=. $(VENV_PYTHON) tools/check_cuda.py $(ARGS)

kernels: environment ## tabulate the CUDA kernels' registers, spills and instructions; needs no GPU
	$(VENV_PYTHON) -m benchmarks.cuda_kernels

bench: environment ## time patched models and convolutions against stock
	$(VENV_PYTHON) -m benchmarks.bench_models
	$(VENV_PYTHON) -m benchmarks.bench_conv
	$(VENV_PYTHON) -m benchmarks.bench_bmm
	$(VENV_PYTHON) -m benchmarks.bench_attention
	$(VENV_PYTHON) -m benchmarks.bench_dtypes
	$(VENV_PYTHON) -m benchmarks.bench_protection
	$(VENV_PYTHON) -m benchmarks.bench_catching
	$(VENV_PYTHON) -m benchmarks.bench_batch_norm

zoo: environment ## show which models of timm and torchvision are covered: hours; goes on where it was stopped
	$(VENV_PYTHON) -m benchmarks.zoo $(ARGS)

gpu-library: environment ## compile for a GPU that is elsewhere (9.0), to be taken there; needs none
	PYTHONPATH=. $(VENV_PYTHON) tools/gpu_library.py $(ARGS)

gpu: python ## prove and measure everything on this machine's GPU, in under nine minutes; installs nothing
	"$(or $(PYTHON),python3)" -m tests.gpu.run $(ARGS)

gpu-sanitize: python ## run every operator under compute-sanitizer, on this machine's GPU; installs nothing
	"$(or $(PYTHON),python3)" -m tests.gpu.sanitize $(ARGS)

gpu-emulated: environment ## the same command with emulated kernels, to test it; needs no GPU
	$(VENV_PYTHON) -m tests.gpu.run --emulated $(ARGS)

clean: ## remove what builds and tests left here (not .venv)
	rm -rf build dist *.egg-info bninv/_C*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

environment: python
	@"$(or $(PYTHON),python3)" tools/environment.py --python "$(PYTHON)"

lint-environment: environment
	@"$(or $(PYTHON),python3)" tools/environment.py --python "$(PYTHON)" --lint

# Before anything else: an interpreter that can run tools/environment.py.
python:
	@command -v "$(or $(PYTHON),python3)" >/dev/null || { \
	  echo 'bninv: $(or $(PYTHON),python3) was not found: install Python >= 3.10 or name one with PYTHON=...' >&2; exit 1; }
	@test "$$("$(or $(PYTHON),python3)" -c 'import sys; print(sys.version_info >= (3, 10))')" = True || { \
	  echo 'bninv: $(or $(PYTHON),python3) is no Python >= 3.10: name one with PYTHON=...' >&2; exit 1; }
