"""The control socket of a cluster: who can open it can kill, pause and restart its parts. A line of JSON asks, a line
answers."""

from __future__ import annotations

import contextlib
import json
import socketserver
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.chaos.cluster.faults import Cluster

_DO = frozenset({"kill", "pause", "resume", "stop", "start", "running"})


@contextlib.contextmanager
def controlled(cluster: Cluster, path: Path) -> Iterator[Path]:
    """The socket at `path`, as long as the block lasts."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            try:
                answer = {"answer": _do(cluster, json.loads(self.rfile.readline()))}
            except Exception as error:
                answer = {"error": repr(error)[:500]}
            self.wfile.write(json.dumps(answer).encode() + b"\n")

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    with Server(str(path), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield path
        finally:
            server.shutdown()
            thread.join()


def _do(cluster: Cluster, asked: dict[str, Any]) -> Any:
    if asked["do"] == "kinds":
        return {kind: list(parts) for kind, parts in cluster.kinds().items()}
    if asked["do"] == "cut_store":
        return cluster.cut_store(bool(asked["cut"]))
    if asked["do"] not in _DO:
        raise ValueError(f"nothing is called {asked['do']}")
    done = getattr(cluster.part(asked["part"]), asked["do"])()
    return done if asked["do"] == "running" else None
