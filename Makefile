# Few words: setup, demo, test, check, bench. Each builds what it needs first.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed

.PHONY: help setup demo test check bench bench-live bench-overload bench-mix bench-cluster load chaos proto samples lock clean

help:
	@echo "make demo    build, start the server, transcribe samples/ and leave it running (ONCE=1: stop afterwards)"
	@echo "make test    install what the tests need and run them all"
	@echo "make check   lint, types, layers, docs"
	@echo "make bench   measure, side by side with the article's design and nginx"
	@echo "make bench-live   measure live speech: streams, memory, latency, cuts, kills"
	@echo "make bench-overload   ten times what it can do, a noisy tenant, an engine that fails or hangs, 500 slow sockets"
	@echo "make bench-mix    the article's mix of users against both designs; what protection costs"
	@echo "make bench-cluster   the whole of it on Postgres, Redis, Celery: tasks/s, a second engine, rolling restarts, Redis away"
	@echo "make load    USERS=20: that mix and live users against a server, with Locust's page (ARGS=\"--url … --token …\")"
	@echo "make chaos   kill, stop and cut off everything under load for five minutes, and see that nothing is lost (ARGS=--help)"
	@echo "make setup   the environment alone"

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup
	@$(BIN)/python scripts/demo.py $(if $(ONCE),--once)

test: setup
	@sh scripts/test-services.sh
	$(BIN)/python scripts/test.py $(ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/audit.py
	$(BIN)/python -m pytest -q tests/docs

bench: setup
	@sh scripts/bench-services.sh
	$(BIN)/python -m bench $(ARGS)

bench-live: setup
	$(BIN)/python -m bench.live $(ARGS)

bench-overload: setup
	$(BIN)/python -m bench.overload $(ARGS)

bench-mix: setup
	@sh scripts/bench-services.sh
	$(BIN)/python -m bench.mix $(ARGS)

bench-cluster: setup
	@sh scripts/test-services.sh
	$(BIN)/python -m bench.cluster $(ARGS)

load: setup
	$(BIN)/python -m bench.mix --users $(or $(USERS),20) $(ARGS)

chaos: setup
	@sh scripts/test-services.sh
	$(BIN)/python -m tests.chaos.cluster $(ARGS)

proto: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/python -m grpc_tools.protoc -Isrc --python_out=src --grpc_python_out=src --mypy_out=src --mypy_grpc_out=src src/cosygate/proto/speech_engine.proto

samples: setup
	sh scripts/make-samples.sh

lock:
	sh scripts/lock.sh

clean:
	rm -rf $(VENV) .demo dist build
