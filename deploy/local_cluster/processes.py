"""CosyGate's own processes, each as a service: gateway, worker, engine. Each has a folder with its log and its data,
and keeps both, and its port, over restarts.
"""

from __future__ import annotations

import contextlib
import os
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

from deploy.local_cluster.services import HOST, NotThere, Service

_STARTS = 3


class Process(Service):
    """One `cosygate …`, with `settings` as COSYGATE_ variables (and no others of this shell's)."""

    def __init__(self, folder: Path, settings: Mapping[str, object], port: int = 0) -> None:
        super().__init__(folder, port)
        self.settings = dict(settings)
        self._seen = 0

    def environment(self) -> Mapping[str, str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("COSYGATE_", "AWS_"))}
        # Names of another kind (AWS_…) are whole already.
        ours = {k if k.isupper() else f"COSYGATE_{k.upper()}": str(v) for k, v in self.settings.items()}
        return clean | ours | {"PYTHONUNBUFFERED": "1"}

    def prepare(self) -> None:
        self._seen = self.log.stat().st_size if self.log.exists() else 0

    def start(self) -> Self:
        """As systemd and Kubernetes do, again when it ends while it starts: on a busy machine a parent's patience with
        its children (30 s) may not do. Raises NotThere with what the last one said."""
        for _ in range(_STARTS - 1):
            with contextlib.suppress(NotThere):
                return super().start()
        return super().start()

    def ready(self) -> bool:
        """It said so since it was started."""
        with self.log.open("rb") as log:
            log.seek(self._seen)
            return any(line.startswith(b"ready ") for line in log)

    def log_text(self) -> str:
        return self.log.read_text(errors="replace")


class Gateway(Process):
    name = "gateway"

    @property
    def url(self) -> str:
        """Past nginx."""
        return f"http://{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        return [
            *_COSYGATE,
            "gateway",
            "--host",
            HOST,
            "--port",
            str(self.port),
            "--data-dir",
            str(self.folder / "data"),
        ]

    def ready(self) -> bool:
        return super().ready() and _says_200(f"{self.url}/readyz")


class Worker(Process):
    """`port` is that of its /health and /metrics."""

    name = "worker"

    def command(self) -> Sequence[str]:
        return [*_COSYGATE, "worker"]

    def environment(self) -> Mapping[str, str]:
        own = {
            "COSYGATE_DATA_DIR": str(self.folder / "data"),
            "COSYGATE_HOST": HOST,
            "COSYGATE_WORKER_METRICS_PORT": str(self.port),
        }
        return {**super().environment(), **own}

    def ready(self) -> bool:
        return super().ready() and _says_200(f"http://{HOST}:{self.port}/health")


class Engine(Process):
    name = "engine"

    def __init__(
        self,
        folder: Path,
        *,
        recogniser: str = "scripted",
        script: Path | None = None,
        slots: int = 2,
        live: int = 64,
        options: Sequence[str] = (),
        port: int = 0,
    ) -> None:
        """`options`: more of `cosygate engine`'s own."""
        super().__init__(folder, {}, port)
        self._options = ["--recogniser", recogniser, "--slots", str(slots), "--live", str(live), *options]
        if script is not None:
            self._options += ["--script", str(script.absolute())]

    @property
    def address(self) -> str:
        """By which gateways and workers know it."""
        return f"{HOST}:{self.port}"

    def command(self) -> Sequence[str]:
        return [*_COSYGATE, "engine", "--listen", self.address, *self._options]


_COSYGATE = (sys.executable, "-m", "cosygate")


def _says_200(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
