# make demo                 draws with the trained model inside the package, then trains both phases
#                           of AttnGAN for a few minutes and draws the same with both, side by side
# make demo MODEL=galip     the same with another GAN: attngan, dfgan, dmgan, ssagan or galip
# make test                 runs the whole test suite
# make package              builds sdist and wheel into dist/, installs the wheel by itself and draws with it
# make space                opens the web page in an environment of its requirements alone and draws with it
PYTHON ?= python3.11
BIN := .venv/bin
MODEL ?= attngan
STEPS ?= 400
RUNS ?= runs/demo
GANS = $(filter-out damsm clip,$(patsubst scripts/recipes/%-emoji.yaml,%,$(wildcard scripts/recipes/*-emoji.yaml)))
ENCODERS = $(if $(filter galip,$(MODEL)),clip,damsm)
EMBEDDED := t2i_supcon/embedded/emoji-scl
LAUNCH := $(BIN)/accelerate launch --quiet --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no \
	--num_cpu_threads_per_process $(shell nproc)

.PHONY: demo test package space clean

demo: .venv/installed
ifeq ($(filter $(MODEL),$(GANS)),)
	$(error there is no GAN MODEL=$(MODEL); it is one of $(GANS))
endif
	$(BIN)/python scripts/generate.py --prompts-file scripts/prompts.txt --output $(RUNS)/embedded.png
	@echo "drawn by the trained model inside the package: $(RUNS)/embedded.png"
	$(LAUNCH) scripts/train.py --recipe $(ENCODERS)-emoji --output-dir $(RUNS)/$(ENCODERS) --resume steps=350
	$(LAUNCH) scripts/train.py --recipe $(MODEL)-emoji --output-dir $(RUNS)/$(MODEL) --resume steps=$(STEPS) encoders=$(RUNS)/$(ENCODERS)/model \
		pixel_draws=1 ema_decay=0.98 evaluation.features=null best_metric=frechet_encoder
	$(BIN)/python scripts/generate.py --prompts-file scripts/prompts.txt --output $(RUNS)/$(MODEL).png \
		--model $(EMBEDDED) --model $(RUNS)/$(MODEL)/model
	@echo "the package's model beside the one trained just now: $(RUNS)/$(MODEL).png"

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

# the wheel's own environment sees the dependencies in .venv, but not this folder
package: .venv/installed
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	$(PYTHON) -m venv --without-pip dist/venv
	$(BIN)/pip --python dist/venv/bin/python install --quiet --no-deps dist/*.whl
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > $$(dist/venv/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/dependencies.pth
	cd dist && venv/bin/python ../scripts/generate.py --prompt "a red heart" --output drawn.png
	cd dist && venv/bin/python -c "import t2i_supcon; assert '/dist/venv/' in t2i_supcon.__file__, t2i_supcon.__file__"
	rm -rf dist/venv

space: .venv/installed
	rm -rf build/space
	$(BIN)/pip wheel --quiet --no-deps --wheel-dir build/space .
	$(PYTHON) -m venv --without-pip build/space/venv
	$(BIN)/pip --python build/space/venv/bin/python install --quiet --no-compile --find-links build/space \
		--requirement spaces/text_to_image/requirements.txt
	$(BIN)/python -m pytest --numprocesses 0 tests/spaces/clean_environment.py
	rm -rf build/space

.venv/installed: setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable ".[test]"
	touch $@

clean:
	rm -rf .venv dist runs/demo
