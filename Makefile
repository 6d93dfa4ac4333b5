# `make` explains the targets. Everything that is made lies in .venv and .build.

unexport PYTHONPATH PYTHONHOME
export PYTHON

PY = .venv/bin/python

# The tree's own Python looks after itself; any other is only sought where that one is not there.
setup = @if [ -x $(PY) ] && $(PY) -I -c pass 2>/dev/null; then python=$(PY); \
	else python="$$(tools/find_python.sh)" || exit 1; fi; \
	"$$python" -I tools/setup.py

.PHONY: help setup run cluster faults serve image flash test test-cpy test-mpy test-boards bench bench-rv32 cluster-bench fuzz lint size size-diff lock clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | \
		awk -F ':.*## ' '{ printf "  make %-13s %s\n", $$1, $$2 }'

run: ## a key server, four members and an attacker on this machine (SECONDS=n, JSON=1, SEED=n, CAPTURE=dir)
	$(setup) venv micropython mpy
	@exec $(PY) -m covey_host.demo

cluster: ## three key servers over etcd, killed, stopped and cut off in turn, and members that don't mind (JSON=1)
	$(setup) venv micropython mpy etcd
	@exec $(PY) -m covey_host.cluster.show

faults: ## key servers over etcd under random faults, and what must hold (MINUTES=n SEED=n ONLY="fault, fault" KEEP=1)
	$(setup) venv micropython mpy etcd
	@exec nice $(PY) -m covey_host.cluster.faults

serve: ## the key server of the site in $COVEY_SITE or the current directory
	$(setup) venv
	@exec .venv/bin/covey serve

image flash: asked = $(if $(and $(X),$(BOARD)),,$(error say `make $@ X=member BOARD=board`))

image: ## what a member's board gets, in one file (X=member BOARD=name FIRMWARE=file OUT=file ROMFS=1)
	$(asked)$(setup) venv
	@exec .venv/bin/covey image $(X) --board $(BOARD) $(if $(FIRMWARE),--firmware $(FIRMWARE)) \
		$(if $(OUT),--output $(OUT)) $(if $(ROMFS),--romfs)

flash: ## the same into the flash of a board, verified (X=member BOARD=name PORT=port FIRMWARE=file ERASE=1)
	$(asked)$(setup) venv
	@exec .venv/bin/covey flash $(X) --board $(BOARD) $(if $(PORT),--port $(PORT)) \
		$(if $(FIRMWARE),--firmware $(FIRMWARE)) $(if $(ERASE),--erase)

test: ## every suite: CPython, 32-bit and 64-bit MicroPython, the host, many processes (JOBS=n)
	$(setup) venv micropython mpy etcd
	@exec $(PY) tools/suites.py

test-cpy: ## the suites that need no MicroPython
	$(setup) venv etcd
	@WITHOUT_MICROPYTHON=1 exec $(PY) tools/suites.py --deselect tests/host/test_micropython.py

test-mpy: ## the suite of lib/ on 32-bit and 64-bit MicroPython
	$(setup) venv micropython mpy
	@exec $(PY) -m pytest tests/host/test_micropython.py

test-boards: ## the suite of lib/ on emulated boards: RISC-V, ARM and Xtensa; hours (ONLY="xtensawin test_gcm" JOBS=n)
	$(setup) venv micropython
	@exec $(PY) tools/emulated/run.py $(ONLY)

bench: ## what packets and keys cost, beside others: a table, and bench/results.json (ONLY="gcm path")
	$(setup) venv micropython mpy peers
	@exec $(PY) -m covey_host.bench $(ONLY)

bench-rv32: ## a board's instructions for packets and public keys, counted on a bare RV32 core, and their aims
	$(setup) venv
	@exec $(PY) tools/rv32/rig.py

cluster-bench: ## how soon registrations go on when servers or etcd nodes are killed: as bench; a quarter of an hour (QUICK=1)
	$(setup) venv micropython mpy etcd
	@exec $(PY) -m covey_host.bench failover $(if $(QUICK),--quick)

fuzz: ## look for octets that break a parser (MINUTES=n, ONLY="target ...", KEEP=1: a new corpus)
	$(setup) venv fuzzer
	@exec nice $(PY) tools/fuzz.py $(if $(MINUTES),--minutes $(MINUTES)) $(if $(KEEP),--keep) $(ONLY)

lint: ## format and style of every Python file
	$(setup) venv
	@$(PY) -m ruff format --check .
	@$(PY) -m ruff check .

size: ## octets of each compiled file, heap, and the aims; what a board needs (BOARD=name KEEP=1)
	$(setup) venv micropython
	@$(PY) $(if $(BOARD),tools/size_board.py $(BOARD) $(if $(KEEP),--keep),tools/size.py)

size-diff: ## what has become larger or smaller since the last tag (REV=revision)
	$(setup) venv
	@$(PY) tools/size.py diff $(REV)

setup: ## only what the other targets begin with: .venv, MicroPython, compiled files (PYTHON=name)
	$(setup) venv micropython mpy etcd

lock: ## requirements.lock anew from pyproject.toml, with the newest versions
	$(setup) venv
	@$(PY) tools/lock.py

clean: ## remove everything that was made, .venv too
	rm -rf .venv .build
	find host lib tests tools -name __pycache__ -o -name '*.egg-info' | xargs rm -rf
