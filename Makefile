# Everything a developer, a tester or CI calls. `make help` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := daemon tests bench packaging
LOCK := packaging/requirements/all.txt
INSTALLED := $(VENV)/.installed
# What the package carries, and what builds it: the same versions, fewer of them.
PART_OF_LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-annotate --constraint $(LOCK) --custom-compile-command "make lock"
# Most of a test's time is waiting: twice as many workers as cores keep two cores busy.
WORKERS ?= 4

.PHONY: help setup demo lint format dashboards test test-browser test-ceph test-metrics test-scale test-system deb soak mutation audit bench lock clean

help: ## Say what there is to call.
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(INSTALLED) ## Install everything, pinned and checked by hash, into .venv.

$(INSTALLED): $(LOCK) setup.cfg pyproject.toml
	@$(PYTHON) -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "sensordrop needs Python 3.11 or newer with venv (apt install python3-venv);" \
	         "name another one with: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## Drop two cards and see them arrive; DROP=/some/folder takes your own, read-only.
	@$(BIN)/sensordrop demo $(if $(DROP),--drop "$(DROP)")

lint: setup ## Style, types, the direction of imports, and the Dockerfile.
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)
	$(BIN)/mypy
	MYPYPATH=daemon:bench $(BIN)/mypy bench/*.py
	MYPYPATH=daemon:packaging/grafana $(BIN)/mypy packaging/grafana/*.py
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

format: setup ## Lay the code out anew.
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix $(SOURCES)

dashboards: setup ## Write Grafana's dashboards anew from their code.
	$(BIN)/python packaging/grafana/make_dashboards.py

# Where libfaketime is missing and can't be installed, the tests of wrong clocks are skipped.
test: setup ## All tests but the slow ones and those that need Ceph, Prometheus or a browser.
	-tests/faults/install_faketime.sh
	$(BIN)/pytest -m "not scale and not ceph and not prometheus and not browser and not system" -n $(WORKERS) --dist loadscope

test-browser: setup ## Pages in a real browser; as root installs it if it is missing.
	tests/contract/install_browser.sh
	$(BIN)/pytest -m browser

test-ceph: setup ## The S3 tests against a real Ceph; as root installs its packages if they are missing.
	tests/contract/install_ceph.sh
	$(BIN)/pytest -m ceph tests/contract

test-metrics: setup ## Metrics and alerts with a real Prometheus; as root installs it if it is missing.
	tests/contract/install_prometheus.sh
	$(BIN)/pytest -m prometheus

deb: ## Build the Debian package dist/sensordrop_VERSION_ARCH.deb; needs debhelper and python3-venv.
	packaging/build_deb.sh

test-system: setup ## Install the package on a booted Debian, as root: start, kill, freeze, upgrade, reboot, purge.
	tests/system/prepare.sh
	packaging/build_deb.sh
	lintian --allow-root --fail-on error dist/*.deb
	$(BIN)/pytest -m system -x tests/system

test-scale: setup ## Sweep 300,000 files twice, and many with little memory (SWEPT_FILES=1000000); takes minutes.
	$(BIN)/pytest -m scale -s tests/scale

soak: setup ## Break everything for MINUTES=5, by SEED; SABOTAGE=lose|alter|double|stick must fail; STORE=rclone; KEEP=1.
	@MINUTES="$(MINUTES)" SEED="$(SEED)" STORE="$(STORE)" SABOTAGE="$(SABOTAGE)" KEEP="$(KEEP)" $(BIN)/python -u tests/soak/soak.py

mutation: setup ## Change the rules in core/ and see that a unit test notices; ONLY=lifecycle,keys.
	@ONLY="$(ONLY)" $(BIN)/python -u tests/mutation/mutate.py

# Left out, because ruff's rules S look for the same and are answered line by line: asserts (B101),
# subprocess (B404, B603), words that look like passwords (B105), chance that keeps no secret (B311).
# The index is asked for known weaknesses; where it has no data on any, `NOT CHECKED` and exit code
# 3 of packaging/audit.py say so. That alone turns no run of CI red.
audit: setup ## Look for weaknesses in the code, and for known ones in what is pinned; needs the index.
	test -x .audit/bin/bandit || { $(PYTHON) -m venv .audit && .audit/bin/python -m pip install \
	  --quiet --disable-pip-version-check --require-hashes -r packaging/requirements/audit.txt; }
	.audit/bin/bandit -q -r daemon/sensordrop -s B101,B404,B603,B105,B311
	$(BIN)/python packaging/audit.py .audit/bin/pip-audit $(LOCK) \
	  $(if $(filter true,$(CI)),--unchecked-is-no-failure)

bench: setup ## Measure against s5cmd and others; ONLY=small,idle, QUICK=1, ROUNDS=5, BENCH_WORK=/fast/disk.
	ONLY="$(ONLY)" QUICK="$(QUICK)" ROUNDS="$(ROUNDS)" BENCH_WORK="$(BENCH_WORK)" $(BIN)/python -u bench/run.py

lock: setup ## Choose the newest allowed versions anew and pin them.
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	  --all-extras --no-emit-index-url --no-annotate --upgrade \
	  --custom-compile-command "make lock" \
	  setup.cfg packaging/requirements/build.in -o $(LOCK)
	$(BIN)/uv pip compile $(PART_OF_LOCK) --extra embedded setup.cfg -o packaging/requirements/package.txt
	$(BIN)/uv pip compile $(PART_OF_LOCK) packaging/requirements/build.in -o packaging/requirements/build.txt

clean: ## Remove what the other targets made, except the demo's folder.
	rm -rf $(VENV) .audit .bench .mutation build dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
