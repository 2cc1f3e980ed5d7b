# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
WORKERS ?= 2  # processes of the test suite, one per core; 0: pytest's own

.PHONY: demo test fuzz lint docs octave-package peers clean

demo: $(INSTALLED)  ## the main job on a shipped .mat file: a table of schemes, precoders, a plot
	@mkdir -p out
	$(BIN)/nflae inspect examples/octave_channels.mat --layout nks
	$(BIN)/nflae evaluate examples/octave_channels.mat --layout nks --plot out/schemes.png
	$(BIN)/nflae precode examples/octave_channels.mat --layout nks -o out/precoders.mat --plot out/users.png
	@echo "Wrote out/precoders.mat, out/users.png and out/schemes.png"

test: $(INSTALLED) peers  ## the whole suite, the tests against GNU Octave, GNU Radio and Chromium included
	$(BIN)/python -m pytest --slow -n $(WORKERS) --dist worksteal

SECONDS ?= 60
fuzz: $(INSTALLED)  ## every fuzzer for a minute, or SECONDS=3600 each; failing seeds are kept in tests/fuzz/seeds
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --seconds $(SECONDS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(INSTALLED)  ## the documentation: build/docs/index.html
	$(BIN)/python docs/generate.py
	OMP_NUM_THREADS=1 $(BIN)/python -m sphinx -b html -W --keep-going -q docs build/docs
	@echo "Wrote build/docs/index.html"

VERSION = $(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' matlab_io/version.py)
BUILD = build/octave
PACKAGE = $(BUILD)/nflae-$(VERSION)
octave-package:  ## the MATLAB functions as a package for Octave: build/octave/nflae-VERSION.tar.gz
	@rm -rf $(BUILD) && mkdir -p $(PACKAGE)
	@cp -r matlab_io/matlab $(PACKAGE)/inst && mv $(PACKAGE)/inst/octave/INDEX $(PACKAGE)/INDEX \
	  && rm -r $(PACKAGE)/inst/octave $(PACKAGE)/inst/resources $(PACKAGE)/inst/buildfile.m
	@sed 's/@VERSION@/$(VERSION)/' matlab_io/matlab/octave/DESCRIPTION > $(PACKAGE)/DESCRIPTION
	@cp LICENSE $(PACKAGE)/COPYING
	@tar -czf $(PACKAGE).tar.gz -C $(BUILD) nflae-$(VERSION)
	@echo "Wrote $(PACKAGE).tar.gz; in Octave: pkg install $(PACKAGE).tar.gz"

# Tests whose program cannot be installed are reported as skipped; with CI set its absence fails them.
peers:
	@missing=""; \
	command -v octave-cli >/dev/null || missing="octave"; \
	ls /usr/share/octave/packages/zeromq-* >/dev/null 2>&1 || missing="$$missing octave-zeromq"; \
	/usr/bin/python3 -c "import gnuradio.zeromq" 2>/dev/null || missing="$$missing gnuradio"; \
	command -v chromedriver >/dev/null || missing="$$missing chromium chromium-driver"; \
	if [ -z "$$missing" ]; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing \
	  || echo "apt-get could not install $$missing: their tests will be skipped"; \
	else \
	  echo "$$missing not installed and this is not root on Debian/Ubuntu: their tests will be skipped"; \
	fi

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "nflae-bridge needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt "torch==2.13.0"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[test]"
	@touch $@

clean:
	rm -rf $(VENV) out build *.egg-info
