# Targets do all their own set-up; needed: Python 3.11, make, gcc.
PYTHON ?= python3.11
PY := .venv/bin/python
STAMP := .venv/.installed
export TF_CPP_MIN_LOG_LEVEL = 3

.PHONY: help venv demo test lint s3 clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) ## make .venv with both frameworks and the tools (7.5 GB)

$(STAMP): pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[torch,tensorflow,dev]'
	touch $@

demo: $(STAMP) ## train both engines on real handwritten digits and print a table
	$(PY) -m tests.demo

lint: $(STAMP) ## ruff and mypy
	.venv/bin/ruff check job tests
	.venv/bin/ruff format --check job tests
	.venv/bin/mypy

test: lint ## everything but the long tests
	$(PY) -m pytest -m 'not slow'

s3: $(STAMP) ## an S3 server on loopback for experiments; prints the variables to export
	$(PY) -m tests.servers

clean: ## remove what the targets made
	rm -rf .venv .work build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
