"""A small blocking client over http.client, alike for CosyGate and the article's design.

It shares the cores with the server it measures, so it is as light as Python allows.
"""

import http.client
import json
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.contestants import Target

_BOUNDARY = "bench-boundary-7f3a9c"
_FINISHED = frozenset({"succeeded", "failed", "cancelled", "SUCCESS", "FAILURE", "REVOKED"})
_GOOD = frozenset({"succeeded", "SUCCESS"})
WAIT_S = 600.0
_POLL_S = 0.02


class Unexpected(RuntimeError):
    """An answer that the benchmark cannot go on with."""


class Client:
    """One keep-alive connection. Not for two threads at once."""

    def __init__(self, target: Target) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", target.port, timeout=120)
        self._auth = {"Authorization": f"Bearer {target.token}"}

    def post(self, session: str, seq: int, chunk: bytes, last: bool) -> dict[str, Any]:
        """The chunk as multipart form."""
        fields = {"session_id": session, "seq": seq, "is_last": int(last)}
        head = "".join(
            f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="{k}"\r\n\r\n{v}\r\n' for k, v in fields.items()
        )
        head += f'--{_BOUNDARY}\r\nContent-Disposition: form-data; name="chunk"; filename="chunk.bin"\r\n'
        head += "Content-Type: application/octet-stream\r\n\r\n"
        body = b"".join((head.encode(), chunk, f"\r\n--{_BOUNDARY}--\r\n".encode()))
        return self._call("POST", "/v1/audio", body, f"multipart/form-data; boundary={_BOUNDARY}")

    def put(self, session: str, seq: int, chunk: bytes, last: bool) -> dict[str, Any]:
        """The chunk as raw body."""
        path = f"/v1/audio/{session}/{seq}" + ("?is_last=1" if last else "")
        return self._call("PUT", path, chunk, "application/octet-stream")

    def task(self, task_id: str) -> dict[str, Any]:
        return self._call("GET", f"/v1/task/{task_id}")

    def finished(self, task_id: str) -> dict[str, Any]:
        """The task once it has succeeded. Raises Unexpected when it ends otherwise or not within WAIT_S."""
        deadline = time.monotonic() + WAIT_S
        while (task := self.task(task_id))["state"] not in _FINISHED:
            if time.monotonic() > deadline:
                raise Unexpected(f"task {task_id} is still {task['state']}")
            time.sleep(_POLL_S)
        if task["state"] not in _GOOD:
            raise Unexpected(f"task {task_id}: {task}")
        return task

    def _call(self, method: str, path: str, body: bytes | None = None, media: str = "") -> dict[str, Any]:
        headers = {**self._auth, **({"Content-Type": media} if media else {})}
        self._http.request(method, path, body, headers)
        answer = self._http.getresponse()
        content = answer.read()
        if answer.status not in (200, 202):
            raise Unexpected(f"{method} {path}: {answer.status} {content[:300]!r}")
        found: dict[str, Any] = json.loads(content)
        return found


def send_all(target: Target, recordings: Sequence[bytes], connections: int, run: str, *, multipart: bool) -> list[str]:
    """Each recording in one chunk, over parallel connections; their task ids in the same order."""

    def share(first: int) -> dict[int, str]:
        client = Client(target)
        send = client.post if multipart else client.put
        numbers = range(first, len(recordings), connections)
        return {n: send(f"{run}-{n:05d}", 0, recordings[n], True)["task_id"] for n in numbers}

    with ThreadPoolExecutor(connections) as pool:
        found = {n: task for part in pool.map(share, range(connections)) for n, task in part.items()}
    return [found[n] for n in range(len(recordings))]
