# `make reproduce` and `make test` do everything from a fresh checkout, each alone. They need Python 3.11 to 3.13 and a package registry.
PYTHON ?= python3
BIN := .venv/bin
WORKERS ?= 3
JOBS ?= 2
SHELL := /bin/sh
.DEFAULT_GOAL := help
.PHONY: help install .venv reproduce models test docs lab gpu readme outputs clean

# What decides whether an installation is still right: the requirements, not the dates of the files.
DIGEST = import hashlib, pathlib; \
  lines = [x for x in open("settings.ini", encoding="utf-8") if x.split("=")[0].strip() in \
    ("requirements", "dev_requirements", "console_scripts", "lib_name", "version")]; \
  parts = ["".join(lines), *(open(f, encoding="utf-8").read() for f in ("setup.py", "constraints.txt")), str(pathlib.Path.cwd())]; \
  print(hashlib.sha256("\0".join(parts).encode()).hexdigest())
CHECK = import sys; v = sys.version_info[:2]; \
  (3, 11) <= v <= (3, 13) or sys.exit("genpapers needs Python 3.11 to 3.13, and $(PYTHON) is %d.%d; name another one: make PYTHON=python3.12" % v)

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1@\2/p' Makefile | awk -F@ '{ printf "%-16s %s\n", $$1, $$2 }'

install: .venv ## make .venv with everything in it (the other targets do this themselves)

.venv:
	@command -v '$(PYTHON)' >/dev/null || { echo 'There is no $(PYTHON) here; name a Python 3.11 to 3.13: make PYTHON=/path/to/python3' >&2; exit 1; }
	@digest=$$('$(PYTHON)' -c '$(DIGEST)') || exit 1; \
	if [ -f .venv/installed ] && [ "$$(cat .venv/installed)" = "$$digest" ]; then exit 0; fi; \
	set -e; \
	rm -f .venv/installed; \
	if ! $(BIN)/pip --version >/dev/null 2>&1; then \
	  '$(PYTHON)' -c '$(CHECK)'; \
	  echo 'Making .venv ...'; \
	  '$(PYTHON)' -m venv --clear .venv; \
	fi; \
	echo 'Installing (some 6 GB with PyTorch, a few minutes) ...'; \
	export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1; \
	$(BIN)/python -m pip install --quiet -c constraints.txt setuptools wheel; \
	$(BIN)/python -m pip install --quiet -c constraints.txt --use-pep517 --no-build-isolation -e '.[dev]'; \
	if [ "$$(git rev-parse --show-toplevel 2>/dev/null)" = "$$(pwd -P)" ]; then \
	  PATH="$$PWD/$(BIN):$$PATH" $(BIN)/nbdev_install_hooks && hook=$$(git rev-parse --git-path hooks/post-merge) && \
	    sed "s|^nbdev_trust|'$$PWD/$(BIN)/nbdev_trust'|" "$$hook" >"$$hook.new" && cat "$$hook.new" >"$$hook" && rm "$$hook.new" || \
	    echo 'The git hooks of nbdev could not be installed; everything else works.' >&2; \
	fi; \
	echo "$$digest" >.venv/installed

reproduce: install ## run every paper notebook at scale quick, then the comparison and the ledger of claims: figures/, and tables
	@$(BIN)/genpapers reproduce --jobs $(JOBS) $(if $(MODELS),--models '$(MODELS)')

models: install ## make an archive in models/ of the runs behind figures/: for make reproduce MODELS=models, here or elsewhere
	@$(BIN)/genpapers pack-models models

test: install ## check the style, run every notebook and every test, measure the coverage
	@$(BIN)/ruff check genpapers tests scripts
	@OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --cov --cov-config=.coveragerc --cov-report=term:skip-covered

docs: install ## build the documentation in _docs/: open _docs/index.html
	@OMP_NUM_THREADS=1 $(BIN)/python scripts/docs.py

lab: install ## open JupyterLab at the first page
	@$(BIN)/jupyter lab --notebook-dir=. nbs/start.ipynb

gpu: install ## ask a GPU, once, in eight minutes, for all that is not known without one: figures/gpu/, and tables
	@$(BIN)/python scripts/gpu.py

readme: install ## make README.md from nbs/index.ipynb, and the outputs of the pages that train nothing
	@$(BIN)/python scripts/readme.py

outputs: install ## keep the outputs of the last make reproduce in the notebooks that it ran
	@$(BIN)/python scripts/outputs.py

clean: ## remove .venv, _docs/ and caches; runs/, figures/ and data/ stay
	rm -rf .venv _docs .pytest_cache .ruff_cache .coverage .coverage.* htmlcov *.egg-info
	find genpapers tests scripts nbs \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
