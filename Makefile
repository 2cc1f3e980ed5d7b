# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test lint octave clean

demo: $(INSTALLED)  ## the main job on a shipped .mat file: a table of schemes, precoders, a plot
	@mkdir -p out
	$(BIN)/nflae inspect examples/octave_channels.mat
	$(BIN)/nflae evaluate examples/octave_channels.mat --plot out/schemes.png
	$(BIN)/nflae precode examples/octave_channels.mat -o out/precoders.mat --plot out/users.png
	@echo "Wrote out/precoders.mat, out/users.png and out/schemes.png"

test: $(INSTALLED) octave  ## the whole suite, the tests against GNU Octave included
	$(BIN)/python -m pytest --slow

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy

# The tests say that they were skipped where Octave can't be installed; with CI set its absence fails them.
octave:
	@command -v octave-cli >/dev/null || { \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends octave \
	    || echo "apt-get could not install GNU Octave: its tests will be skipped"; \
	  else \
	    echo "GNU Octave is not installed and this is not root on Debian/Ubuntu: its tests will be skipped"; \
	  fi; }

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nflae-bridge needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	@touch $@

clean:
	rm -rf $(VENV) out build *.egg-info
