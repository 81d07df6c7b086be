"""What `make demo` runs: real server, real speech, with and without ONCE=1."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import psutil
import pytest

ROOT = Path(__file__).parent.parent.parent
SAID = ("your file is safe", "meeting on friday")


def demo(folder: Path, *arguments: str, **settings: str) -> tuple[int, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("COSYGATE_")}
    answer = subprocess.run(
        [sys.executable, ROOT / "scripts" / "demo.py", "--folder", folder, *arguments],
        env={**clean, **{f"COSYGATE_{k.upper()}": v for k, v in settings.items()}},
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert "Traceback" not in answer.stderr
    return answer.returncode, answer.stdout


def alive(process: psutil.Process) -> bool:
    """A zombie is not: it was detached, and in a container nobody may collect it."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_the_demo_prints_transcripts_leaves_the_server_and_uses_it_again(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    status, out = demo(folder)
    pid = int((folder / "server.pid").read_text())
    server = psutil.Process(pid)
    try:
        assert status == 0
        assert all(words in out.lower() for words in SAID)
        assert re.search(r"00:0\d\.\d - 00:0\d\.\d  Good morning", out)
        link = re.search(r"^ +(http://127\.0\.0\.1:\d+)/#token=(\S+)$", out, re.MULTILINE)
        assert link
        url, token = link.groups()
        assert httpx2.get(f"{url}/health").json()["status"] == "ok"
        tasks = httpx2.get(f"{url}/v1/tasks", headers={"Authorization": f"Bearer {token}"}).json()["tasks"]
        assert [task["file"] for task in tasks] == ["note.wav", "dialogue.wav"]
        assert token not in (folder / "server.log").read_text()

        status, out = demo(folder)
        assert (status, url in out) == (0, True)
        assert int((folder / "server.pid").read_text()) == pid

        status, out = demo(folder, "--once")
        assert status == 0
        assert all(words in out.lower() for words in SAID)
        assert "token" not in out
        assert not alive(server)
        assert not (folder / "server.pid").exists()
    finally:
        if alive(server):
            os.killpg(pid, signal.SIGKILL)


def test_a_demo_that_fails_says_so_and_leaves_no_server(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    status, out = demo(folder, metrics_allow="not-an-address")
    assert status == 1
    assert "the demo failed: the server ended with status" in " ".join(out.split())
    assert not (folder / "server.pid").exists()


def test_a_stale_pid_is_nobodys_server(tmp_path: Path) -> None:
    """The number of a demo server that is gone may name any process now: that one is left alone."""
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        (tmp_path / "server.pid").write_text(f"{bystander.pid}\n")
        (tmp_path / "server.log").write_text("ready http://127.0.0.1:1\n")
        status, _ = demo(tmp_path, "--once", recogniser="scripted")
        assert status == 0
        time.sleep(0.1)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.fixture(autouse=True)
def _no_detached_server_outlives_a_test(tmp_path: Path) -> object:
    yield
    pid_file = tmp_path / "demo" / "server.pid"
    if pid_file.exists():  # only when the demo itself failed on the way
        os.killpg(int(pid_file.read_text()), signal.SIGKILL)
