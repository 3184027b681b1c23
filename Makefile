# make demo                 trains both phases of SSA-GAN on the embedded emoji data and draws a grid
# make demo MODEL=galip     the same with another GAN: attngan, dfgan, dmgan, ssagan or galip
# make test                 runs the whole test suite
PYTHON ?= python3.11
BIN := .venv/bin
MODEL ?= ssagan
STEPS ?= 1500
RUNS ?= runs/demo
GANS = $(filter-out damsm clip,$(patsubst scripts/recipes/%-emoji.yaml,%,$(wildcard scripts/recipes/*-emoji.yaml)))
ENCODERS = $(if $(filter galip,$(MODEL)),clip,damsm)
# after so few steps SSA-GAN's noise would decide the outline
TRUNCATION = $(if $(filter ssagan,$(MODEL)),--truncation 0.3)
LAUNCH := $(BIN)/accelerate launch --quiet --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
	--num_cpu_threads_per_process $(shell nproc)

.PHONY: demo test clean

demo: .venv/installed
ifeq ($(filter $(MODEL),$(GANS)),)
	$(error there is no GAN MODEL=$(MODEL); it is one of $(GANS))
endif
	$(LAUNCH) scripts/train.py --recipe $(ENCODERS)-emoji --output-dir $(RUNS)/$(ENCODERS) --resume steps=400
	$(LAUNCH) scripts/train.py --recipe $(MODEL)-emoji --output-dir $(RUNS)/$(MODEL) --resume steps=$(STEPS) encoders=$(RUNS)/$(ENCODERS)/model \
		evaluation.features=null best_metric=frechet_encoder
	$(BIN)/python scripts/generate.py --model $(RUNS)/$(MODEL)/model --prompts-file scripts/prompts.txt $(TRUNCATION) --output $(RUNS)/$(MODEL)-grid.png
	@echo "a dozen prompts, drawn: $(RUNS)/$(MODEL)-grid.png"

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

.venv/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

clean:
	rm -rf .venv runs/demo
