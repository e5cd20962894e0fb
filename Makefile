# Each command first sets up what it needs in .venv, from Python 3.10+ with pip.

PYTHON ?= python3
BIN := .venv/bin
LAB := .venv/.ready
ALL := .venv/.all

.PHONY: help demo test check docs dist format clean

help: ## what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 10

demo: $(LAB) ## train with nothing tuned, compare with a tuned AdamW, draw the page
	@rm -rf runs/demo
	@$(BIN)/untuned train fcn8-digits --optimizer auto --folder runs/demo/train
	@$(BIN)/untuned compare --workloads fcn8-digits --optimizers auto agd adamw-tuned --folder runs/demo

test: $(ALL) ## run every test
	@$(BIN)/python -m pytest -q -n 2

check: $(ALL) ## format, lint, types, and the site
	@$(BIN)/ruff format --check -q .
	@$(BIN)/ruff check -q .
	@$(BIN)/mypy
	@mkdir -p build
	@PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes untuned --ignoreexternal > build/types.txt || { cat build/types.txt; exit 1; }
	@$(MAKE) --no-print-directory docs

docs: $(ALL) ## the site, into build/site
	@rm -f build/site.built
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@touch build/site.built # no warning stopped it: the tests may take this site for theirs

dist: $(ALL) ## wheel and sdist, into dist
	@$(BIN)/hatchling build

format: $(ALL) ## mend format and lint
	@$(BIN)/ruff check -q --fix .
	@$(BIN)/ruff format -q .

clean: ## remove the environment and caches
	rm -rf .venv .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist

# torch comes first, in one exact version: anything looser may pull gigabytes of CUDA packages.
# The stamp is away while a set-up is at work: one of the lab that is cut short starts afresh, for
# pip killed while it replaces itself is past mending.
$(LAB): pyproject.toml
	@echo "Setting up .venv with torch and the lab (once)"
	@test -e $@ || $(PYTHON) -m venv --clear .venv
	@rm -f $@
	@$(BIN)/python -m pip install --quiet --upgrade pip
	@$(BIN)/python -m pip install --quiet torch==2.13.0
	@$(BIN)/python -m pip install --quiet --editable '.[lab]'
	@touch $@

$(ALL): $(LAB)
	@echo "Adding what tests, checks and the site need (once)"
	@rm -f $@
	@$(BIN)/python -m pip install --quiet --editable '.[lab,compare,atari,docs]' --group dev
	@$(BIN)/pyright --version >/dev/null # fetches itself
	@touch $@
