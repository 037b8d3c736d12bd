# Each target makes what it needs first: on a fresh clone, `make extract` creates the environment, draws the sample
# data set and extracts it. `make help` lists targets and variables.

PYTHON   ?= python3
VENV     ?= .venv
PIP_ARGS ?=
SAMPLE   := data/sample
DATA     ?= $(SAMPLE)
# The drawn sample needs no ImageNet weights (and no network), but keeps to what its cache was made with; real data does.
OF_SAMPLE := $(if $(wildcard data/caches/sample/plan.json),imagenet-or-random,random)
WEIGHTS  ?= $(if $(filter $(SAMPLE),$(DATA)),$(OF_SAMPLE),imagenet)
VIEWS    ?= center,flip
# Names that begin with `sample` are the drawn sample's: `make clean` removes what bears them.
FOLDER   := $(notdir $(patsubst %/,%,$(DATA)))
NAME     := $(if $(filter $(SAMPLE),$(DATA)),sample$(if $(filter imagenet,$(WEIGHTS)),-imagenet),$(patsubst sample%,own-sample%,$(FOLDER)))
CACHE    ?= data/caches/$(NAME)
RUN      ?= data/runs/$(NAME)
TUNED    ?= $(RUN)-finetuned
ARGS     ?=
VIDEO    ?=

# The sample is small: so is its head, and it can be tuned on a few cores.
HEAD_ARGS     ?= $(if $(filter $(SAMPLE),$(DATA)),--hidden 64 --frames 16 --epochs 128)
FINETUNE_ARGS ?= $(if $(filter $(SAMPLE),$(DATA)),--epochs 8 --unfreeze 8 --backbone-lr 0.3)
EXTRACT_ARGS  ?= $(if $(filter extract,$(MAKECMDGOALS)),$(ARGS))
# A run that was interrupted is gone on with, a finished one is kept; nothing is replaced unless ARGS says so.
KEEP = $(if $(filter --overwrite --resume,$(ARGS)),,--resume)
define TELL_KEPT
@if test -n "$(KEEP)" && test -f $(1)/config.json; then \
	echo "$(1): a run is there. An unfinished one goes on, a finished one is kept; ARGS=--overwrite starts it over."; fi
endef

HAR_CACHE := $(VENV)/bin/har-cache
INSTALLED := $(VENV)/.installed
DEVELOP   := $(VENV)/.installed-dev
DOCS      := $(VENV)/.installed-docs

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo "Variables, with what they are now (make TARGET NAME=VALUE):"
	@echo "  DATA=$(DATA)  the data set; CACHE, RUN and TUNED follow its name"
	@echo "  CACHE=$(CACHE)"
	@echo "  RUN=$(RUN)  of train-head, evaluate, report, predict"
	@echo "  TUNED=$(TUNED)  of finetune"
	@echo "  RUNS=$(RUNS)  of reproduce"
	@echo "  WEIGHTS=$(WEIGHTS)  imagenet, random, imagenet-or-random, or a file"
	@echo "  VIEWS=$(VIEWS)"
	@echo "  VIDEO=$(VIDEO)  of predict: files or folders"
	@echo "  ARGS=$(ARGS)  more options of the target's command; --overwrite makes a run anew"
	@echo "  EXTRACT_ARGS=$(EXTRACT_ARGS)"
	@echo "  HEAD_ARGS=$(HEAD_ARGS)"
	@echo "  FINETUNE_ARGS=$(FINETUNE_ARGS)"
	@echo "  REPRODUCE_ARGS=$(REPRODUCE_ARGS)"
	@echo "  PYTHON=$(PYTHON)  makes the environment"
	@echo "  VENV=$(VENV)  the environment"
	@echo "  PIP_ARGS=$(PIP_ARGS)  more options of pip install, as for a torch without CUDA (README)"

setup: $(INSTALLED) ## Create the environment (uv where there is one, else pip)

$(INSTALLED): pyproject.toml
	$(call pip_install,.)
	@touch $@

$(DEVELOP): pyproject.toml
	$(call pip_install,.[dev])
	@touch $(INSTALLED) $@

$(DOCS): pyproject.toml
	$(call pip_install,.[docs])
	@touch $(INSTALLED) $@

define pip_install
@test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
@echo "Installing into $(VENV): some minutes, in which nothing is printed"
@if command -v uv >/dev/null; then uv pip install -q --python $(VENV)/bin/python $(PIP_ARGS) -e '$(1)'; else \
	PIP_ROOT_USER_ACTION=ignore $(VENV)/bin/python -m pip install -q --disable-pip-version-check $(PIP_ARGS) -e '$(1)'; fi
endef

download: $(INSTALLED) ## Fetch HMDB51 (2.1 GB) into data/hmdb51
	$(HAR_CACHE) download --out data/hmdb51 $(ARGS)

sample: $(SAMPLE)/sample.json ## Draw the sample data set

$(SAMPLE)/sample.json: | $(INSTALLED)
	$(HAR_CACHE) sample --out $(SAMPLE)

# Always asked: extract itself knows what is done, and does only the rest.
extract: $(INSTALLED) $(if $(filter $(SAMPLE),$(DATA)),$(SAMPLE)/sample.json) ## Stage one: videos -> cache
	$(HAR_CACHE) extract --data $(DATA) --cache $(CACHE) --weights $(WEIGHTS) --views $(VIEWS) $(EXTRACT_ARGS)

train-head: extract ## Stage two: cache -> head, validated on held-out sources
	$(call TELL_KEPT,$(RUN))
	$(HAR_CACHE) train-head --cache $(CACHE) --run $(RUN) $(KEEP) $(HEAD_ARGS) $(ARGS)

evaluate: $(INSTALLED) ## Figures of the run on its test list, and a page of them
	@test -d $(RUN) || $(MAKE) --no-print-directory train-head
	$(HAR_CACHE) evaluate $(RUN) $(if $(filter evaluate,$(MAKECMDGOALS)),$(ARGS))
	$(HAR_CACHE) report $(RUN) --data $(DATA)

report: $(INSTALLED) ## The page of an evaluated run, again
	$(HAR_CACHE) report $(RUN) --data $(DATA) $(ARGS)

# ARGS are finetune's alone: a head that is trained on the way there gets none.
finetune: extract ## Stage three: raw frames -> encoder and head, end to end, from the head's run on
	@test -f $(RUN)/model.safetensors || $(MAKE) --no-print-directory train-head ARGS=
	$(call TELL_KEPT,$(TUNED))
	$(HAR_CACHE) finetune --from $(RUN) --data $(DATA) --run $(TUNED) $(KEEP) $(FINETUNE_ARGS) $(ARGS)
	$(HAR_CACHE) evaluate $(TUNED)

predict: $(INSTALLED) ## What RUN makes of VIDEO
	@test -n "$(VIDEO)" || { echo "make predict VIDEO=FILE: which video?" >&2; exit 2; }
	$(HAR_CACHE) predict $(RUN) $(VIDEO) $(ARGS)

demo: ## Everything, from the environment to the report, on the sample data set
	$(COSTS)
	@$(MAKE) --no-print-directory DATA=$(SAMPLE) WEIGHTS=imagenet-or-random shown

define COSTS
@echo "This makes"
@test -f $(INSTALLED) || echo "  $(VENV): an environment, 6 GB and some minutes of pip; 1.4 GB with a torch without CUDA (README)"
@echo "  $(SAMPLE), data/caches/sample, data/runs/sample: 0.1 GB, 5 to 10 minutes on 2 cores; what is done is kept"
@echo "'make clean' removes what is in data/ again, 'rm -r $(VENV)' the environment."
endef

# The end of the demo: the lines that matter, what they are figures of, and where the page is.
shown: train-head
	@echo "Evaluating on the test list"; \
	figures=$$($(HAR_CACHE) evaluate $(RUN)) && page=$$($(HAR_CACHE) report $(RUN) --data $(DATA)) && \
	echo && echo "$$figures" | sed -n 1,4p && \
	if grep -q '"weights": "random' $(CACHE)/manifest.json; then weights=RANDOM; else weights=ImageNet; fi && \
	echo "Of a DRAWN data set and an encoder with $$weights weights: this says nothing of real video." && \
	echo "Report, to be opened in a browser: $$page"

# Each step is a command that does only what is not done yet, so that it goes on where it was interrupted. With the CACHE
# of another data set, or one that is made up (`har-cache standin`), DATA is not taken by default.
RUNS ?= data/runs/$(if $(REPRODUCED),$(NAME),$(notdir $(patsubst %/,%,$(CACHE))))-reproduction
REPRODUCED := $(if $(and $(filter command line environment,$(origin CACHE)),$(filter file,$(origin DATA))),,$(DATA))
OF_SAMPLE_ARGS := --hidden 64 --frames 16 --epochs 128 --tune-epochs 8 --unfreeze 8 --backbone-lr 0.3
REPRODUCE_ARGS ?= $(if $(filter $(SAMPLE),$(REPRODUCED)),$(OF_SAMPLE_ARGS))

reproduce: $(INSTALLED) $(if $(filter $(SAMPLE),$(REPRODUCED)),$(SAMPLE)/sample.json) ## With DATA=data/hmdb51: everything, from its download to a table
	$(HAR_CACHE) reproduce $(if $(REPRODUCED),--data $(REPRODUCED)) --cache $(CACHE) --runs $(RUNS) --weights $(WEIGHTS) \
		--views $(VIEWS) $(REPRODUCE_ARGS) $(ARGS)

bench: $(INSTALLED) $(if $(filter $(SAMPLE),$(DATA)),$(SAMPLE)/sample.json) ## How fast this machine is at each part, and what bounds it
	$(HAR_CACHE) bench --data $(DATA) $(ARGS)

test: $(DEVELOP) ## Run the tests
	$(VENV)/bin/python -m pytest -n auto $(ARGS)

mutants: $(DEVELOP) ## Whether the tests notice small faults, 100 of them (an hour)
	$(VENV)/bin/python -m tests.mutation $(ARGS)

# Every fault that is known, a few of each; ARGS="--long --page docs/reliability.md" for all of them, an hour or so.
test-faults: $(DEVELOP) ## Kill, damage, starve and deceive the commands, and count what is lost (5 minutes)
	$(VENV)/bin/python -m tests.faults $(ARGS)

gpu-check: $(DEVELOP) ## Whether the GPU here is right, how fast it is and what bounds it (10 minutes at most)
	$(VENV)/bin/python -m tests.gpu_check $(ARGS)

lint: $(DEVELOP) ## Check style and types
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-logo

docs: $(DOCS) ## Build the documentation into site/ (open site/index.html)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build -q --strict $(ARGS)

# Caches and runs of other data sets stay, and so does the environment.
clean: ## Remove the drawn sample, its caches and runs, and what builds left; nothing else
	rm -rf $(SAMPLE) data/caches/sample data/caches/sample-imagenet data/runs/sample data/runs/sample-finetuned \
		data/runs/sample-reproduction data/runs/sample-imagenet data/runs/sample-imagenet-finetuned \
		data/runs/sample-imagenet-reproduction build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find har_cache cli tests -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help setup download sample extract train-head evaluate report finetune predict demo shown reproduce bench \
	test test-faults mutants gpu-check lint docs clean
