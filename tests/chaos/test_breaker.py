"""An engine that fails everything, or 6 % of it for 30 s: its breaker opens in every gateway, new recordings and live
sessions are turned away at once, what was begun before is kept, and when the time is over a single call finds out
whether the engine works."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
from websockets.exceptions import ConnectionClosed

from tests.support.faults import Victim, cut, put_chunk, recording, wait_for
from tests.support.live_line import Line, call
from tests.support.live_runs import recordings
from tests.support.server import wait_task

OPEN_S = 4.0
SETTINGS = {"workers": 2, "engine_slots": 4, "breaker_open_s": OPEN_S}
FAILING = {"rules": [{"do": "fail"}]}
EVERY = 16
SOMETIMES_FAILING = {"rules": [{"when": {"every": EVERY}, "do": "fail"}]}
EACH_S = 0.15  # a recording: with the time that it takes itself some five a second, a failure every three


def at_each(victim: Victim, ask: Callable[[httpx2.Client], Any]) -> list[Any]:
    """What each gateway answers: the kernel spreads connections, so several are made, and their owners looked up."""
    gateways = [victim.gateway(0), victim.gateway(1)]
    found: dict[int, Any] = {}
    for _ in range(100):
        with victim.http() as http:
            port = http.get("/health").extensions["network_stream"].get_extra_info("client_addr")[1]
            for gateway in gateways:
                if gateway.pid not in found and any(c.raddr and c.raddr.port == port for c in _connections(gateway)):
                    found[gateway.pid] = ask(http)
        if len(found) == len(gateways):
            return list(found.values())
    raise AssertionError("the kernel gave every connection to one gateway")


def _connections(process: psutil.Process) -> list[Any]:
    return list(process.net_connections("tcp"))


def state(http: httpx2.Client) -> tuple[str, str, str]:
    """Of the engine's breaker, in /health, /readyz and /metrics; both pages stay 200."""
    told = [http.get(path) for path in ("/health", "/readyz")]
    assert [answer.status_code for answer in told] == [200, 200]
    [line] = [x for x in http.get("/metrics").text.splitlines() if x.startswith("cv_breaker_state{")]
    return (*(answer.json()["engines"][0]["breaker"] for answer in told), line.split()[1])  # type: ignore[return-value]


def refused(http: httpx2.Client) -> float:
    """A new recording's first chunk: turned away; how many seconds that took."""
    began = time.monotonic()
    answer = put_chunk(http, "new", 0, recording(1))
    assert (answer.status_code, answer.json()["code"]) == (503, "breaker_open"), answer.text
    assert 1 <= int(answer.headers["retry-after"]) <= OPEN_S * 1.1 * 1.5 + 1  # it may be spread a little
    return time.monotonic() - began


async def live_refused(victim: Victim) -> int:
    lines: list[Line] = []
    with pytest.raises(ConnectionClosed) as closed:
        async with call(victim, recordings(1, 1)[0]) as line:
            lines.append(line)
    assert not lines
    return closed.value.rcvd.code if closed.value.rcvd else 0


async def completed_while_open(victim: Victim, http: httpx2.Client, last: bytes) -> str:
    """The recording `begun` completes with its last chunk (its task's id); everything new is refused at once."""
    done = put_chunk(http, "begun", 1, last, last=True)
    assert done.status_code == 202  # it was begun before
    assert at_each(victim, state) == [("open", "open", "2.0")] * 2
    assert max(at_each(victim, refused)) < 1.0
    assert await live_refused(victim) == 4503
    task_id: str = done.json()["task_id"]
    return task_id


async def test_a_failing_engine_is_left_alone_until_a_probe_finds_it_well(data_dir: Path) -> None:
    with Victim(data_dir, script=FAILING, **SETTINGS) as victim, victim.http() as http:
        first, last = cut(recording(0), 20_000)
        assert put_chunk(http, "begun", 0, first).status_code == 200
        parts = [cut(recording(n), 20_000) for n in range(1, 9)]
        for n, (head, _) in enumerate(parts):
            assert put_chunk(http, f"job-{n}", 0, head).status_code == 200
        jobs = [put_chunk(http, f"job-{n}", 1, tail, last=True).json()["task_id"] for n, (_, tail) in enumerate(parts)]
        opened = wait_for(lambda: _lines(victim, "breaker.opened"), "the breaker")
        victim.rehearse()  # from now on it would work
        victim.engine(0).kill()

        jobs.append(await completed_while_open(victim, http, last))
        begun = victim.job(jobs[-1])
        assert not _lines(victim, "breaker.probing")
        assert (begun["state"], begun["fence"]) == ("queued", 0)  # nobody claims what nobody could hear

        assert [wait_task(http, task_id)["state"] for task_id in jobs] == ["succeeded"] * len(jobs)
        [probing, closed] = _lines(victim, "breaker.probing", "breaker.closed")
        assert _at(probing) - _at(opened[0]) >= 0.9 * OPEN_S - 0.05
        assert len(_lines(victim, "breaker.opened")) == 1
        assert closed["engine"] == "0"
        assert at_each(victim, state) == [("closed", "closed", "0.0")] * 2
        assert all(victim.job(task_id)["attempt"] < 3 for task_id in jobs)


@pytest.mark.slow
async def test_an_engine_that_fails_one_call_in_sixteen_is_left_alone_for_a_while(data_dir: Path) -> None:
    """Each recording is one call and one piece for the recogniser, so it is every 16th call that fails, also of the
    calls after the breaker has closed: nobody mends the engine."""
    with Victim(data_dir, script=SOMETIMES_FAILING, **SETTINGS) as victim, victim.http() as http:
        first, last = cut(recording(0), 20_000)
        assert put_chunk(http, "begun", 0, first).status_code == 200
        jobs, began = _send_until_it_opens(victim, http), time.monotonic()
        calls = [line for line in _lines(victim, "engine.call") if "outcome" in line]  # a gateway's, not an engine's
        failed = [line for line in calls if line["outcome"] != "ok"]
        [opened] = _lines(victim, "breaker.opened")
        assert len(calls) >= 20
        assert 1 / 20 < len(failed) / len(calls) < 1 / 14, "it is the share that opened it, and not a row of failures"
        assert 19.5 <= _at(opened) - _at(failed[0]) <= 31, "once each 10 s of its window have a failure"

        jobs.append(await completed_while_open(victim, http, last))
        begun = victim.job(jobs[-1])
        assert time.monotonic() - began < 0.9 * OPEN_S, "this machine is too slow for what the test looks at"
        assert not _lines(victim, "breaker.probing")
        assert (begun["state"], begun["fence"]) == ("queued", 0)

        assert [wait_task(http, task_id)["state"] for task_id in jobs] == ["succeeded"] * len(jobs)
        told = _lines(victim, "breaker.opened", "breaker.probing", "breaker.closed")
        # A probe may be a 16th call as well; then the breaker opens again, and another is made.
        assert [line["action"] for line in told[-2:]] == ["breaker.probing", "breaker.closed"]
        pauses = [_at(probe) - _at(shut) for shut, probe in zip(told[:-1:2], told[1:-1:2], strict=True)]
        assert all(pause >= 0.9 * OPEN_S - 0.05 for pause in pauses)
        assert at_each(victim, state) == [("closed", "closed", "0.0")] * 2


def _send_until_it_opens(victim: Victim, http: httpx2.Client) -> list[str]:
    """Recording after recording; the tasks that there are then."""
    jobs: list[str] = []
    deadline = time.monotonic() + 45
    while '"breaker.opened"' not in victim.log():
        answer = put_chunk(http, f"job-{len(jobs)}", 0, recording(len(jobs), 0.3), last=True)
        if answer.status_code != 202:
            assert (answer.status_code, answer.json()["code"]) == (503, "breaker_open"), answer.text
            wait_for(lambda: _lines(victim, "breaker.opened"), "its line")
            break
        jobs.append(answer.json()["task_id"])
        assert time.monotonic() < deadline, f"{len(jobs)} recordings, and it is still closed"
        time.sleep(EACH_S)
    return jobs


def _lines(victim: Victim, *actions: str) -> list[dict[str, Any]]:
    return [x for x in map(json.loads, victim.log().splitlines()) if x["action"] in actions]


def _at(line: dict[str, Any]) -> float:
    hours, minutes, seconds = line["ts"].removesuffix("Z").split("T")[1].split(":")
    return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
