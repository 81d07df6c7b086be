"""Fixtures of every folder: what is missing on this machine, and real servers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy is loaded: as engines have it

from tests.support.server import Server


def pytest_runtest_setup(item: pytest.Item) -> None:
    """`@pytest.mark.needs("chromium")`: skipped with the reason where it is missing, a failure with CI=true."""
    for marker in item.iter_markers("needs"):
        for program in marker.args:
            if not installed(program):
                reason = f"{program} is not installed (make test installs it where it may)"
                if os.environ.get("CI") == "true":
                    pytest.fail(reason)
                pytest.skip(reason)


def installed(program: str) -> bool:
    """PostgreSQL's server is not on the path in Debian."""
    return shutil.which(program) is not None or (
        program == "postgres" and any(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real `cosygate serve` with the scripted recogniser, shared by a module. Tests use session ids of their own."""
    with Server(tmp_path_factory.mktemp("data"), recogniser="scripted") as running:
        yield running


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    return folder
