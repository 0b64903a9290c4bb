# make help lists the targets. Settings: params.yaml. PYTHON=python3.12 make … chooses the interpreter of the set-up.

PYTHON ?= python3
VENV := $(CURDIR)/.venv

# dvc runs `python` from PATH. The checkpoint folder is absolute, so that runs in temporary copies use it, too.
export PATH := $(VENV)/bin:$(PATH)
export POSEDISTILL_CHECKPOINTS ?= $(CURDIR)/.checkpoints
# One thread a process: stages and workers run side by side, and the number of threads changes the last bits of results.
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
# Jupyter: no search for newer versions.
export JUPYTER_PREFER_ENV_PATH := 1

.DEFAULT_GOAL := help
.PHONY: help setup repro mend back experiments seeds ablation sweep unlabelled verdict stress audit verify test test-all lint types lab html recipe pretrain gpu data clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/ready  ## the environment in .venv (all other targets make it, too)

$(VENV)/ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and f"Python 3.11 or newer is needed, this is {v[0]}.{v[1]}: make PYTHON=python3.12 …")'
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt --editable '.[dev]'
	@# An archive without git: dvc then works without it.
	test -e .git || dvc config --local core.no_scm true
	touch $@

# A client that must be able to load what we export. Its own requirements would put another OpenCV over ours.
$(VENV)/clients: $(VENV)/ready
	python -m pip install --disable-pip-version-check --quiet --no-deps rtmlib==0.0.16
	touch $@

repro: mend  ## the whole pipeline on the settings of params.yaml; runs only what is not up to date
	dvc repro prepare
	@# DVC runs one stage at a time. Teacher and baseline do not need each other, so without a GPU both cores train.
	@test -e /dev/nvidiactl || { dvc repro -s baseline evaluate@baseline 2>&1 | sed 's/^/baseline: /' & \
		dvc repro -s teacher evaluate@teacher; wait; }
	dvc repro

mend: setup  ## repair files that an interrupted DVC run left half-written (make repro does it, too)
	@python scripts/mend.py

back: setup  ## return to the settings, reports and models of the last commit; code stays
	@python scripts/back.py

seeds: setup  ## three training seeds of all models, and their report
	python -m posedistill.experiments seeds

experiments: setup  ## all experiments: settings that differ from the workspace's, AP and mean OKS of both stages
	@python -m posedistill.experiments show

ablation: setup  ## the ablations of the paper, three seeds each, and their report
	python -m posedistill.experiments ablation

sweep: setup  ## stage 1 over a grid of alpha and beta
	python -m posedistill.experiments sweep

unlabelled: setup  ## students that never see a label, taught by the trained teacher, against the one taught by labels
	python -m posedistill.experiments unlabelled

verdict: setup  ## every distillation loss against the baseline, at equal epochs and at equal training time
	python -m posedistill.experiments verdict

stress: setup  ## the stress card of the four models: rendered people, changed step by step
	python -m posedistill.experiments stress

audit: setup  ## the label audit on trial: rendered people with known faults in their labels
	python -m posedistill.experiments audit

verify: setup  ## compare the regenerated metrics with the committed ones, within the stated tolerance
	python scripts/verify.py

test: setup $(VENV)/clients  ## the fast tests, a small run of the whole pipeline among them
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder -m 'not slow'

test-all: setup $(VENV)/clients  ## all tests
	python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: setup  ## style and formatting
	ruff check .
	ruff format --check .

types: setup  ## static types
	mypy

lab: setup  ## JupyterLab on the reports
	@# Neither ask whether it may fetch news, nor save reports that were only opened.
	@mkdir -p $(VENV)/etc/jupyter/labconfig $(VENV)/share/jupyter/lab/settings
	@echo '{"@jupyterlab/docmanager-extension:plugin": {"autosave": false}}' > $(VENV)/share/jupyter/lab/settings/overrides.json
	@echo '{"disabledExtensions": {"@jupyterlab/apputils-extension:announcements": true}}' > $(VENV)/etc/jupyter/labconfig/page_config.json
	jupyter lab --LabApp.default_url=/lab/tree/reports

html: setup  ## the reports as web pages that need no network, in html/
	python -m posedistill.reporting.html

recipe: setup  ## make recipe NAME=… ROOT=/data puts one in the place of params.yaml; no NAME: the list
	python -m posedistill.pipeline.recipes $(NAME) $(if $(ROOT),--root $(abspath $(ROOT)))

pretrain: setup  ## retrain the starting weights in assets/
	python scripts/pretrain.py

gpu:  ## all GPU measurements and a short real training
	bash benchmarks/gpu.sh

data: setup  ## import assets/ as data/ anew, after a change of assets/
	@# Into an existing folder dvc would import data/assets.
	rm -rf data.dvc data
	dvc import-url --quiet --force assets data
	dvc unfreeze data.dvc

clean:  ## remove what can be made again, apart from .venv and finished trainings
	rm -rf prepared models predictions html .mypy_cache .ruff_cache .pytest_cache
