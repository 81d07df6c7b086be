"""`cosygate serve` as an operator starts it: in time, one line, a link on a terminal only, TLS, several workers."""

from __future__ import annotations

import os
import pty
import select
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from tests.api.conftest import wav
from tests.support.server import Server, wait_task

SERVE = [sys.executable, "-m", "cosygate", "serve", "--port", "0"]


def test_it_serves_within_five_seconds_with_the_real_engine(tmp_path: Path) -> None:
    """The better of three starts: the promise is about the program, not about what else the machine does."""
    seconds = []
    for n in range(3):
        (tmp_path / str(n)).mkdir()
        with Server(tmp_path / str(n)) as server:
            begun = server.process
            assert begun is not None
            seconds.append(server.ready_after_s)
            assert httpx2.get(f"{server.url}/readyz").status_code == 200
        if seconds[-1] <= 5.0:
            return
    raise AssertionError(f"ready only after {seconds} s")


def _lines(fd: int, count: int, timeout_s: float = 30.0) -> list[str]:
    text, deadline = "", time.monotonic() + timeout_s
    while text.count("\n") < count:
        ready, _, _ = select.select([fd], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            break
        text += os.read(fd, 4096).decode()
    return text.replace("\r", "").splitlines()


def test_on_a_terminal_it_prints_a_link_that_signs_in(data_dir: Path) -> None:
    server = Server(data_dir, recogniser="scripted")
    ours, theirs = pty.openpty()
    with server.log_path.open("w") as log:
        server.process = subprocess.Popen(
            SERVE, env=server.env, stdout=theirs, stderr=log, text=True, start_new_session=True
        )
    os.close(theirs)
    try:
        ready, link = _lines(ours, 2)
        url = ready.removeprefix("ready ")
        assert link.startswith(f"open  {url}/#token=")
        token = link.partition("#token=")[2]
        answer = httpx2.get(f"{url}/v1/tasks", headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 200
        assert token not in server.log()
    finally:
        server.kill()
        os.close(ours)


def test_in_a_pipe_it_prints_the_ready_line_alone(data_dir: Path) -> None:
    with Server(data_dir, recogniser="scripted") as server:
        assert server.process is not None
        assert server.process.stdout is not None
        assert server.stop() == 0
        assert server.rest == ""


@pytest.mark.needs("openssl")
def test_tls(data_dir: Path) -> None:
    cert, key = data_dir / "cert.pem", data_dir / "key.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "1",
            *subject,
            "-keyout",
            key,
            "-out",
            cert,
        ],
        check=True,
        capture_output=True,
    )
    with Server(data_dir, recogniser="scripted", tls_cert=cert, tls_key=key) as server:
        assert server.url.startswith("https://")
        trusted = ssl.create_default_context(cafile=str(cert))
        with httpx2.Client(base_url=server.url, verify=trusted) as http:
            http.headers["Authorization"] = f"Bearer {server.token()}"
            task_id = http.put("/v1/audio/t/0", content=wav(), params={"is_last": "1"}).json()["task_id"]
            assert wait_task(http, task_id)["state"] == "succeeded"
            cookie = http.post(f"/v1/task/{task_id}/audio-cookie").headers["set-cookie"]
            assert "Secure" in cookie
        with pytest.raises(httpx2.HTTPError):
            httpx2.get(server.url.replace("https", "http") + "/health")


def test_several_workers_and_engines_share_one_port_and_one_count(data_dir: Path) -> None:
    with Server(data_dir, recogniser="scripted", workers=3, engines=2) as server:
        assert len(server.find("cosygate.gateway")) == 3
        for n in range(24):  # each on a connection of its own: the kernel spreads them
            answer = httpx2.put(
                f"{server.url}/v1/audio/w{n}/0",
                content=wav(0.1),
                params={"is_last": "1"},
                headers={"Authorization": f"Bearer {server.token()}"},
                timeout=30,
            )
            assert answer.status_code == 202
        with server.http() as http:
            for task in http.get("/v1/tasks", params={"limit": 100}).json()["tasks"]:
                assert wait_task(http, task["task_id"])["state"] == "succeeded"
        for _ in range(8):  # whichever process answers, it tells of all
            text = httpx2.get(f"{server.url}/metrics").text
            counted = [float(line.split()[-1]) for line in text.splitlines() if line.startswith("cv_task_total{")]
            assert sum(counted) == 24


COLLECTING = """
import gc, sys, threading, time

def collect():
    while True:
        time.sleep(0.2)
        if gc.get_freeze_count():  # it has started
            gc.collect()

if "cosygate.gateway" in sys.orig_argv:
    threading.Thread(target=collect, daemon=True).start()
"""


def test_gateways_that_work_are_left_alone(data_dir: Path, tmp_path: Path) -> None:
    """Longer than the three questions take after which a stuck one is replaced, while the garbage collector comes round
    as it would in a day's work."""
    (tmp_path / "sitecustomize.py").write_text(COLLECTING)
    settings = {"recogniser": "scripted", "workers": 2, "durability": "process", "watch_every_s": 1}
    server = Server(data_dir, **settings)
    server.env["PYTHONPATH"] = os.pathsep.join([str(tmp_path), *filter(None, [server.env.get("PYTHONPATH")])])
    with server, server.http() as http:
        pids = {gateway.pid for gateway in server.find("cosygate.gateway")}
        ends, seq = time.monotonic() + 8, 0
        while time.monotonic() < ends:
            assert http.put(f"/v1/audio/long/{seq}", content=b"x" * 1000).status_code == 200
            seq = (seq + 1) % 20_000
        assert {gateway.pid for gateway in server.find("cosygate.gateway")} == pids
        assert "child.hangs" not in server.log()
