"""One `cosygate serve` as something that faults can be done to: gateways, engines, and the whole of it. What the
cluster does with many services, in small."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import psutil

from tests.support.faults import Victim, wait_for

SETTINGS: dict[str, Any] = {
    "durability": "process", "restart_longest_s": 0.5, "watch_every_s": 5, "drain_s": 2,
    "lease_renew_s": 1, "lease_expire_s": 4, "reaper_every_s": 0.5, "housekeeping_every_s": 5,
    "live_sessions": 1000, "live_sessions_each": 1000, "live_window_s": 120, "engine_live": 200,
    "rate_limits": "60000/minute", "unauthenticated_limit": "off", "open_uploads": 10_000, "breaker_open_s": 2,
    "webhook_scheme": "any", "webhook_allow": "127.0.0.0/8", "webhook_timeout_s": 3,
    "webhook_schedule": "0.5 1 1 2 2 4 4 8 8 8 8 8",
}  # fmt: skip


class Child:
    """A process that `serve` starts again by itself."""

    def __init__(self, find: Callable[[], psutil.Process], ready: Callable[[], bool]) -> None:
        self._find = find
        self._ready = ready
        self._stopped: psutil.Process | None = None

    def kill(self) -> None:
        self._find().kill()

    def pause(self) -> None:
        self._stopped = self._find()
        self._stopped.suspend()

    def resume(self) -> None:
        if self._stopped is not None:
            with contextlib.suppress(psutil.NoSuchProcess):  # its parent gave it up and replaced it
                self._stopped.resume()
            self._stopped = None

    def stop(self) -> None:
        self._find().send_signal(signal.SIGTERM)

    def start(self) -> None:
        """It is under way; returns when it is there."""
        wait_for(self.running, "a process to be started again", 30)

    def running(self) -> bool:
        with contextlib.suppress(AssertionError, psutil.Error):
            return bool(self._find().is_running()) and self._ready()
        return False


class Whole:
    """All of it, on the same port and data."""

    def __init__(self, server: Victim) -> None:
        self._server = server
        self._port = server.port

    def kill(self) -> None:
        self._server.kill()

    def stop(self) -> None:
        self._server.stop()

    def start(self) -> None:
        self._server.start(self._port)

    def pause(self) -> None:
        for process in self._server.tree():
            process.suspend()

    def resume(self) -> None:
        for process in self._server.tree():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def running(self) -> bool:
        return self._server.process is not None and self._server.process.poll() is None


class Embedded:
    """A context. `environment` on top of the server's own, such as another PYTHONPATH."""

    def __init__(
        self, folder: Path, *, script: dict[str, Any], environment: dict[str, str] | None = None, **settings: Any
    ) -> None:
        self.server = Victim(folder, script=script, **{**SETTINGS, "workers": 2, "engines": 2, **settings})
        self.server.env |= environment or {}
        self._parts: dict[str, Any] = {}

    def __enter__(self) -> Embedded:
        server = self.server.start()
        for n in range(2):
            self._parts[f"gateway-{n}"] = Child(_finder(server.gateway, n), self._answers)
            self._parts[f"engine-{n}"] = Child(_finder(server.engine, n), lambda: True)
        self._parts["server"] = Whole(server)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.kill()

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def secret(self) -> str:
        return self.server.secret

    @property
    def environment(self) -> dict[str, str]:
        """In which `cosygate webhooks` finds the installation."""
        return self.server.env

    def kinds(self) -> dict[str, tuple[str, ...]]:
        return {
            "gateway": ("gateway-0", "gateway-1"),
            "engine": ("engine-0", "engine-1"),
            "server": ("server",),
        }

    def part(self, name: str) -> Any:
        return self._parts[name]

    def cut_store(self, cut: bool) -> None:
        raise NotImplementedError("its store is a folder")

    def _answers(self) -> bool:
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.get(f"{self.url}/readyz", timeout=2, trust_env=False).status_code == 200
        return False


def _finder(find: Callable[[int], psutil.Process], index: int) -> Callable[[], psutil.Process]:
    return lambda: find(index)


def settle(look: Callable[[], bool], timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True
