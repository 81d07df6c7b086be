"""A worker's /health and /metrics: who is answered, and that nobody keeps others from it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import httpx2
import pytest

from cosygate.kit import slots
from cosygate.kit.children import ChildState
from cosygate.kit.networks import MetricsDoor
from cosygate.serve import CannotStart
from cosygate.serve.telling import telling
from cosygate.serve.workers import _Workers
from cosygate.settings import Settings
from cosygate.worker.celery_process import Shop
from deploy.local_cluster.services import free_port


def test_health_says_whether_all_of_them_run(tmp_path: Path) -> None:
    port, state = free_port(), {"processes": 2, "running": 2}
    with telling(("127.0.0.1", port), MetricsDoor(), tmp_path, lambda: state):
        answer = httpx2.get(f"http://127.0.0.1:{port}/health")
        assert (answer.status_code, answer.json()) == (200, {"processes": 2, "running": 2})
        state["running"] = 1
        assert httpx2.get(f"http://127.0.0.1:{port}/health").status_code == 503
        assert httpx2.get(f"http://127.0.0.1:{port}/else").status_code == 404


async def test_health_says_how_many_of_them_claim(tmp_path: Path) -> None:
    """One that renews itself has its last jobs to finish: it runs and is well, and claims nothing."""
    settings = Settings(data_dir=tmp_path, worker_processes=2, watch_every_s=0.01)
    workers, shops = _Workers(settings), [Shop(settings, n, str(tmp_path / f"worker-{n}.sock"), None) for n in (0, 1)]
    children = [workers._child(n, tmp_path, {slots.FOLDER: str(tmp_path)}) for n in (0, 1)]
    for child in children:
        child.state = ChildState.RUNNING

    async def told() -> dict[str, int]:
        for child in children:
            assert child.spec.probe is not None and await child.spec.probe()
        return workers._health(children)

    servers = [
        await asyncio.start_unix_server(shop.beat, tmp_path / f"worker-{n}.sock") for n, shop in enumerate(shops)
    ]
    assert await told() == {"processes": 2, "running": 2, "accepting": 2}
    shops[1].stop()
    assert await told() == {"processes": 2, "running": 2, "accepting": 1}
    children[1].state = ChildState.STARTING
    assert workers._health(children) == {"processes": 2, "running": 1, "accepting": 1}
    assert children[1].spec.before_start is not None
    children[1].spec.before_start()  # its successor
    children[1].state = ChildState.RUNNING
    assert workers._health(children) == {"processes": 2, "running": 2, "accepting": 2}
    for server in servers:
        server.close()


def test_metrics_are_for_whom_they_are_open_to(tmp_path: Path) -> None:
    port = free_port()
    with telling(("127.0.0.1", port), MetricsDoor(), tmp_path, dict):
        assert httpx2.get(f"http://127.0.0.1:{port}/metrics").status_code == 200
        passed_on = httpx2.get(f"http://127.0.0.1:{port}/metrics", headers={"X-Forwarded-For": "127.0.0.1"})
        assert passed_on.status_code == 401


def test_strangers_get_no_metrics(tmp_path: Path) -> None:
    host = socket.gethostbyname(socket.gethostname())
    if host.startswith("127."):
        pytest.skip("this machine has no address but loopback")
    for allowed, status in (("", 401), (host, 200)):
        port = free_port()
        with telling((host, port), MetricsDoor.parse(allowed), tmp_path, dict):
            assert httpx2.get(f"http://{host}:{port}/metrics").status_code == status


def test_who_connects_and_says_nothing_takes_no_more_than_its_place(tmp_path: Path) -> None:
    port = free_port()
    with telling(("127.0.0.1", port), MetricsDoor(), tmp_path, lambda: {"processes": 1, "running": 1}):
        silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(16)]
        with pytest.raises(httpx2.TransportError):
            httpx2.get(f"http://127.0.0.1:{port}/health")
        for one in silent:
            one.close()
        for _ in range(50):
            try:
                assert httpx2.get(f"http://127.0.0.1:{port}/health").status_code == 200
                return
            except httpx2.TransportError:
                continue
        raise AssertionError("their places were not given back")


def test_a_taken_port_is_told(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = taken.getsockname()
        with pytest.raises(CannotStart, match="cannot listen"), telling(where, MetricsDoor(), tmp_path, dict):
            pass
