"""A real `cosygate serve` process tree for tests: started, asked, killed, restarted."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import psutil

from cosygate.adapters.callers_jwt import issue

READY_S = 30.0  # a loaded machine; the promise of 5 s has its own test


class Server:
    """`settings` become COSYGATE_… variables. The data folder outlives the process: `start` again to restart."""

    def __init__(self, data_dir: Path, **settings: Any) -> None:
        self.data_dir = data_dir
        self.log_path = data_dir / "server.log"
        self.url = ""
        clean = {k: v for k, v in os.environ.items() if not k.startswith("COSYGATE_")}
        given = {f"COSYGATE_{k.upper()}": str(v) for k, v in settings.items()}
        self.env = clean | {"COSYGATE_DATA_DIR": str(data_dir), "COSYGATE_DRAIN_S": "3"} | given
        self.process: subprocess.Popen[str] | None = None
        self.ready_after_s = 0.0
        self.rest = ""  # what it printed on stdout after its ready line, once it has ended

    def start(self, port: int = 0, timeout_s: float = READY_S) -> Self:
        began = time.monotonic()
        with self.log_path.open("a") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cosygate", "serve", "--port", str(port)],
                env=self.env,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], timeout_s)
        line = self.process.stdout.readline() if ready else ""
        if not line.startswith("ready "):
            self.kill()
            raise AssertionError(f"no ready line but {line!r}; log:\n{self.log()[-4000:]}")
        self.ready_after_s = time.monotonic() - began
        self.url = line.split()[1]
        return self

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def log(self) -> str:
        return self.log_path.read_text()

    def tree(self) -> list[psutil.Process]:
        """Every process of the tree, the parent first."""
        assert self.process is not None
        parent = psutil.Process(self.process.pid)
        return [parent, *parent.children(recursive=True)]

    def find(self, part: str) -> list[psutil.Process]:
        """Processes whose command line has `part`, such as "cosygate.gateway"."""
        return [p for p in self.tree() if any(part in arg for arg in p.cmdline())]

    def kill(self) -> None:
        """kill -9 of the whole tree: the machine's power, as far as processes can tell."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self._reap()
        place = self.data_dir.stat()  # what a killed server cannot remove, its next life would (serve.py, _metrics_dir)
        shutil.rmtree(f"/dev/shm/cosygate-{os.getuid()}-{place.st_dev:x}-{place.st_ino:x}", ignore_errors=True)

    def stop(self, timeout_s: float = 20.0) -> int:
        """SIGTERM, as an operator does; returns the exit status."""
        assert self.process is not None
        self.process.terminate()
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError("the server did not stop in time") from None
        finally:
            self.kill()

    def _reap(self) -> None:
        if self.process is not None:
            self.process.wait(10)
            if self.process.stdout is not None and not self.process.stdout.closed:
                self.rest = self.process.stdout.read()
                self.process.stdout.close()

    def __enter__(self) -> Self:
        return self if self.url else self.start()

    def __exit__(self, *_: TracebackType | object) -> None:
        self.kill()

    @property
    def secret(self) -> str:
        return (self.data_dir / "jwt_secret").read_text().strip()

    def token(self, sub: str = "alice", ttl_s: float = 3600.0, **claims: Any) -> str:
        """`claims`: tenant=…, scopes=[…]."""
        return issue(self.secret, subject=sub, now=time.time(), ttl_s=ttl_s, **claims)

    def http(self, sub: str = "alice", **claims: Any) -> httpx2.Client:
        headers = {"Authorization": f"Bearer {self.token(sub, **claims)}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=30)


def wait_task(http: httpx2.Client, task_id: str, timeout_s: float = 30.0) -> dict[str, Any]:
    """The task once it has ended."""
    deadline = time.monotonic() + timeout_s
    while True:
        task: dict[str, Any] = http.get(f"/v1/task/{task_id}").json()
        if task.get("state") in ("succeeded", "failed", "cancelled"):
            return task
        assert time.monotonic() < deadline, f"the task did not end: {task}"
        time.sleep(0.05)
