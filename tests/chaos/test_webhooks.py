"""Webhooks while things break: nothing is lost, the id stays, and nobody waits for somebody else's receiver."""

from __future__ import annotations

import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import httpx2
import pytest
from typer.testing import CliRunner

from cosygate.cli import app
from tests.support.faults import Victim, database_locked, recording, wait_for
from tests.support.receiver import Call, Receiver, answers, free_port

HOOKS = {"webhook_scheme": "any", "webhook_allow": "127.0.0.0/8"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    """Two gateways, for tests that break receivers and not the server. Each has tenants of its own."""
    settings = HOOKS | {"webhook_timeout_s": 60, "webhook_schedule": "0.1 0.1", "workers": 2, "runner_jobs": 4}
    with Victim(tmp_path_factory.mktemp("hooks") / "data", **settings) as server:
        yield server


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """At every address of 127.0.0.0/8: as many hosts as a test wants."""
    with Receiver(host="0.0.0.0") as running:
        yield running


def at(receiver: Receiver, host: int = 1, path: str = "/") -> str:
    return f"http://127.0.0.{host}:{receiver.port}{path}"


def secret(server: Victim, tenant: str = "default") -> str:
    ended = CliRunner().invoke(app, ["webhooks", "secret", "create", "--tenant", tenant], env=server.env)
    assert ended.exit_code == 0, ended.output
    return str(ended.stdout).strip()


def send(http: httpx2.Client, name: str, url: str) -> str:
    answer = http.put(
        f"/v1/audio/{name}/0", params={"is_last": "1", "callback_url": url}, content=recording(len(name), 0.5)
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def states(server: Victim, tenant: str = "default") -> Counter[str]:
    return Counter(row["state"] for row in server.rows("SELECT state FROM deliveries WHERE tenant = ?", tenant))


def test_kill_9_between_a_try_and_its_record_and_it_is_made_again_with_the_same_id(
    data_dir: Path, receiver: Receiver
) -> None:
    receiver.behaviour = receiver.never
    with Victim(data_dir, webhook_timeout_s=1, **HOOKS) as server:
        known = secret(server)
        with server.http() as http:
            task_id = send(http, "killed", at(receiver))
        receiver.wait(1)
        server.kill()
        assert states(server) == {"pending": 1}
        receiver.behaviour = answers(200)
        server.start()
        wait_for(lambda: states(server) == {"delivered": 1}, "the delivery")
        calls = receiver.wait(2)
        assert {call.id for call in calls} == {f"msg_{task_id}"}
        assert calls[0].verified(known) == calls[1].verified(known)


def test_a_receiver_that_is_away_gets_everything_once_it_is_back(data_dir: Path) -> None:
    """And the server is restarted meanwhile, in order: a try that runs is waited for."""
    port = free_port()
    slow = threading.Event()

    def slowly(handler: BaseHTTPRequestHandler, call: Call) -> None:
        slow.wait(0.5)
        answers(200)(handler, call)

    with Victim(data_dir, webhook_timeout_s=10, webhook_schedule="0.5 " * 40, **HOOKS) as server:
        known = secret(server)
        with server.http() as http:
            tasks = {send(http, f"away-{n}", f"http://127.0.0.1:{port}/hooks") for n in range(5)}
        wait_for(lambda: sum(row[0] for row in server.rows("SELECT attempt FROM deliveries")) >= 8, "tries in vain")
        assert states(server) == {"pending": 5}
        with Receiver(slowly, port=port) as receiver:
            receiver.wait(1)
            assert server.stop() == 0
            assert states(server)["delivered"] == len(receiver.calls), "what ran has ended well, and was written down"
            server.start()
            wait_for(lambda: states(server) == {"delivered": 5}, "all deliveries")
            assert {call.verified(known)["data"]["task_id"] for call in receiver.calls} == tasks
            assert len(receiver.calls) == 5, "none of them twice"


def test_a_tenants_dead_receivers_keep_nobody_else_waiting(shared: Victim, receiver: Receiver) -> None:
    """Twenty receivers that say nothing for a minute, and one of another tenant: it hears of its task before the first
    of the others is given up."""
    secret(shared, "noisy")
    secret(shared, "quiet")
    receiver.at["/noisy"] = receiver.never
    with shared.http("n", tenant="noisy") as noisy, shared.http("q", tenant="quiet") as quiet:
        for n in range(20):
            send(noisy, f"noisy-{n}", at(receiver, n + 2, "/noisy"))
        receiver.wait(8, "/noisy")
        send(quiet, "quiet", at(receiver, 1, "/quiet"))
        receiver.wait(1, "/quiet")
    wait_for(lambda: states(shared, "quiet") == {"delivered": 1}, "its record")
    assert states(shared, "noisy") == {"pending": 20}
    assert len([call for call in receiver.calls if call.path == "/noisy"]) == 8, "half of the room, and no more"


def test_two_gateways_share_the_work_and_send_nothing_twice(shared: Victim, receiver: Receiver) -> None:
    secret(shared, "many")
    with shared.http(tenant="many") as http, ThreadPoolExecutor(4) as pool:
        tasks = list(pool.map(lambda n: send(http, f"two-{n}", at(receiver, n % 3 + 1)), range(20)))
        wait_for(lambda: states(shared, "many") == {"delivered": 20}, "all deliveries", 40)
    assert Counter(call.id for call in receiver.calls) == Counter(f"msg_{task}" for task in tasks)
    assert receiver.most_at_once <= 6, "two to each of three hosts"


def test_a_locked_database_costs_a_repetition_at_most(shared: Victim, receiver: Receiver) -> None:
    gate = threading.Event()

    def waits(handler: BaseHTTPRequestHandler, call: Call) -> None:
        gate.wait(30)
        answers(200)(handler, call)

    receiver.behaviour = waits
    secret(shared, "locked")
    with shared.http(tenant="locked") as http:
        task_id = send(http, "locked", at(receiver))
        receiver.wait(1)
        with database_locked(shared):
            gate.set()
            wait_for(lambda: '"webhook.put_off"' in shared.log(), "the write that is given up")
    assert states(shared, "locked") == {"pending": 1}, "it will be told again: better twice than never"
    assert shared.job(task_id)["state"] == "succeeded"


def test_a_receiver_that_resets_every_connection_ends_as_a_dead_letter(shared: Victim) -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)

        def reset() -> None:
            while not stop.is_set():
                try:
                    peer, _ = listener.accept()
                except TimeoutError:
                    continue
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                peer.close()

        thread = threading.Thread(target=reset)
        thread.start()
        try:
            secret(shared, "reset")
            with shared.http(tenant="reset") as http:
                send(http, "reset", f"http://127.0.0.1:{listener.getsockname()[1]}/")
            wait_for(lambda: states(shared, "reset") == {"dead": 1}, "the dead letter")
        finally:
            stop.set()
            thread.join()
    [row] = shared.rows("SELECT attempt, status, error FROM deliveries WHERE tenant = 'reset'")
    assert (row["attempt"], row["status"]) == (3, None)
    assert row["error"] in ("connection_lost", "protocol_error", "connect_failed")
