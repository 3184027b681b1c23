# make demo    trains both phases on the embedded emoji data (9 minutes on 2 CPU cores) and draws a grid
# make test    runs the whole test suite
PYTHON ?= python3.11
BIN := .venv/bin
RUNS ?= runs/demo
LAUNCH := $(BIN)/accelerate launch --quiet --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
	--num_cpu_threads_per_process $(shell nproc)

.PHONY: demo test clean

demo: .venv/installed
	$(LAUNCH) scripts/train.py --recipe damsm-emoji --output-dir $(RUNS)/damsm --resume steps=400
	$(LAUNCH) scripts/train.py --recipe ssagan-emoji --output-dir $(RUNS)/ssagan --resume steps=1500 encoders=$(RUNS)/damsm/model
	$(BIN)/python scripts/generate.py --model $(RUNS)/ssagan/model --prompts-file scripts/prompts.txt --truncation 0.3 --output $(RUNS)/grid.png
	@echo "a dozen prompts, drawn: $(RUNS)/grid.png"

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest

.venv/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

clean:
	rm -rf .venv runs/demo
