"""`cosygate serve` where it cannot work says so and ends, at once; when it stops, it lets nobody in any more."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cosygate import serve
from cosygate.settings import Settings
from tests.support import media
from tests.support.server import Server


def listening(port: int = 0) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # as another server of this user with --workers 2
    sock.bind(("127.0.0.1", port))
    sock.listen()
    return sock


@pytest.mark.parametrize("workers", [1, 2])
def test_a_port_in_use(tmp_path: Path, workers: int) -> None:
    with listening() as other:
        settings = Settings(data_dir=tmp_path, port=other.getsockname()[1], workers=workers)
        with pytest.raises(serve.CannotStart, match="in use"):
            serve._listen(settings)


def test_workers_share_a_port(tmp_path: Path) -> None:
    sockets = serve._listen(Settings(data_dir=tmp_path, port=0, workers=2))
    assert len({sock.getsockname() for sock in sockets}) == 1
    for sock in sockets:
        sock.close()


def test_a_certificate_that_cannot_be_used(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("not a certificate")
    command = [sys.executable, "-m", "cosygate", "serve", "--port", "0", "--data-dir", str(tmp_path / "data")]
    command += ["--tls-cert", str(bad), "--tls-key", str(bad)]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("COSYGATE_")}
    done = subprocess.run(
        command,
        env=clean | {"COSYGATE_RECOGNISER": "scripted"},
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
    )  # what hung here would be killed after 30 s
    assert done.returncode == 1
    assert "gateway.cannot_start" in done.stderr
    assert "Task exception was never retrieved" not in done.stderr


def test_connections_are_refused_while_jobs_drain(tmp_path: Path) -> None:
    script = tmp_path / "script.json"
    script.write_text('{"rules": [{"do": "hang"}]}')
    with Server(tmp_path, recogniser="scripted", script=script, drain_s=8) as server:
        with server.http() as http:
            task = http.put("/v1/audio/s/0", params={"is_last": "1"}, content=media.wav(bytes(32_000))).json()[
                "task_id"
            ]
            while http.get(f"/v1/task/{task}").json()["state"] != "running":
                time.sleep(0.05)
        assert server.process is not None
        server.process.terminate()
        deadline = time.monotonic() + 4
        with pytest.raises(ConnectionRefusedError):
            while time.monotonic() < deadline:
                socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
                time.sleep(0.1)
        assert server.process.poll() is None
