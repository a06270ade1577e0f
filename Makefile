# Two commands do it all on a bare Debian or Ubuntu with Python and a compiler: make demo, make test.
RUN := .venv/bin
# Two at once and a file of tests at a time: each holds a few GB, and engines are built in both.
TESTS := OMP_NUM_THREADS=1 $(RUN)/python -m pytest -n auto --maxprocesses 2 --dist loadfile

.PHONY: demo test test-all lint format docs wheel clean
.venv/.ready: pyproject.toml constraints.txt CMakeLists.txt $(wildcard engines/native/*) ; .ci/env
demo: .venv/.ready ; $(RUN)/dinorad-rt eval --protocol knn --weights auto --out runs/demo && echo "  source .venv/bin/activate                     if dinorad-rt is not found"
test: .venv/.ready ; $(TESTS) -m "not slow and not gpu and not network"
test-all: .venv/.ready ; $(TESTS) -m "not gpu and not network"
lint: .venv/.ready ; $(RUN)/ruff check . && $(RUN)/ruff format --check . && $(RUN)/mypy
format: .venv/.ready ; $(RUN)/ruff check --fix . && $(RUN)/ruff format .
docs: .venv/.ready
	@$(RUN)/python -c 'import furo, myst_parser' 2>/dev/null || $(RUN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt $$($(RUN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"])')
	$(RUN)/python -m sphinx -b html -E -W --keep-going -q docs build/docs && echo "  build/docs/index.html"
wheel: .venv/.ready ; $(RUN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .
clean: ; rm -rf .venv build dist runs dinorad_rt/_native*
