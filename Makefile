# Everything sets up what it needs by itself. On a machine without an NVIDIA GPU, PyTorch's CPU build is much smaller:
#   make setup TORCH_INDEX=URL-OF-PYTORCH-CPU-WHEEL-INDEX

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
TORCH_INDEX ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start hundreds of processes, each of which would compile every module anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help setup demo test test-quick test-long lint guards bench serve system clean

help:  ## Show what can be made
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

setup: $(VENV)/.ready  ## Install into .venv

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(BIN)/pip install -q -c constraints.txt --index-url $(TORCH_INDEX) torch==2.13.0)
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

demo: setup  ## Serve, train a portrait LoRA through fal's client, generate with it, show where the pictures are
	$(BIN)/python examples/demo.py

JS := tests/acceptance/js/node_modules/.package-lock.json
$(JS): tests/acceptance/js/package-lock.json
	@if command -v npm >/dev/null; then npm ci --silent --no-audit --no-fund --prefix tests/acceptance/js; \
	else echo 'npm is not here: the JavaScript tests will be skipped (make system installs it)'; fi

# fal's older Python client; its package pins other versions of what is used here, so it lives by itself.
FAL := tests/acceptance/fal-package
$(FAL)/.venv/.ready: $(FAL)/requirements.txt
	@$(PYTHON) -m venv $(FAL)/.venv && $(FAL)/.venv/bin/pip install -q --no-deps -r $< && touch $@ || \
	{ rm -rf $(FAL)/.venv; echo "the fal package could not be had: the tests of fal's older client will be skipped"; }

# One worker for each core; what they are given, and in which order, is told in tests/support/scheduling.py.
PYTEST = $(BIN)/pytest -q -n logical

test: setup $(JS) $(FAL)/.venv/.ready  ## Every test that is not long
	$(PYTEST)

test-quick: setup  ## The tests that need no server and train nothing, in under a minute
	$(PYTEST) -m 'not slow and not long' tests/test_*.py $(addprefix tests/,catalog cli dataset fal_proxy files lora store)

test-long: setup $(JS) $(FAL)/.venv/.ready  ## The tests that take minutes
	$(PYTEST) -m long

lint: setup  ## Formatting, lint, types, import contracts
	$(BIN)/ruff format --check src tests bench miniature examples
	$(BIN)/ruff check src tests bench miniature examples
	$(BIN)/mypy
	$(BIN)/lint-imports

guards: setup  ## Switch off each guard of docs/security.md, and show that its tests fail
	$(BIN)/python bench/guards.py

bench: setup  ## Measure: the queue, intake, a training step and its operations, how well and how soon LoRAs learn, the content filter
	$(BIN)/python bench/queue_rates.py
	$(BIN)/python bench/usage.py
	$(BIN)/python bench/intake.py
	$(BIN)/python bench/flops.py
	$(BIN)/python bench/train_step.py
	$(BIN)/python bench/content_filter.py
	$(BIN)/python bench/likeness.py
	$(BIN)/python bench/time_to_likeness.py

serve: setup  ## Serve on 127.0.0.1:8787
	$(BIN)/tintype serve

system:  ## Install the system packages that some tests need (Debian)
	apt-get update -qq && apt-get install -y -qq --no-install-recommends nodejs npm libimage-exiftool-perl chromium >/dev/null

clean:  ## Remove the virtual environment and caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build
