# Targets do all their own set-up; needed: Python 3.11, make, gcc.
PYTHON ?= python3.11
PY := .venv/bin/python
STAMP := .venv/.installed
DEMO := .venv/.demo
EXTRAS_installed := torch,tensorflow,onnx,examples,demo,dev
EXTRAS_demo := torch,tensorflow,demo
export TF_CPP_MIN_LOG_LEVEL = 3

.PHONY: help venv demo lint test test-slow bench scaling results s3 lock build push e2e-cluster reproduce clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "%-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(STAMP) ## make .venv with both frameworks and the tools (9 GB)

.venv/.%: pyproject.toml
	test -x $(PY) || $(PYTHON) -m venv .venv
	$(PY) -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS_$*)]'
	touch $@

demo: $(DEMO) ## train both engines on real handwritten digits and print a table
	$(PY) -m tests.support.servers -- $(PY) -m tools.demo

reproduce: $(DEMO) ## the original report's table, and as it should have been; EPOCHS=, SUBSET=, IMAGE_SIZE=, WIDTH=, DATA=, INIT_FROM=, ABLATION=1
	$(PY) -m tools.reproduce $(if $(EPOCHS),--epochs $(EPOCHS)) $(if $(SUBSET),--subset $(SUBSET)) $(if $(WIDTH),--width $(WIDTH)) \
	    $(if $(IMAGE_SIZE),--image-size $(IMAGE_SIZE)) $(if $(DATA),--data '$(DATA)') $(if $(INIT_FROM),--init-from '$(INIT_FROM)') \
	    $(if $(ABLATION),--ablation)

lint: $(STAMP) ## ruff and mypy
	.venv/bin/ruff check job tests tools examples
	.venv/bin/ruff format --check job tests tools examples
	.venv/bin/mypy

test: lint ## everything but the long tests, on two cores
	$(PY) -m pytest -m 'not slow' -n 2 --dist loadfile

test-slow: $(STAMP) ## the long tests: many kills, two attempts, outages, images, real CIFAR-10 where it is
	$(PY) -m pytest -m slow

bench: $(STAMP) ## on a quiet machine, 20 minutes: what the job reaches beside what people run instead; JSON=FILE keeps the figures
	$(PY) -m tools.bench $(if $(JSON),--json '$(JSON)')

scaling: $(STAMP) ## ten minutes: the same bytes from 1, 2 and 4 workers and through torchrun, as the table of docs/scaling.md
	$(PY) -m tools.scaling docs/scaling.md

results: $(STAMP) ## hours: a full training on CIFAR-10 into results/ and docs/results.md; RUN=default-torch, default-tensorflow, default-30-torch, report-torch, report-keras; DATA=
	$(PY) -m tools.results $(RUN) $(if $(DATA),--data '$(DATA)')

s3: $(DEMO) ## an S3 server on loopback for experiments; prints the variables to export
	$(PY) -m tests.support.servers

TAG ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
REGISTRY ?=
BASE_IMAGE ?=
PLATFORM ?= linux/amd64
DOCKER ?= $(firstword $(wildcard /usr/bin/docker) docker)
IMAGES := torch tf
SECRETS = $(foreach s,ca apt.conf pip.conf,$(if $($(s)),--secret id=$(s)$(comma)src=$($(s))))
comma := ,
IMAGE = $(if $(REGISTRY),$(REGISTRY:%/=%)/)alexnet-$(1):$(TAG)

build: $(IMAGES:%=build-%) ## both images, each with its bill of materials and provenance in build/; BASE_IMAGE=, TAG=, REGISTRY=, and for a firewall ca=FILE pip.conf=FILE apt.conf=FILE

build-%:
	DOCKER_BUILDKIT=1 $(DOCKER) build --platform $(PLATFORM) -f Dockerfile.$* -t $(call IMAGE,$*) -t alexnet-$* $(if $(BASE_IMAGE),--build-arg BASE_IMAGE=$(BASE_IMAGE)) \
	    --build-arg VERSION=$(TAG) --build-arg REVISION=$$(git describe --always --dirty --abbrev=40 --exclude='*' 2>/dev/null || echo unknown) \
	    --build-arg SOURCE=$$(git config --get remote.origin.url | sed 's|//[^/@]*@|//|') \
	    --build-arg CREATED=$$(date -u +%Y-%m-%dT%H:%M:%SZ) $(SECRETS) .
	@$(DOCKER) image inspect --format '$(call IMAGE,$*): {{.Size}} bytes' $(call IMAGE,$*)
	@python3 -m tools.image_records --docker $(DOCKER) $(call IMAGE,$*) Dockerfile.$*

push: ## both images, to REGISTRY
	@test -n '$(REGISTRY)' || { echo 'push: REGISTRY is empty. Give one, for example make push REGISTRY=ghcr.io/you'; exit 2; }
	$(foreach i,$(IMAGES),$(DOCKER) push $(call IMAGE,$i) &&) true

export GPU LOAD KEEP ROWS
e2e-cluster: $(STAMP) ## the manifests on the current kubectl context; GPU=0 without GPUs, LOAD=COMMAND to bring images, TAG=, REGISTRY=
	TAG='$(TAG)' REGISTRY='$(REGISTRY)' $(PY) -m tests.cluster

LOCK := .venv/bin/uv pip compile --quiet --universal --fork-strategy fewest --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command 'make lock'
lock: $(STAMP) ## resolve the images' dependencies anew, with hashes, for Python 3.11 and later
	$(LOCK) requirements/build.in -o requirements/build.txt
	$(LOCK) pyproject.toml --extra torch -o requirements/torch.txt
	$(LOCK) pyproject.toml --extra tensorflow requirements/tf.in -o requirements/tf.txt

clean: ## remove what the targets made
	rm -rf .venv .work build dist *.egg-info .mypy_cache .ruff_cache .hypothesis
