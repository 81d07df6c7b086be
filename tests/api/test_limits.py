"""Rate limits, quotas and usage, on real servers: one with a single gateway behind a trusted proxy, one with two that
share their counters and trust nobody."""

from __future__ import annotations

import json
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner

from cosygate.cli import app
from tests.api.conftest import code_of, wav
from tests.api.test_live import START, Line, rejection
from tests.support.faults import wait_for
from tests.support.records import locked_by_another_process
from tests.support.server import Server, wait_task

LIMITS = {"rate_limits": "recordings=article live=2/minute", "unauthenticated_limit": "20/minute"}
SOUND = wav(0.1)
LIMITED = 429, "rate_limited"


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("one")
    with Server(folder, recogniser="scripted", trusted_proxies="127.0.0.0/8", **LIMITS) as running:
        yield running
    assert not [line for line in running.log().splitlines() if "Traceback" in line or "crashed" in line]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("two")
    with Server(folder, recogniser="scripted", workers=2, rate_limits_failing="closed", **LIMITS) as running:
        yield running
    assert not [line for line in running.log().splitlines() if "Traceback" in line or "crashed" in line]


@pytest.fixture(params=["one", "two"])
def either(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


def put(http: httpx2.Client, session: str, seq: int = 0, body: bytes = SOUND, *, last: bool = True) -> httpx2.Response:
    return http.put(f"/v1/audio/{session}/{seq}", content=body, params={"is_last": "1"} if last else {})


def post(http: httpx2.Client, session: str, seq: int = 0, body: bytes = SOUND, *, last: bool = True) -> httpx2.Response:
    data = {"session_id": session, "seq": str(seq), "is_last": str(int(last))}
    return http.post("/v1/audio", data=data, files={"chunk": ("c.wav", body)})


def apart(server: Server, sub: str, *asks: Callable[[httpx2.Client], httpx2.Response]) -> list[httpx2.Response]:
    """All at the same moment, each on a connection of its own: the kernel spreads them over the gateways."""
    headers = {"Authorization": f"Bearer {server.token(sub)}"}
    alone = httpx2.Limits(max_connections=None, max_keepalive_connections=0)
    with (
        httpx2.Client(base_url=server.url, headers=headers, timeout=60, limits=alone) as http,
        ThreadPoolExecutor(len(asks)) as threads,
    ):
        return list(threads.map(lambda ask: ask(http), asks))


def left(server: Server, sub: str, what: str = "recordings") -> int:
    with server.http(sub) as http:
        found = {limit["name"]: limit["remaining"] for limit in http.get("/v1/usage").json()["rate_limits"]}
    return int(found[what])


def exhaust(server: Server, sub: str) -> None:
    with server.http(sub) as http:
        for n in range(left(server, sub)):
            assert put(http, f"spent-{n}").status_code == 202


# --- counting ----------------------------------------------------------------------------------------------------


def test_of_fifty_recordings_at_once_exactly_ten_begin(either: Server) -> None:
    answers = apart(either, "crowd", *(lambda http, n=n: put(http, f"crowd-{n}") for n in range(50)))
    assert [answer.status_code for answer in answers].count(202) == 10
    assert {code_of(answer) for answer in answers if answer.status_code != 202} == {LIMITED}


def test_fifty_first_chunks_of_one_recording_count_once(either: Server) -> None:
    asks = (lambda http, n=n: put(http, "parts", n, b"x" * 100, last=False) for n in range(50))
    assert {answer.status_code for answer in apart(either, "slicer", *asks)} == {200}
    assert left(either, "slicer") == 9


def test_what_has_begun_goes_on_when_the_limit_is_used_up(either: Server) -> None:
    with either.http("finisher") as http:
        assert put(http, "long", 0, SOUND[:1000], last=False).status_code == 200
        exhaust(either, "finisher")
        assert code_of(put(http, "another")) == LIMITED
    chunk = lambda n, last=False: lambda http: put(http, "long", n, SOUND[1000 * n :][:1000], last=last)  # noqa: E731
    assert {a.status_code for a in apart(either, "finisher", *(chunk(n) for n in (0, 1, 1, 2, 0, 1)))} == {200}
    [formed] = apart(either, "finisher", lambda http: post(http, "long", 2, SOUND[2000:3000], last=False))
    assert formed.status_code == 200
    with either.http("finisher") as http:
        task = put(http, "long", 3, SOUND[3000:])
        assert task.status_code == 202 and "ratelimit" not in task.headers
    repeats = apart(either, "finisher", *[chunk(0)] * 6)
    assert {answer.json().get("task_id") for answer in repeats} == {task.json()["task_id"]}
    with either.http("finisher") as http:
        assert wait_task(http, task.json()["task_id"])["state"] == "succeeded"  # reading is not limited
        for _ in range(30):
            assert http.get("/v1/tasks").status_code == 200


def test_forms_are_counted_as_well(either: Server) -> None:
    with either.http("poster") as http:
        answers = [post(http, f"form-{n}") for n in range(11)]
    assert [answer.status_code for answer in answers] == [202] * 10 + [429]
    assert answers[0].headers["ratelimit"].startswith('"recordings";r=9;t=')


def test_answers_tell_where_the_caller_stands(one: Server) -> None:
    with one.http("reader") as http:
        first = put(http, "told", 0, SOUND[:1000], last=False)
        assert first.headers["ratelimit-policy"] == '"recordings";q=10;w=60'
        assert re.fullmatch(r'"recordings";r=9;t=\d+', first.headers["ratelimit"])
        assert "ratelimit" not in put(http, "told", 1, SOUND[1000:2000], last=False).headers  # it began nothing
        exhaust(one, "reader")
        refused = [put(http, f"refused-{n}") for n in range(8)]
        usage = http.get("/v1/usage").json()
    waits = [int(answer.headers["retry-after"]) for answer in refused]
    assert len(set(waits)) > 1  # they do not come back together
    for answer, wait in zip(refused, waits, strict=True):
        assert answer.headers["ratelimit-policy"] == '"recordings";q=10;w=60'
        assert answer.headers["ratelimit"] == f'"recordings";r=0;t={wait}'
        assert answer.json()["retry_after"] == wait
        assert 1 <= wait <= math.ceil(60 * 1.25)
    recordings = next(limit for limit in usage["rate_limits"] if limit["name"] == "recordings")
    assert recordings["remaining"] == 0 and recordings["reset_s"] <= min(waits)


def test_live_starts_have_their_own_limit(one: Server) -> None:
    for _ in range(2):
        with Line(one, "speaker") as line:
            line.say(START).hear("ready")
    code, error = rejection(one, START, sub="speaker")
    assert (code, error["code"], error["policy"], error["limit"]) == (4429, "rate_limited", "live", 2)
    assert error["retry_after"] >= 1
    assert (left(one, "speaker", "live"), left(one, "speaker")) == (0, 10)


def test_replays_of_webhooks_count_as_recordings(one: Server) -> None:
    """Over a real delivery: test_webhooks. One that is not replayed costs nothing."""
    replay = f"/v1/webhooks/deliveries/msg_{0:032x}/replay"
    with one.http("replayer") as http:
        for _ in range(3):
            assert code_of(http.post(replay)) == (404, "delivery_not_found")
        assert left(one, "replayer") == 10
        exhaust(one, "replayer")
        refused = http.post(replay)
        assert code_of(refused) == LIMITED and refused.json()["policy"] == "recordings"
        assert refused.headers["ratelimit"].startswith('"recordings";r=0;t=') and "retry-after" in refused.headers
    with one.http("root", scopes=["admin"]) as http:
        assert code_of(http.post(f"/v1/admin/deliveries/msg_{0:032x}/replay")) == (404, "delivery_not_found")


# --- who has no token --------------------------------------------------------------------------------------------


def failing(server: Server, forwarded: str | None, token: str = "nonsense") -> httpx2.Response:
    headers = {"Authorization": f"Bearer {token}"} | ({"X-Forwarded-For": forwarded} if forwarded else {})
    return httpx2.get(f"{server.url}/v1/tasks", headers=headers, verify=False)


def test_strangers_are_counted_by_the_address_a_trusted_proxy_names(one: Server) -> None:
    asks = ["198.51.100.1", "10.1.1.1, 198.51.100.1", "198.51.100.1, 127.0.0.9"] * 7  # what stands left is invented
    answers = [failing(one, forwarded).status_code for forwarded in asks]
    assert answers == [401] * 20 + [429]
    refused = failing(one, "198.51.100.1")
    assert code_of(refused) == LIMITED and refused.json()["policy"] == "unauthenticated"
    assert "www-authenticate" not in refused.headers and int(refused.headers["retry-after"]) >= 1
    assert failing(one, "198.51.100.2").status_code == 401
    assert failing(one, None).status_code == 401
    assert failing(one, "198.51.100.1", one.token("anybody")).status_code == 200  # theirs is valid
    told = {"X-Forwarded-For": "198.51.100.1"}
    code, error = rejection(one, headers=told)
    assert (code, error["code"]) == (4429, "rate_limited")
    with Line(one, headers=told | {"Authorization": f"Bearer {one.token('calm')}"}) as line:
        line.say(START).hear("ready")


def rejected(server: Server, reason: str) -> float:
    text = httpx2.get(f"{server.url}/metrics", verify=False).text
    found = re.search(rf'^cv_rejected_total\{{reason="{reason}"\}} (\S+)$', text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_a_stranger_who_is_refused_is_counted_once_and_as_what_they_are_told(one: Server) -> None:
    before = {code: rejected(one, code) for code in ("token_invalid", "rate_limited")}
    told = {"Authorization": "Bearer nonsense", "X-Forwarded-For": "203.0.113.77"}
    with httpx2.Client(base_url=one.url, headers=told) as http:
        asks = [http.get("/v1/tasks") for _ in range(18)] + [put(http, f"strange-{n}") for n in range(5)]
        asks += [http.get("/v1/usage")]
    assert [answer.status_code for answer in asks] == [401] * 20 + [429] * 4
    assert {code_of(answer) for answer in asks[:20]} == {(401, "token_invalid")}
    assert rejected(one, "token_invalid") - before["token_invalid"] == 20
    assert rejected(one, "rate_limited") - before["rate_limited"] == 4


def test_nobody_else_is_believed_about_addresses(two: Server) -> None:
    with httpx2.Client(base_url=two.url, headers={"Authorization": "Bearer nonsense"}) as http:
        answers = [http.get("/v1/tasks", headers={"X-Forwarded-For": f"198.51.100.{n}"}) for n in range(21)]
        assert [answer.status_code for answer in answers] == [401] * 20 + [429]
    assert failing(two, "203.0.113.1").status_code == 429  # from the other gateway, perhaps
    assert failing(two, None, two.token("anybody")).status_code == 200


def test_metrics_are_not_open_to_whom_a_proxy_on_this_machine_speaks_for(one: Server) -> None:
    told = {"X-Forwarded-For": "203.0.113.50"}
    assert httpx2.get(f"{one.url}/metrics", verify=False).status_code == 200
    assert httpx2.get(f"{one.url}/metrics", headers=told, verify=False).status_code == 401
    with one.http("root", scopes=["admin"]) as http:
        assert http.get("/metrics", headers=told).status_code == 200


# --- counters that cannot be reached -----------------------------------------------------------------------------


def test_counters_out_of_reach_refuse_what_would_begin_and_nothing_else(two: Server) -> None:
    place = two.data_dir.stat()
    counters = Path(f"/dev/shm/cosygate-{os.getuid()}-{place.st_dev:x}-{place.st_ino:x}/breakers/counters.sqlite")
    with two.http("patient") as http:
        assert put(http, "before", 0, b"x", last=False).status_code == 200
        with locked_by_another_process(counters, "IMMEDIATE"):
            answer = put(http, "meanwhile")
            assert code_of(answer) == (503, "limits_unavailable") and int(answer.headers["retry-after"]) >= 1
            assert put(http, "before", 1, b"x", last=False).status_code == 200
            assert http.get("/v1/tasks").status_code == 200
        wait_for(lambda: put(http, "after").status_code == 202, "the counters are back")
        metrics = http.get("/metrics").text
    failed = re.search(r"^cv_limits_failed_total ([\d.]+)$", metrics, re.MULTILINE)
    assert failed and float(failed[1]) >= 1
    lines = [json.loads(line) for line in two.log().splitlines() if "limits.unavailable" in line]
    assert lines and lines[0]["what"] == "counters" and lines[0]["passes"] is False


# --- quotas and usage --------------------------------------------------------------------------------------------


def quotas(server: Server, *words: str) -> str:
    result = CliRunner().invoke(app, ["quotas", *words, "--data-dir", str(server.data_dir)])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_quota_of_audio_is_refused_when_it_is_used_up(one: Server) -> None:
    with one.http("ann", tenant="small") as http, one.http("eve", tenant="big") as other:
        assert put(http, "open", 0, b"x", last=False).status_code == 200
        task = put(http, "first", 0, wav(2.0)).json()["task_id"]
        assert wait_task(http, task)["state"] == "succeeded"
        assert "small" in quotas(one, "set", "small", "--day-s", "1.5")
        wait_for(lambda: http.get("/v1/usage").json()["day"]["quota"], "the server has heard of it")
        answer = put(http, "refused", 0, b"x", last=False)
        assert code_of(answer) == (429, "quota_exceeded")
        problem = answer.json()
        assert (problem["quota"], problem["limit"], problem["used"]) == ("day", 1.5, 2.0)
        midnight = 86_400 - time.time() % 86_400
        assert midnight - 5 <= int(answer.headers["retry-after"]) <= midnight + 62
        assert put(http, "open", 1, b"x", last=False).status_code == 200  # begun before
        assert put(other, "theirs").status_code == 202
        assert (
            rejection(one, START, headers={"Authorization": http.headers["Authorization"]})[1]["code"]
            == "quota_exceeded"
        )
        usage = http.get("/v1/usage").json()
        assert usage["tenant"] == "small" and usage["day"]["quota"] == {"limit": 1.5, "remaining": 0.0}
        assert usage["day"]["doors"] == {"file": {"seconds": 2.0, "recordings": 1}}
        assert usage["month"]["seconds"] >= 2.0 and usage["month"]["quota"] is None
        assert usage["day"]["resets"].endswith("T00:00:00Z") and usage["month"]["begins"].endswith("-01T00:00:00Z")
        quotas(one, "clear", "small")
        wait_for(lambda: not http.get("/v1/usage").json()["day"]["quota"], "the quota is gone")
        assert put(http, "again").status_code == 202


def test_a_tenants_live_sessions_are_bounded_over_all_its_principals(one: Server) -> None:
    quotas(one, "set", "duo", "--live", "1")
    ann, bob = ({"Authorization": f"Bearer {one.token(sub, tenant='duo')}"} for sub in ("ann", "bob"))
    with one.http("cid", tenant="duo") as http:
        wait_for(lambda: http.get("/v1/usage").json()["live"]["quota"], "the server has heard of it")
        with Line(one, headers=ann) as line:
            line.say(START).hear("ready")
            assert http.get("/v1/usage").json()["live"] == {"open": 1, "quota": {"limit": 1, "remaining": 0}}
            for _ in range(3):  # what did not begin counts towards no rate either
                code, error = rejection(one, START, headers=bob)
                assert (code, error["code"], error["quota"], error["limit"]) == (4429, "quota_exceeded", "live", 1)
            line.say({"type": "end", "samples": 0}).hear("done", "error")
            line.end()
        with Line(one, headers=bob) as line:
            line.say(START).hear("ready")


def test_usage_takes_a_token_that_may_read(one: Server) -> None:
    with one.http("writer", scopes=["audio:write"]) as http:
        assert code_of(http.get("/v1/usage")) == (403, "scope_missing")
    with one.http("newcomer", tenant="empty") as http:
        usage: dict[str, Any] = http.get("/v1/usage").json()
    assert usage["day"]["seconds"] == usage["month"]["recordings"] == 0 and usage["day"]["doors"] == {}
    assert usage["live"] == {"open": 0, "quota": None}
    assert {(limit["name"], limit["limit"], limit["remaining"]) for limit in usage["rate_limits"]} == {
        ("recordings", 10, 10),
        ("live", 2, 2),
    }
