# Every target does its own set-up: a virtual environment in .venv with what the target needs. A second call repeats nothing.
PYTHON ?= python3
# A CPU is enough for everything here. Another version: make test TORCH="torch>=2.6"
TORCH ?= torch==2.13.0

ifeq ($(OS),Windows_NT)
BIN := .venv/Scripts
else
BIN := .venv/bin
endif

.PHONY: ask test lint format docs train-tiny notebooks clean help

help:  ## Show the targets
	@grep -E '^[a-z-]+:.*## ' Makefile | sed -e 's/:.*## /\t/'

ask: .venv/.core  ## Render a street scene and answer three questions about it
	$(BIN)/python scripts/ask.py --scene 24 --text "Can I move forward?" --text "Is there a pedestrian?" \
		--text "What time of day is it?" --overlay outputs/ask.png

test: .venv/.dev  ## Run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 0

lint: .venv/.dev  ## Check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python scripts/check_types.py

format: .venv/.dev  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: .venv/.dev  ## Write the reference of every module to outputs/reference, from the docstrings
	$(BIN)/pdoc --docformat google --output-directory outputs/reference traffic_vlm.modeling traffic_vlm.processing \
		traffic_vlm.training traffic_vlm.evaluation traffic_vlm.deployment

train-tiny: .venv/.dev  ## Render frames, build questions, train for a minute: first contact with training
	$(BIN)/python scripts/build_dataset.py --synthetic 100 --output outputs/tiny_questions
	$(BIN)/accelerate launch --config_file configs/launch/cpu.yaml scripts/train.py --config configs/train/tiny.yaml

notebooks: .venv/.dev  ## Run the notebooks and store what they print and draw
	$(BIN)/python scripts/run_notebooks.py

clean:  ## Remove the environment and outputs
	rm -rf .venv outputs

.venv/.torch:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	@$(BIN)/python -c "open('.venv/.torch', 'w').close()"

.venv/.core: .venv/.torch pyproject.toml
	$(BIN)/python -m pip install --quiet -e ".[render]"
	@$(BIN)/python -c "open('.venv/.core', 'w').close()"

.venv/.dev: .venv/.torch pyproject.toml
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	@$(BIN)/python -c "open('.venv/.core', 'w').close(); open('.venv/.dev', 'w').close()"
