"""What fault tests do to a server: requests that stop half-way, locks held from outside, signals at the right moment.

The truth is read past the server: rows from its database, names from its store.
"""

from __future__ import annotations

import http.client
import json
import random
import signal
import socket
import sqlite3
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx2
import psutil

from tests.support import media
from tests.support.server import Server

_RST_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger: a client that vanishes, not one that says goodbye

T = TypeVar("T")


class Victim(Server):
    """A server that faults happen to, with the scripted recogniser."""

    def __init__(self, data_dir: Path, *, script: dict[str, Any] | None = None, **settings: Any) -> None:
        data_dir.mkdir(exist_ok=True)
        self._script = data_dir / "script.json"
        self.rehearse(**(script or {}))
        given = {"recogniser": "scripted", "script": self._script, "durability": "process"}
        super().__init__(data_dir, **(given | settings))
        self.requests: list[RawRequest] = []

    def kill(self) -> None:
        super().kill()
        for request in self.requests:
            request.close()
        self.requests.clear()

    def rehearse(self, **script: Any) -> None:
        """Another script, for engines that start from now on."""
        self._script.write_text(json.dumps(script))

    def rows(self, query: str, *values: object) -> list[sqlite3.Row]:
        with closing(sqlite3.connect(self.data_dir / "cosygate.db", timeout=10)) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute(query, values).fetchall()

    def job(self, task_id: str) -> sqlite3.Row:
        [row] = self.rows("SELECT * FROM jobs WHERE id = ?", task_id)
        return row

    def jobs_of(self, session_id: str) -> list[str]:
        return [row["id"] for row in self.rows("SELECT id FROM jobs WHERE session_id = ?", session_id)]

    def results_of(self, task_id: str) -> list[str]:
        """Names of the stored results: one per fence that left something behind."""
        return sorted(path.name for path in self.data_dir.glob(f"blobs/results/*/{task_id}/*"))

    def gateway(self, index: int) -> psutil.Process:
        return self._child("cosygate.gateway", "--index", str(index))

    def engine(self, index: int) -> psutil.Process:
        return self._child("cosygate.engine", "--listen", f"unix:{self.data_dir / 'run'}/engine-{index}.sock")

    def _child(self, module: str, option: str, value: str) -> psutil.Process:
        """Waits for it where it is just being started again."""

        def look() -> list[psutil.Process] | None:
            try:
                return [p for p in self.find(module) if p.cmdline()[p.cmdline().index(option) + 1] == value]
            except psutil.NoSuchProcess:  # it ended while we looked
                return None

        return wait_for(look, f"{module} {value}")[0]

    def wait_state(self, task_id: str, *states: str, timeout_s: float = 30.0) -> sqlite3.Row:
        """The job's row once it is in one of these states; asks the database, so no gateway needs to answer."""
        return wait_for(
            lambda: row if (row := self.job(task_id))["state"] in states else None,
            f"state {' or '.join(states)} of {task_id}",
            timeout_s,
        )


def wait_for(look: Callable[[], T | None], what: str, timeout_s: float = 20.0, every_s: float = 0.02) -> T:
    """What `look` returns once that is true, or not empty."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < deadline, f"waited {timeout_s:g} s in vain for {what}"
        time.sleep(every_s)


def recording(seed: int, seconds: float = 2.0) -> bytes:
    """A WAV of noise: no two seeds sound alike."""
    return media.wav(random.Random(seed).randbytes(round(seconds * 16_000) * 2))


def cut(data: bytes, *sizes: int) -> list[bytes]:
    """Chunks of these sizes, and one of what is left."""
    ends = [sum(sizes[: n + 1]) for n in range(len(sizes))]
    return [data[a:b] for a, b in zip([0, *ends], [*ends, len(data)], strict=True)]


def put_chunk(http: httpx2.Client, session: str, seq: int, chunk: bytes, last: bool = False) -> httpx2.Response:
    return http.put(f"/v1/audio/{session}/{seq}", params={"is_last": "1"} if last else {}, content=chunk)


def submit(http: httpx2.Client, session: str, data: bytes) -> str:
    """One recording in one chunk; its task's id."""
    response = put_chunk(http, session, 0, data, last=True)
    assert response.status_code == 202, response.text
    return str(response.json()["task_id"])


class RawRequest:
    """A request on a socket of its own, whose body goes out as far as the test says. Closed with its server."""

    def __init__(self, server: Victim, target: str, body: bytes, *, method: str = "PUT", **headers: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        server.requests.append(self)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._body = body
        self._sent = 0
        lines = [f"{method} {target} HTTP/1.1", "Host: server", f"Authorization: Bearer {server.token()}"]
        lines += [f"Content-Length: {len(body)}", *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items())]
        self._socket.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())

    def send(self, upto: int | None = None) -> None:
        """Until so many bytes of the body (None: all) are sent."""
        end = len(self._body) if upto is None else upto
        self._socket.sendall(self._body[self._sent : end])
        self._sent = max(self._sent, end)

    def answer(self) -> tuple[int, dict[str, str], dict[str, Any]]:
        """Status, headers (names in lower case), JSON."""
        response = http.client.HTTPResponse(self._socket)
        response.begin()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, json.loads(response.read())

    def vanish(self) -> None:
        """The connection is reset; the answer, if there is one, is never read."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RST_ON_CLOSE)
        self._socket.close()

    def close(self) -> None:
        self._socket.close()


@contextmanager
def database_locked(server: Victim) -> Iterator[None]:
    """Another process, as far as the server can tell, holds SQLite's write lock."""
    with closing(sqlite3.connect(server.data_dir / "cosygate.db", timeout=10, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield


@contextmanager
def stopped(server: Victim, process: psutil.Process) -> Iterator[None]:
    """SIGSTOP, but not in the middle of a transaction, which would stop all others too; SIGCONT at the end."""

    def stop() -> bool:
        process.send_signal(signal.SIGSTOP)
        try:
            with closing(sqlite3.connect(server.data_dir / "cosygate.db", timeout=0.3, isolation_level=None)) as look:
                look.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError:
            process.send_signal(signal.SIGCONT)
            return False
        return True

    wait_for(stop, "a moment without a transaction")
    try:
        yield
    finally:
        if process.is_running():
            process.send_signal(signal.SIGCONT)


def together(*actions: Callable[[], T]) -> list[T]:
    """Runs them at the same time, as nearly as threads can; their results in order."""
    barrier = threading.Barrier(len(actions))
    results: dict[int, T] = {}
    faults: list[BaseException] = []

    def run(number: int, action: Callable[[], T]) -> None:
        try:
            barrier.wait(10)
            results[number] = action()
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=run, args=item) for item in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return [results[n] for n in range(len(actions))]
