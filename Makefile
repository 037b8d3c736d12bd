# Each target makes what it needs first: on a fresh clone, `make extract` creates the environment, draws the sample
# data set and extracts it. Reuse an environment with VENV=..., use your own data with DATA=... CACHE=... WEIGHTS=...

PYTHON  ?= python3
VENV    ?= .venv
SAMPLE  := data/sample
DATA    ?= $(SAMPLE)
# The drawn sample needs no ImageNet weights (and no network), but keeps to what its cache was made with; real data does.
OF_SAMPLE := $(if $(wildcard data/caches/sample/plan.json),imagenet-or-random,random)
WEIGHTS ?= $(if $(filter $(SAMPLE),$(DATA)),$(OF_SAMPLE),imagenet)
VIEWS   ?= center,flip
NAME    := $(notdir $(patsubst %/,%,$(DATA)))$(if $(filter $(SAMPLE)=imagenet,$(DATA)=$(WEIGHTS)),-imagenet)
CACHE   ?= data/caches/$(NAME)
ARGS    ?=
EXTRACT_ARGS ?= $(if $(filter extract,$(MAKECMDGOALS)),$(ARGS))

RUN     ?= data/runs/$(NAME)
TUNED   ?= $(RUN)-finetuned
# The sample is small: so is its head, and it can be tuned on a few cores.
HEAD_ARGS     ?= $(if $(filter $(SAMPLE),$(DATA)),--hidden 64 --frames 16 --epochs 128)
FINETUNE_ARGS ?= $(if $(filter $(SAMPLE),$(DATA)),--epochs 8 --unfreeze 8 --backbone-lr 0.3)
HAR_CACHE := $(VENV)/bin/har-cache
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo
	@echo "  Variables: DATA=$(DATA) CACHE=$(CACHE) WEIGHTS=$(WEIGHTS) VIEWS=$(VIEWS) VENV=$(VENV) ARGS=..."

setup: $(INSTALLED) ## Create the environment (uv where there is one, else pip)

$(INSTALLED): pyproject.toml
	@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	@if command -v uv >/dev/null; then \
		echo "Installing with uv (about 6 GB, mostly torch)"; uv pip install -q --python $(VENV)/bin/python -e '.[dev]'; \
	else \
		echo "Installing with pip (about 6 GB, mostly torch; a few minutes)"; $(VENV)/bin/python -m pip install -q -e '.[dev]'; \
	fi
	@touch $@

sample: $(SAMPLE)/sample.json ## Draw the sample data set

$(SAMPLE)/sample.json: | $(INSTALLED)
	$(HAR_CACHE) sample --out $(SAMPLE)

# Always asked: extract itself knows what is done, and does only the rest.
extract: $(INSTALLED) $(if $(filter $(SAMPLE),$(DATA)),$(SAMPLE)/sample.json) ## Stage one: videos -> cache
	$(HAR_CACHE) extract --data $(DATA) --cache $(CACHE) --weights $(WEIGHTS) --views $(VIEWS) $(EXTRACT_ARGS)

train-head: extract ## Stage two: cache -> head, validated on held-out sources
	$(HAR_CACHE) train-head --cache $(CACHE) --run $(RUN) $(if $(wildcard $(RUN)/*),--overwrite) $(HEAD_ARGS) $(ARGS)

evaluate: $(INSTALLED) ## Honest figures of the run, and a page of them
	@test -d $(RUN) || $(MAKE) --no-print-directory train-head
	$(HAR_CACHE) evaluate $(RUN)
	$(HAR_CACHE) report $(RUN) --data $(DATA)

# ARGS are finetune's alone: a head that is trained on the way there gets none.
finetune: extract ## Stage three: raw frames -> encoder and head, end to end, from the head's run on
	@test -f $(RUN)/model.safetensors || $(MAKE) --no-print-directory train-head ARGS=
	$(HAR_CACHE) finetune --from $(RUN) --data $(DATA) --run $(TUNED) $(if $(wildcard $(TUNED)/*),--overwrite) \
		$(FINETUNE_ARGS) $(ARGS)
	$(HAR_CACHE) evaluate $(TUNED)

demo: $(INSTALLED) $(SAMPLE)/sample.json ## Everything, from the environment to the report, on the sample data set
	@$(MAKE) --no-print-directory DATA=$(SAMPLE) WEIGHTS=imagenet-or-random shown

# The end of the demo: the lines that matter, and where the page is.
shown: train-head
	@echo "Evaluating on the test list"; \
	figures=$$($(HAR_CACHE) evaluate $(RUN)) && page=$$($(HAR_CACHE) report $(RUN) --data $(DATA)) && \
	echo && echo "$$figures" | sed -n 1,4p && echo "Report, to be opened in a browser: $$page"

# Each step is a command that does only what is not done yet, so that it goes on where it was interrupted. With the CACHE
# of another data set, or one that is made up (`har-cache standin`), DATA is not taken by default.
RUNS ?= data/runs/$(if $(REPRODUCED),$(NAME),$(notdir $(patsubst %/,%,$(CACHE))))-reproduction
REPRODUCED := $(if $(and $(filter command line environment,$(origin CACHE)),$(filter file,$(origin DATA))),,$(DATA))
OF_SAMPLE_ARGS := --hidden 64 --frames 16 --epochs 128 --tune-epochs 8 --unfreeze 8 --backbone-lr 0.3
REPRODUCE_ARGS ?= $(if $(filter $(SAMPLE),$(REPRODUCED)),$(OF_SAMPLE_ARGS))

reproduce: $(INSTALLED) $(if $(filter $(SAMPLE),$(REPRODUCED)),$(SAMPLE)/sample.json) ## Everything with DATA=HMDB51, from its download to the table
	$(HAR_CACHE) reproduce $(if $(REPRODUCED),--data $(REPRODUCED)) --cache $(CACHE) --runs $(RUNS) --weights $(WEIGHTS) \
		--views $(VIEWS) $(REPRODUCE_ARGS) $(ARGS)

test: $(INSTALLED) ## Run the tests
	$(VENV)/bin/python -m pytest -n auto $(ARGS)

mutants: $(INSTALLED) ## Whether the tests notice small faults, 100 of them (an hour)
	$(VENV)/bin/python -m tests.mutation $(ARGS)

# Every fault that is known, a few of each; ARGS="--long --page docs/reliability.md" for all of them, an hour or so.
test-faults: $(INSTALLED) ## Kill, damage, starve and deceive the commands, and count what is lost (5 minutes)
	$(VENV)/bin/python -m tests.faults $(ARGS)

gpu-check: $(INSTALLED) ## Whether the GPU here is right, how fast it is and what bounds it (10 minutes at most)
	$(VENV)/bin/python -m tests.gpu_check $(ARGS)

lint: $(INSTALLED) ## Check style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

clean: ## Remove the sample, caches, runs and build leftovers (not the environment)
	rm -rf $(SAMPLE) data/caches data/runs build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find har_cache cli tests -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help setup sample extract train-head evaluate finetune demo shown reproduce test test-faults mutants gpu-check lint clean
