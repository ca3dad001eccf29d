# make verify | demo | test | lint | bench | scaling | faults | gradient_bias | side_by_side | kills | fuzz |
# archive. Each sets itself up: .venv is created on first use and kept.

PYTHON ?= python3
# KAEM_VENV names an environment that holds requirements.lock already, as the container's does.
VENV := $(or $(KAEM_VENV),.venv)
INSTALLED := $(if $(KAEM_VENV),,$(VENV)/installed.stamp)
export PATH := $(abspath $(VENV))/bin:$(PATH)

# Between them these have every rule.
LINTED := config/demo.yaml config/cpu.yaml config/bias.yaml config/budgets.yaml

DEMO := $${KAEM_RESULTS:-results}/demo

define SHOWN

Made, in results/demo/:
  index.html                               all that follows on one page
  figures/samples_digits.png               images of every model, beside real ones
  figures/training_film_digits_*.gif       the same images while a model learns
  figures/traversals_digits_kaem_copula.png  what each latent of a KAEM draws
  explorer.html                            a KAEM to play with
  tables/, verdicts.md                     every number; the claims, of which a demo decides none
Next:
  make verify                              are the published numbers right? Two minutes
  docs/guide/kaem.md                       the model in code of your own
  config/cpu.yaml                          all models on MNIST and Fashion-MNIST; hours
endef
export SHOWN

.PHONY: help verify demo test lint bench scaling faults gradient_bias side_by_side kills fuzz archive audit lock

help:
	@grep '^make ' README.md
	@sed -n '1,2s/^# //p' Makefile

# At most two minutes, offline: the published results drawn, measured, timed and judged again.
verify: $(INSTALLED)
	python -m benchmark verify

demo: $(INSTALLED)
	snakemake --cores all --configfile config/demo.yaml
	@echo && cat $(DEMO)/tables/summary.md && echo "$$SHOWN"

# Compiled modules are kept: hundreds of processes begin here.
test: $(INSTALLED)
	PYTHONDONTWRITEBYTECODE= PYTHONWARNDEFAULTENCODING=1 python -m pytest --numprocesses auto --maxprocesses 8 --dist loadscope --no-loadscope-reorder

lint: $(INSTALLED)
	ruff check .
	ruff format --check .
	lint-imports
	mypy
	@for config in $(LINTED); do \
		echo "snakemake --lint $$config" && \
		snakemake --lint --configfile $$config || exit 1; \
	done

# Six minutes with nothing beside it; every speed that is promised, with target and what was obtained.
bench: $(INSTALLED)
	python -m benchmark.timing bench
	python -m paper_figures bench
	@cat $${KAEM_RESULTS:-results}/bench/tables/bench.md

# Five minutes with nothing beside it; how cost grows with each size, as a table and a figure.
scaling: $(INSTALLED)
	python -m benchmark.timing scaling
	python -m paper_figures scaling

# What each fault of the published code does to a number whose truth is known (seconds); how far the
# samplers' gradients are from the truth (a minute); how many trainings at once make the most updates
# (two minutes with nothing beside it); twenty kills of each model's training (a quarter of an hour);
# 10,000 spoilt files for every reader (ten minutes). Each writes results/studies/.
faults gradient_bias side_by_side kills fuzz: $(INSTALLED)
	python -m studies.$@

# What is committed as dist/kaem-<version>.zip, to be kept where a DOI is given.
archive: $(INSTALLED)
	python -m benchmark archive

# Needs `pip-audit` and its database, PyPI's. One package that cannot be looked up is a failure.
audit:
	@command -v pip-audit >/dev/null || { echo "error: needs pip-audit: pip install pip-audit" >&2; exit 1; }
	@pip-audit --strict --require-hashes --disable-pip --progress-spinner off -r requirements.lock || { \
		echo "error: a package has a known weakness, or the database could not be asked: see above" >&2; \
		exit 1; }

# Needs `uv`. Pins every version, with hashes, for Python 3.11 to 3.13 and every platform.
lock:
	uv pip compile pyproject.toml --all-extras --universal --python-version 3.11 \
		--generate-hashes --no-annotate --no-header -o requirements.lock

$(VENV)/installed.stamp: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "error: needs Python 3.11 to 3.13; choose one: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --require-hashes -r requirements.lock
	@touch $@
