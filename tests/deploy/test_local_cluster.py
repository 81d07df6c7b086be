"""deploy/local-cluster: the whole topology as processes of this machine, through its script and as what tests and
measurements drive; and that nothing of it stays behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest

from cosygate.client import Client
from deploy.local_cluster.services import HOST, free_port
from deploy.local_cluster.topology import LocalCluster
from tests.api.conftest import wav
from tests.docs.test_against_server import blocks
from tests.support.engine_process import SAMPLES
from tests.support.server import wait_task

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "local-cluster"
pytestmark = [pytest.mark.needs("nginx", "postgres", "redis-server"), pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[LocalCluster]:
    with place() as folder, LocalCluster(folder, workers=1, engines=1, slots=1) as running:
        yield running


@pytest.fixture
def folder() -> Iterator[Path]:
    with place() as made:
        yield made


@contextlib.contextmanager
def place() -> Iterator[Path]:
    """Not pytest's own: PostgreSQL, as nobody, has to get to it, and each pytest that starts closes what is above."""
    with tempfile.TemporaryDirectory(prefix="cosygate-cluster-", ignore_cleanup_errors=True) as made:
        yield Path(made) / "data"


@pytest.fixture
def http(cluster: LocalCluster) -> Iterator[httpx2.Client]:
    headers = {"Authorization": f"Bearer {cluster.token('alice')}"}
    with httpx2.Client(base_url=cluster.url, headers=headers, timeout=30) as client:
        yield client


def sent(http: httpx2.Client, name: str) -> str:
    """A recording of one chunk; the task's id."""
    answer = http.put(f"/v1/audio/{name}/0", params={"is_last": "1"}, content=wav(1.0))
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def of_folder(folder: Path) -> list[psutil.Process]:
    """Every process that works in it, or was told of it."""
    found = []
    for process in psutil.process_iter():
        try:
            # PostgreSQL's children write what they do over their arguments, but all have the working directory.
            told = [process.cwd(), *process.cmdline(), *process.environ().values()]
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
        if process.pid != os.getpid() and any(str(folder) in each for each in told):
            found.append(process)
    return found


def wait_gone(folder: Path) -> None:
    deadline = time.monotonic() + 20
    while left := of_folder(folder):
        assert time.monotonic() < deadline, [process.cmdline() for process in left]
        time.sleep(0.1)


def started(folder: Path, *options: str) -> tuple[subprocess.Popen[str], str, str]:
    """The script, its address and its token."""
    argv = [str(SCRIPT), "--recogniser", "scripted", "--data", str(folder), *options]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    words = [process.stdout.readline().split() for _ in range(2)]
    assert [line[0] for line in words] == ["ready", "token"]
    return process, words[0][1], words[1][1]


def test_the_script_starts_all_of_it_and_ends_all_of_it(folder: Path) -> None:
    port = free_port()
    process, url, token = started(folder, "--gateways", "1", "--workers", "1", "--engines", "1", "--port", str(port))
    try:
        assert url == f"http://127.0.0.1:{port}"
        with Client(url, token) as client:
            task = client.upload(SAMPLES / "note.wav")
            client.wait(task.id)
            assert client.transcript(task.id).text
        kinds = {"nginx", "postgres", "redis-server", "moto.server", "gateway", "worker", "engine", "store_proxy"}
        lines = [" ".join(each.cmdline()) for each in of_folder(folder)]
        assert {kind for kind in kinds if any(kind in line for line in lines)} == kinds
        reachable = [c for each in of_folder(folder) for c in each.net_connections("inet") if c.status == "LISTEN"]
        assert len(reachable) >= 8
        addresses = {connection.laddr.ip.removeprefix("::ffff:") for connection in reachable}  # gRPC's way to say it
        assert addresses == {HOST}, "only this machine may reach it"
        process.terminate()
        assert process.wait(90) == 0
        wait_gone(folder)
    finally:
        process.kill()
        process.communicate()
    # What was in the database is there the next time.
    assert (folder / "postgres" / "data" / "PG_VERSION").exists()


@pytest.fixture
def clone() -> Iterator[Path]:
    """A fresh clone whose environment was made by an earlier `make setup`: this one, linked in."""
    with tempfile.TemporaryDirectory(prefix="cosygate-clone-") as made:
        place = Path(made) / "cosygate"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(place)], check=True)
        environment = Path(sys.prefix)
        assert (environment / ".installed").exists(), "make setup has not made the environment that runs this"
        (place / ".venv").symlink_to(environment)
        for name in ("requirements.lock", "pyproject.toml"):  # else make would install the clone into it
            os.utime(place / name, (0, 0))
        yield place


def followed(clone: Path, timeout: float) -> subprocess.CompletedProcess[str]:
    """The README's block as somebody would paste it: no `set -e`, and nothing changed but the port."""
    section = (ROOT / "README.md").read_text().split("## Several machines")[1].split("\n## ")[0]
    (script,) = blocks("sh", section)
    assert script.startswith("make setup\n") and script.count("8080") == 2
    script = script.replace("8080", str(free_port()))
    return subprocess.run(["bash", "-c", script], cwd=clone, capture_output=True, text=True, timeout=timeout)


@pytest.mark.needs("git", "make")
def test_the_readme_does_as_it_says(clone: Path) -> None:
    done = followed(clone, 390)
    assert done.returncode == 0, done.stderr
    assert "short note about the meeting on Friday" in done.stdout


@pytest.mark.needs("git", "make")
def test_the_readme_ends_also_when_nothing_starts(clone: Path) -> None:
    (clone / "deploy" / "local-cluster").write_text("#!/bin/sh\necho 'redis-server is not installed' >&2\nexit 1\n")
    done = followed(clone, 60)
    assert done.returncode != 0
    assert "redis-server is not installed" in done.stderr


def test_without_an_environment_it_says_what_makes_one(tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    script = shutil.copy(SCRIPT, tmp_path / "deploy" / "local-cluster")
    done = subprocess.run([script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (1, "")
    assert "make setup" in done.stderr and "Traceback" not in done.stderr


def test_all_of_it_ends_with_whoever_started_it(folder: Path) -> None:
    """kill -9 of the script alone: nginx' workers, Celery's processes and the decoder's server go, too."""
    process, _, _ = started(folder, "--gateways", "1", "--workers", "1", "--engines", "1")
    process.kill()
    process.communicate()
    wait_gone(folder)


def test_workers_run_what_gateways_took(cluster: LocalCluster, http: httpx2.Client) -> None:
    cluster.workers[0].stop()
    task = sent(http, "waits")
    time.sleep(2)
    assert http.get(f"/v1/task/{task}").json()["state"] == "queued", "a gateway ran it"
    cluster.workers[0].start()
    assert wait_task(http, task)["state"] == "succeeded"


def test_a_gateway_that_was_killed_is_missed_by_nobody_and_comes_back(
    cluster: LocalCluster, http: httpx2.Client
) -> None:
    killed = cluster.gateways[0]
    port = killed.port
    killed.kill()
    assert not killed.running()
    tasks = [sent(http, f"without-{number}") for number in range(4)]
    killed.start()
    assert killed.port == port
    own = {"Authorization": f"Bearer {cluster.token('alice')}"}
    for task in tasks:  # it knows of what the other took
        assert httpx2.get(f"{killed.url}/v1/task/{task}", headers=own, timeout=30).status_code == 200
        assert wait_task(http, task)["state"] == "succeeded"


def test_a_paused_process_answers_when_it_goes_on(cluster: LocalCluster) -> None:
    paused = cluster.gateways[1]
    paused.pause()
    try:
        with pytest.raises(httpx2.TimeoutException):
            httpx2.get(f"{paused.url}/health", timeout=1)
    finally:
        paused.resume()
    assert httpx2.get(f"{paused.url}/health", timeout=30).status_code == 200


def test_the_store_can_be_cut_off(cluster: LocalCluster, http: httpx2.Client) -> None:
    cluster.cut_store(True)
    try:
        refused = http.put("/v1/audio/cut/0", content=wav(1.0))
        assert refused.status_code >= 500, refused.text
        assert refused.json()["code"]
    finally:
        cluster.cut_store(False)
    deadline = time.monotonic() + 60
    while http.put("/v1/audio/cut/0", content=wav(1.0)).status_code != 200:
        assert time.monotonic() < deadline, "it does not come back"
        time.sleep(0.5)
    assert wait_task(http, sent(http, "healed"))["state"] == "succeeded"


def test_redis_and_postgres_come_back_where_they_were(cluster: LocalCluster, http: httpx2.Client) -> None:
    before = sent(http, "before")
    wait_task(http, before)
    ports = cluster.redis.port, cluster.postgres.port
    for service in (cluster.redis, cluster.postgres):
        service.kill()
        service.start()
    assert (cluster.redis.port, cluster.postgres.port) == ports
    deadline = time.monotonic() + 60
    while (answer := http.get(f"/v1/task/{before}")).status_code != 200:
        assert time.monotonic() < deadline, answer.text
        time.sleep(0.5)
    assert answer.json()["state"] == "succeeded"
    assert all(cluster.running().values())


def test_ports_are_given_once_and_not_from_those_of_outgoing_connections() -> None:
    lowest = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    given = [free_port() for _ in range(50)]
    assert len(set(given)) == 50
    assert max(given) < lowest or lowest < 32_768
    with socket.create_server((HOST, given[0])):
        pass


def test_what_it_cannot_start_it_says_and_leaves_nothing(folder: Path) -> None:
    argv = [str(SCRIPT), "--recogniser", "scripted", "--data", str(folder), "--script", str(folder / "nothing")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "engine does not start" in done.stderr
    wait_gone(folder)


def test_interrupted_while_it_starts_it_leaves_nothing(folder: Path) -> None:
    process = subprocess.Popen([str(SCRIPT), "--recogniser", "scripted", "--data", str(folder)], stdout=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (folder / "redis" / "redis.log").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 0
    wait_gone(folder)
