"""A real Prometheus for tests, with the configuration and the rules of deploy/observability."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx2
import yaml

HERE = Path(__file__).parents[2] / "deploy" / "observability"
READY_S = 30.0


def installed(folder: Path, target: str | None = None) -> Path:
    """A copy as an operator has it, with a token's file; prometheus.yml's path. `target` is scraped every half second
    in place of the one that stands there, so that seconds do for minutes."""
    shutil.copytree(HERE, folder, dirs_exist_ok=True)
    (folder / "cosygate.token").write_text("a.b.c")
    path = folder / "prometheus.yml"
    if target is not None:
        config = yaml.safe_load(path.read_text())
        config["global"] = {"scrape_interval": "500ms", "evaluation_interval": "500ms"}
        config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
        path.write_text(yaml.safe_dump(config))
    return path


class Prometheus:
    def __init__(self, config: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        self._http = httpx2.Client(base_url=self.url, timeout=30)
        self._log = config.parent / "prometheus.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={config.parent / 'tsdb'}",
                 f"--web.listen-address={self.url.removeprefix('http://')}", "--log.level=warn"],
                stdout=log, stderr=log,
            )  # fmt: skip

    def __enter__(self) -> Self:
        deadline = time.monotonic() + READY_S
        while True:
            try:
                if self._http.get("/-/ready").status_code == 200:
                    return self
            except httpx2.TransportError:
                pass
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.__exit__()
                raise AssertionError(f"Prometheus does not start: {self.log()}")
            time.sleep(0.05)

    def __exit__(self, *_: TracebackType | object) -> None:
        self._process.kill()
        self._process.wait(10)
        self._http.close()

    def get(self, path: str, **params: str) -> Any:
        """The `data` of an answer. Raises AssertionError with what it complains of."""
        answer = self._http.get(f"/api/v1/{path}", params=params).json()
        assert answer["status"] == "success", (params, answer)
        return answer["data"]

    def values(self, query: str) -> list[float]:
        """Of every series that the query finds now."""
        return [float(series["value"][1]) for series in self.get("query", query=query)["result"]]

    def log(self) -> str:
        return self._log.read_text()
