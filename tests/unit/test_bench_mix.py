"""How the mix counts what Locust heard, climbs and judges; and a gateway without protection that really is without."""

import asyncio
import json
import math
import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from bench.load import BadRun
from bench.mix import cost, steps
from bench.mix.climbing import Climb, climb
from bench.mix.counting import bound_s, figures
from bench.report import Outcome
from bench.stats import Figures
from tests.unit.test_bench_report import CIRCUMSTANCES

REPOSITORY = Path(__file__).resolve().parent.parent.parent
GOOD = {"rate": 40.0, "p50_ms": 9.0, "p99_ms": 480.0, "failures": 0, "recordings": 4.0, "unfinished": 0}
GOOD |= {"finished": 1.0, "recording_p99_ms": 900.0, "cpu_percent": 30.0, "peak_mib": 512.0}


def heard(**changes: Any) -> dict[str, Any]:
    """Twenty seconds from 100 on, in which a hundred requests took a millisecond each."""
    told = {"began": 100.0, "ended": 120.0, "recordings": [], "live": []}
    return told | {"requests": [[100.0 + k / 5, 1.0, True] for k in range(100)]} | changes


def test_times_are_kept_as_they_were() -> None:
    """Locust keeps 484 as 480."""
    requests = [[110.0, 1.0, True]] * 98 + [[110.0, 484.0, True]] * 2
    assert figures(heard(requests=requests))["p99_ms"] == 484.0


def test_requests_are_those_of_the_counted_time() -> None:
    requests = [[99.9, 9000.0, False], [100.0, 5.0, True], [119.9, 5.0, False], [120.0, 9000.0, False]]
    found = figures(heard(requests=requests))
    assert (found["requests"], found["rate"], found["failures"], found["p99_ms"]) == (2, 0.1, 1, 5.0)


def test_recordings_are_no_requests_and_a_slow_one_does_not_add_to_them() -> None:
    fast, slow = [[101.0, 101.5, True]], [[101.0, 109.0, True]]
    assert figures(heard(recordings=fast))["rate"] == figures(heard(recordings=slow))["rate"] == 5.0
    assert figures(heard(recordings=fast))["recording_p99_ms"] == 500.0
    assert figures(heard(recordings=slow))["recording_p99_ms"] == 8000.0


def test_recordings_count_where_they_come_to_their_result() -> None:
    recordings = [[95.0, 99.0, True], [95.0, 101.0, True], [110.0, 111.0, True], [119.0, 121.0, True]]
    assert figures(heard(recordings=recordings))["recordings"] == 2 / 20


@pytest.mark.parametrize(
    ("last", "share"),
    [
        ([110.0, 111.0, True], 1.0),
        ([119.0, None, False], 1.0),  # has just begun: left out
        ([119.0, 121.0, True], 1.0),  # as it was at the end
        ([114.0, None, False], 0.75),  # has had its time
        ([114.0, 123.0, True], 0.75),
        ([105.0, 115.0, False], 0.75),
        ([99.0, None, False], 1.0),  # was not begun then
    ],
)
def test_what_was_begun_is_to_be_finished(last: list[Any], share: float) -> None:
    found = figures(heard(recordings=[*[[101.0, 102.0, True]] * 3, last]))
    assert found["finished"] == share
    assert found["unfinished"] == (last[1] == 115.0)


def test_nothing_finished_is_no_success() -> None:
    found = figures(heard())
    assert (found["finished"], found["recordings"], found["recording_p99_ms"]) == (0.0, 0.0, math.inf)
    assert not steps.sustains(found)


def test_a_recording_has_less_time_than_its_row() -> None:
    assert [bound_s(seconds) for seconds in (5, 20, 60)] == [2.5, 10.0, 10.0]


def test_no_answer_at_all_spoils_the_run() -> None:
    with pytest.raises(BadRun, match="no request"):
        figures(heard(requests=[]))


@pytest.mark.parametrize(
    ("change", "good"),
    [({}, True), ({"p99_ms": 480.1}, False), ({"failures": 1}, False), ({"unfinished": 1}, False),
     ({"finished": 0.949}, False)],
)  # fmt: skip
def test_what_a_row_must_be(change: dict[str, float], good: bool) -> None:
    assert steps.sustains(GOOD | change) is good


def climbing(can: Callable[[int, int], bool], how: Climb | None = None) -> tuple[list[int], dict[int, int]]:
    """`can` is asked with users and the run's number; (all runs in their order, runs of each row)."""
    ran: list[int] = []

    def run(users: int) -> Figures:
        ran.append(users)
        return {"good": can(users, ran.count(users))}

    rows = climb(how or Climb(), run, lambda found: bool(found["good"]))
    assert list(rows) == sorted(rows)
    return ran, {users: int(found["runs"]) for users, found in rows.items()}


@pytest.mark.parametrize(
    ("limit", "order"),
    [
        (100, [4, 8, 16, 32, 64, 128, 128, 96, 112, 112]),
        (70, [4, 8, 16, 32, 64, 128, 128, 96, 96, 80, 80]),
        (5, [4, 8, 8, 6, 6, 5]),
        (4, [4, 8, 8, 6, 6, 5, 5]),
        (1, [4, 4, 2, 2, 1]),
        (0, [4, 4, 2, 2, 1, 1]),
        (5000, [4, 8, 16, 32, 64, 128, 256, 512, 1024]),
    ],
)
def test_both_designs_climb_by_the_same_steps_and_look_between(limit: int, order: list[int]) -> None:
    assert climbing(lambda users, _: users <= limit)[0] == order


def test_a_row_that_failed_once_is_run_once_more_and_that_counts() -> None:
    ran, runs = climbing(lambda users, run: users <= 16 or (users == 32 and run == 2), Climb(halvings=0))
    assert ran == [4, 8, 16, 32, 32, 64, 64]
    assert runs == {4: 1, 8: 1, 16: 1, 32: 2, 64: 2}


def row(**changes: float) -> Figures:
    return {**GOOD, "runs": 1, **changes}


def test_the_bar_is_on_requests_and_on_recordings() -> None:
    theirs = {4: row(), 8: row(rate=80.0, p99_ms=481.0)}
    ours = {64: row(rate=220.0, recordings=16.0), 128: row(rate=400.0, recordings=30.0, unfinished=1)}
    work, results = steps.work(20, Climb(), {"article": theirs, "cosygate": ours})
    outcome = Outcome.of(work, results, "", CIRCUMSTANCES)
    requests, recordings, memory = outcome.verdicts
    assert (requests.value, requests.reached) == (5.5, True)
    assert (recordings.value, recordings.reached) == (4.0, False)
    assert (memory.value, memory.at_least) == (0.5, False)
    assert "recordings begun in its time" in outcome.about
    assert outcome.labels["cosygate-64"] == "CosyGate, 64 users"


def test_each_of_them_by_the_row_with_most_of_it() -> None:
    ours = {64: row(rate=120.0, recordings=40.0), 128: row(rate=220.0, recordings=16.0)}
    _, results = steps.work(20, Climb(), {"article": {4: row()}, "cosygate": ours})
    requests, recordings, _ = steps.verdicts(results)
    assert (requests.value, recordings.value) == (220.0 / GOOD["rate"], 40.0 / GOOD["recordings"])


def test_where_the_article_sustains_nothing_its_most_counts() -> None:
    theirs = {1: row(rate=3.0, p99_ms=900.0), 2: row(rate=5.0, p99_ms=990.0)}
    _, results = steps.work(20, Climb(), {"article": theirs, "cosygate": {64: row(rate=20.0)}})
    assert [verdict.value for verdict in steps.verdicts(results)[:2]] == [4.0, 1.0]
    _, results = steps.work(20, Climb(), {"article": {1: row(p99_ms=900.0, recordings=0.0)}, "cosygate": {4: row()}})
    assert steps.verdicts(results)[1].value == math.inf


def test_sustaining_nothing_is_told_as_nothing() -> None:
    _, results = steps.work(20, Climb(), {"article": {4: row()}, "cosygate": {4: row(p99_ms=900.0)}})
    assert [verdict.value for verdict in steps.verdicts(results)] == [0.0, 0.0]


USERS = """
    import json, os, sys
    os.environ.update(MIX_BOUND_S="1", MIX_TOKEN="t")
    from bench.mix import users

    class Answer:
        def __init__(self, status, body):
            self.status_code, self._body = status, body
        def json(self):
            return self._body
        def failure(self, _):
            pass
        __enter__ = lambda self: self
        __exit__ = lambda self, *_: None

    def sender(post, get):
        client = type("Client", (), {"post": lambda self, *a, **k: post, "get": lambda self, *a, **k: get})()
        made = users.ShortRecording.__new__(users.ShortRecording)
        made.client, made.environment = client, users.Environment(user_classes=[])
        told = []
        made.environment.events.request.add_listener(lambda **k: told.append((k["name"], repr(k["exception"]))))
        made.send(b"RIFF", 1)
        [entry] = users.HEARD.recordings
        users.HEARD.recordings.clear()
        return [entry[2], told[0][0], told[0][1]]

    taken = Answer(202, {"task_id": "x"})
    print(json.dumps([
        sender(taken, Answer(200, {"state": "SUCCESS"})),
        sender(taken, Answer(200, {"state": "PENDING"})),
        sender(taken, Answer(200, {"state": "failed"})),
        sender(Answer(503, {}), None),
        sender(Answer(202, {}), None),
    ]))
"""


def python(code: str, *args: str, **environment: str) -> str:
    """What it prints, in a process of its own: Locust changes sockets and threads for good."""
    env = {**os.environ, **environment}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *args],
        cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


def test_a_recording_that_is_not_finished_is_a_failure() -> None:
    well, slow, failed, refused, nonsense = json.loads(python(USERS))
    assert well == [True, "recording", "None"]
    assert [found[:2] for found in (slow, failed, refused, nonsense)] == [[False, "recording"]] * 4
    assert "PENDING, and 1 s are over" in slow[2]
    assert "failed" in failed[2]
    assert "503" in refused[2]
    assert "task_id" in nonsense[2]


OFF = """
    import asyncio, json
    from cosygate.api import article, edge, strangers
    from cosygate.flows.gate import Gate
    from cosygate.kit import metrics, slots
    from cosygate.model.principal import Scope
    import prometheus_client

    metrics.requests.labels("GET", 200, "/").inc()
    metrics.request_seconds.labels("/").observe(1.0)
    metrics.begin_route("/", ["GET"], 200)
    metrics.open_fds.set(3)
    told = prometheus_client.generate_latest().decode()
    assert "cv_" not in told, told

    class Request:
        scope = {"headers": []}

    async def asked():
        caller = await article.identify(Request(), None, Scope.AUDIO_WRITE)
        assert Request.scope["caller"] is caller
        gate = Gate(begun=None, limiting=None, admission=None, blocked_s=None, drained=None)
        entry = await gate.chunk(caller, "id", size=1, low=False)
        entry.low = True
        await entry.begun()
        await entry.undone()
        entry.close()
        assert entry.standing is None
        assert await gate.live(caller) is None
        await gate.undo_live(caller, None)

        sent = []
        async def app(scope, receive, send):
            assert (await receive())["type"] == "http.request"
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b"x"})
        async def receive():
            return {"type": "http.request", "body": b"", "more_body": False}
        async def send(message):
            sent.append(message["type"])
        class Plain:
            def scheme(self, scope):
                return "http"
            def trace_id(self):
                return "0" * 32
        lanes = strangers.StrangerLane(app, None)
        scope = {"type": "http", "scheme": "http", "path": "/v1/x", "method": "PUT", "headers": []}
        edge._log = None  # whoever writes a line fails
        await edge.Edge(lanes, Plain(), 0.0, Plain())(scope, receive, send)
        assert sent == ["http.response.start", "http.response.body"], sent
    asyncio.run(asked())
    print("off")
"""


def test_a_gateway_without_protection_is_without() -> None:
    bare = {"PYTHONPATH": os.pathsep.join(filter(None, (str(cost.BARE), os.environ.get("PYTHONPATH"))))}
    assert python(OFF, "cosygate.gateway", **bare) == "off"
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(OFF)], env={**os.environ, **bare}, capture_output=True, timeout=100
    )
    assert done.returncode != 0, "in any other process nothing is taken away"


class Server:
    """Answers like a server that has so much of it."""

    def __init__(self, folder: Path, callers: bool, limits: bool, counted: int, logged: bool) -> None:
        self._all = (callers, limits, counted)
        line = {"action": "http.request" if logged else "gateway.started"}
        (folder / "cosygate.err").write_text(json.dumps(line, separators=(",", ":")) + "\n")
        self.data = folder / "data"
        self.token = "known"

    async def __aenter__(self) -> "Server":
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        callers, limits, counted = self._all
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        status, fields, body = 200, "", ""
        if head.startswith("GET /metrics"):
            body = "".join(f'cv_request_total{{status="{code}"}} {counted}\n' for code in (200, 401))
        elif callers and "Bearer known" not in head:
            status = 401
        elif limits:
            fields = 'RateLimit: "x";r=1;t=1\r\n'
        writer.write(f"HTTP/1.1 {status} x\r\n{fields}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        await writer.drain()
        writer.close()


@pytest.mark.parametrize(
    ("shows", "on", "is_right"),
    [
        ((True, True, 7, True), True, True),
        ((False, False, 0, False), False, True),
        ((False, False, 0, False), True, False),
        ((True, True, 7, True), False, False),
        ((False, False, 1, False), False, False),
        ((False, False, 0, True), False, False),
        ((True, False, 7, True), True, False),
    ],
)
async def test_off_is_off_and_on_is_on_or_the_run_is_bad(
    tmp_path: Path, shows: tuple[bool, bool, int, bool], on: bool, is_right: bool
) -> None:
    async with Server(tmp_path, *shows) as server:
        target: Any = SimpleNamespace(port=server.port, token=server.token, data=server.data)
        asked = asyncio.to_thread(cost.check, target, on)
        if is_right:
            await asked
        else:
            with pytest.raises(BadRun, match="it is to be o"):
                await asked
