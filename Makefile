# Every target makes .venv first if it is missing. `make help` lists them.
PYTHON ?= python3
JOBS ?= 200
KILLS ?= 30
WORKERS ?= 2
ARGS ?=
BIN := .venv/bin
READY := .venv/.ready
CODE := router api_providers local_models ui

.DEFAULT_GOAL := help
.PHONY: help demo serve test browser check format crash limits tiny-eval bench-policy bench-gateway bench-outage bench-bulk bench-gpu image image-check

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

$(READY): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Understudy needs Python 3.11 or newer. Try: make PYTHON=python3.11 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || { echo "Cannot make .venv. On Debian and Ubuntu: apt install python3-venv" >&2; rm -rf .venv; exit 1; }
	@echo "Installing into .venv. The first time this downloads PyTorch, which is large; later runs skip it."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[local,ui,dev]'
	@touch $@

demo: $(READY) ## show what Understudy does: no keys, no GPU, no services, no questions
	@$(BIN)/understudy demo $(ARGS)

serve: $(READY) ## API and page on http://127.0.0.1:7860 (ARGS="--port 8000")
	@$(BIN)/understudy serve $(ARGS)

test: $(READY) ## all tests that need neither root nor a browser
	@$(BIN)/python -m pytest -q -n $(WORKERS) $(ARGS)

browser: $(READY) ## the page in Chromium, where that is installed
	@$(BIN)/python -m pytest -q -m browser tests/browser $(ARGS)

check: $(READY) ## lint, format, types, import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy --strict $(CODE)
	@$(BIN)/lint-imports --no-logo

format: $(READY) ## repair format and what ruff can repair
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

crash: $(READY) ## kill -9 at random moments, then count jobs and money (JOBS=200 KILLS=30)
	@$(BIN)/python -m tests.crash --jobs $(JOBS) --kills $(KILLS) --database sqlite
	@$(BIN)/python -m tests.crash --jobs $(JOBS) --kills $(KILLS) --database postgres

tiny-eval: $(READY) ## score the shipped model by its pixels on combinations it was not trained on
	@$(BIN)/python -m local_models.tiny_training.evaluate $(ARGS)

limits: $(READY) ## documented limits over four processes, by the twins' own log; about 6 minutes
	@$(BIN)/python -m pytest -q -m slow tests/limits
	@$(BIN)/python -m tests.limits $(ARGS)

bench-policy: $(READY) ## the router's plans against a clairvoyant bound and simpler rules
	@$(BIN)/python -m benchmarks.policy $(ARGS)

bench-gateway: $(READY) ## cost of a durable create, status and list against floors and LiteLLM, in one run
	@$(BIN)/python -m benchmarks.gateway $(ARGS)

bench-outage: $(READY) ## an outage in the middle of a stream of jobs, drawn as a timeline
	@$(BIN)/python -m benchmarks.outage $(ARGS)

image: ## the container image for an NVIDIA box (needs Docker)
	@docker build -f Dockerfile.cuda -t understudy:cuda .

image-check: $(READY) ## lint Dockerfile.cuda and run its install steps in a clean folder; about 5 minutes
	@$(BIN)/hadolint Dockerfile.cuda
	@$(BIN)/python -m pytest -q -m slow tests/docker

bench-gpu: $(READY) ## real-size local models with random weights at 8 to 24 GB, on an NVIDIA card (ARGS=--dry without one)
	@$(BIN)/python -m benchmarks.gpu $(ARGS)

bench-bulk: $(READY) ## twenty local jobs through the runner against a plain diffusers loop
	@$(BIN)/python -m benchmarks.bulk $(ARGS)
