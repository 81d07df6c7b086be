"""`cosygate worker` that lacks what it needs says so, and does not start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("missing", ["broker_url", "database_url", "engine_addresses"])
def test_what_it_needs_is_told(missing: str, tmp_path: Path) -> None:
    given = {
        "broker_url": "redis://127.0.0.1:1/0",
        "database_url": "postgresql://a@127.0.0.1:1/b",
        "engine_addresses": "127.0.0.1:1",
    }
    if missing == "database_url":
        del given["broker_url"]  # which takes it, and says so first
    env = {k: v for k, v in os.environ.items() if not k.startswith("COSYGATE_")}
    env |= {f"COSYGATE_{k.upper()}": v for k, v in given.items() if k != missing}
    argv = [sys.executable, "-m", "cosygate", "worker", "--data-dir", str(tmp_path)]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)
    wanted = "BROKER_URL" if missing == "database_url" else missing.upper()
    assert (done.returncode, f"COSYGATE_{wanted}" in done.stderr) == (2, True), done.stderr
