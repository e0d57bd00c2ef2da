# Two commands: `make demo` shows the product, `make test` proves it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
REAL_DATA ?=
REAL := $(if $(REAL_DATA),--real-data=$(REAL_DATA))

.PHONY: install demo up test lint bench clean

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,postgres]'
	touch $@

demo: install
	$(BIN)/av demo

up: install
	$(BIN)/av up

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: install lint
	$(BIN)/python -m pytest tests --ignore tests/end_to_end -n 2 --dist worksteal $(REAL)
	$(BIN)/python -m pytest tests/end_to_end

bench: install
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .av .pytest_cache .mypy_cache .ruff_cache
