# All set-up happens here: `make demo` and `make test` work on a fresh Debian 12 machine as root.
SHELL := /bin/bash
VENV := .venv
PYTHON := $(VENV)/bin/python
STAMP := $(VENV)/.ready
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)

# A server that is started a hundred times is not to be compiled a hundred times.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help demo page pictures run test test-long test-unit check format bench matrix setup clean windows-agent

help: ## Show what can be made
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(STAMP) ## Install Debian packages and the virtual environment

BROWSER_PARTS := src/notfallserver/server/web/static/vendor

$(STAMP): pyproject.toml $(wildcard packaging/*.txt)
	$(SUDO) packaging/install-packages server-packages.txt lab-packages.txt
	$(SUDO) packaging/install-browser-parts browser-parts.txt $(BROWSER_PARTS)
	$(SUDO) packaging/install-browser-parts lab-browser-parts.txt build/browser
	[ -x $(PYTHON) ] || /usr/bin/python3 -m venv $(VENV)
	$(PYTHON) -m pip install --quiet --upgrade pip setuptools wheel
	$(PYTHON) -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(STAMP) ## The whole cycle on a real guest, unattended (KEEP=1 leaves the server running)
	PYTHONPATH=lab $(PYTHON) -m notfall_lab.demo $(if $(KEEP),--keep)

page: ## The whole page with a simulated world: no root, no disks (PORT=8443, SPEED=1)
	[ -x $(PYTHON) ] || $(MAKE) setup
	PYTHONPATH=lab $(PYTHON) -m notfall_lab.dryrun --port $(or $(PORT),8443) --speed $(or $(SPEED),1)

pictures: $(STAMP) ## Take the manual's screenshots anew
	PYTHONPATH=lab $(PYTHON) -m notfall_lab.dryrun.pictures

run: $(STAMP) ## Set up and run a server on this machine with its data below build/server
	NOTFALL_CONFIG=build/server/notfall.toml $(VENV)/bin/notfall server init --data-dir build/server --no-protect-versions
	NOTFALL_CONFIG=build/server/notfall.toml $(VENV)/bin/notfall server run

COMMON := $(addprefix src/notfallserver/agent/,addresses.py duty.py enrolment.py files.py seed.py servers.py service.py work/base.py work/here.py)

check: $(STAMP) ## Format, lint, types, import layers
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/mypy --platform win32 --follow-imports silent --cache-dir .mypy_cache/windows \
		src/notfallserver/agent/windows src/notfallserver/agent/ntfs $(COMMON)
	$(PYTHON) -m pytest -q tests/unit/test_layers.py

TWO_AT_A_TIME := PYTHONPATH=lab $(PYTHON) -m pytest -n 2 --dist worksteal

test: check windows-agent ## Unit, integration, a whole cycle on a real guest; two at a time
	$(TWO_AT_A_TIME) -m "not long"

test-long: $(STAMP) ## Further guests, an hour: everything killed within a cycle, storage in layers, other kernels
	$(TWO_AT_A_TIME) -m long

test-unit: $(STAMP) ## Only the tests that need neither root nor a guest
	PYTHONPATH=lab $(PYTHON) -m pytest tests/unit

format: $(STAMP) ## Format the sources
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

BENCHES := run freeze growth lines scale activation pages retention offload

bench: $(STAMP) ## Measure all figures, about half an hour; writes bench/results.json and docs/benchmarks.md
	$(PYTHON) -m pip install --quiet --editable '.[bench]'
	failed=; for part in $(BENCHES); do \
		echo "== $$part"; time PYTHONPATH=lab $(PYTHON) -m bench.$$part || failed="$$failed $$part"; \
	done; \
	$(PYTHON) -m bench.plot && $(PYTHON) -m bench.table && \
	if [ -n "$$failed" ]; then echo "these did not come to an end:$$failed"; exit 1; fi

matrix: $(STAMP) ## Boot all cases of docs/compatibility.md, an hour or more (CASES='b12-*', JOBS=2, AGAIN=1)
	PYTHONPATH=lab $(PYTHON) -m notfall_lab.matrix --jobs $(or $(JOBS),1) $(if $(AGAIN),--again) $(CASES)

WINDOWS_AGENT := build/windows/notfall-agent.msi

windows-agent: $(WINDOWS_AGENT) ## Build the agent for Windows with Wine: build/windows/notfall-agent.msi

$(WINDOWS_AGENT): $(STAMP) $(wildcard packaging/windows/* packaging/windows-packages.txt) \
		$(shell find src/notfallserver/agent src/notfallserver/wire -name '*.py')
	$(SUDO) packaging/install-packages windows-packages.txt
	PYTHON=$(PYTHON) packaging/windows/build

clean: ## Remove what was built here (the lab's cache stays)
	rm -rf build dist $(VENV) .mypy_cache .ruff_cache .pytest_cache
