"""Webhooks over HTTP and the command line: a real server, real receivers, signatures checked by the library."""

from __future__ import annotations

import itertools
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from standardwebhooks import WebhookVerificationError
from typer.testing import CliRunner
from websockets.sync.client import connect

from cosygate.cli import app
from tests.api.conftest import code_of, wav
from tests.support.faults import Victim, recording, wait_for
from tests.support.receiver import Receiver, answers
from tests.support.server import wait_task

_numbers = itertools.count()
FAILS_S = 1.25  # recordings of this length end the recogniser
SPEECH = "secret words of the speaker"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victim]:
    rule = {"when": {"seconds": [FAILS_S - 0.01, FAILS_S + 0.01]}, "do": "fail", "status": "INVALID_ARGUMENT"}
    script = {"texts": [SPEECH], "segment_s": 30.0, "rules": [rule]}
    hooks = {"webhook_scheme": "any", "webhook_allow": "127.0.0.0/8", "webhook_schedule": "0.1 0.1"}
    folder = tmp_path_factory.mktemp("hooks") / "data"
    with Victim(folder, script=script, webhook_timeout_s=3, **hooks) as running:
        yield running


@pytest.fixture(scope="module")
def secret(server: Victim) -> str:
    return webhooks(server, "secret", "create").strip()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as running:
        yield running


def webhooks(server: Victim, *words: str, status: int = 0) -> str:
    """What `cosygate webhooks …` prints."""
    ended = CliRunner().invoke(app, ["webhooks", *words], env=server.env)
    assert ended.exit_code == status, ended.output
    assert status or not ended.stderr
    return ended.stdout if not status else ended.stderr


def send(http: httpx2.Client, url: str, data: bytes | None = None, session: str = "", **query: str) -> httpx2.Response:
    params = {"is_last": "1", "callback_url": url, **query}
    name = session or f"hook-{next(_numbers)}"
    return http.put(f"/v1/audio/{name}/0", params=params, content=data or wav())


def task_of(answer: httpx2.Response) -> str:
    assert answer.status_code == 202, answer.text
    return str(answer.json()["task_id"])


def delivery(http: httpx2.Client, task_id: str, state: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        page = http.get("/v1/webhooks/deliveries", params={"limit": 100}).json()["deliveries"]
        return next((d for d in page if d["task_id"] == task_id and d["state"] == state), None)

    return wait_for(look, f"a {state} delivery of {task_id}")


def test_a_tenant_without_a_secret_is_refused_and_nothing_is_lost(server: Victim, receiver: Receiver) -> None:
    with server.http("eve", tenant="late") as http:
        assert http.put("/v1/audio/late/0", content=wav()[:1000]).status_code == 200
        last = {"is_last": "1", "callback_url": receiver.url}
        refused = http.put("/v1/audio/late/1", params=last, content=wav()[1000:])
        assert code_of(refused) == (422, "webhook_secret_missing")
        assert http.get("/v1/audio/late").json()["received"] == [0]
        made = webhooks(server, "secret", "create", "--tenant", "late")
        assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=\n", made), "the secret alone"
        again = task_of(http.put("/v1/audio/late/1", params=last, content=wav()[1000:]))
        [call] = receiver.wait(1)
        assert call.verified(made.strip())["data"]["task_id"] == again


def test_what_is_told_is_the_task_as_its_owner_sees_it(server: Victim, secret: str, receiver: Receiver) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with server.http() as http:
        http.headers["traceparent"] = f"00-{trace}-00f067aa0ba902b7-01"
        task_id = task_of(send(http, f"{receiver.url}/hooks/s3cret?key=s3cret", filename="call.wav"))
        [call] = receiver.wait(1)
        told = call.verified(secret)
        task = http.get(f"/v1/task/{task_id}").json()
        assert told == {"type": "task.succeeded", "timestamp": task["finished_at"], "data": task}
        assert task["result"]["text"] == SPEECH
        assert (call.path, call.id) == ("/hooks/s3cret?key=s3cret", f"msg_{task_id}")
        assert call.headers["traceparent"].split("-")[1] == trace
        assert call.headers["content-type"] == "application/json"
        assert abs(int(call.headers["webhook-timestamp"]) - time.time()) < 60
        seen = delivery(http, task_id, "delivered")
        assert (seen["type"], seen["status"], seen["tries"], "error" in seen) == ("task.succeeded", 204, 1, False)
    with pytest.raises(WebhookVerificationError):
        call.verified("whsec_" + "QUJD" * 8)
    lines = [line for line in server.log().splitlines() if '"webhook.sent"' in line and task_id in line]
    assert json.loads(lines[0])["host"] == f"127.0.0.1:{receiver.port}"
    assert "s3cret" not in server.log() and SPEECH not in server.log() and secret not in server.log()


def test_as_a_form_too_and_a_task_that_fails_is_told(server: Victim, secret: str, receiver: Receiver) -> None:
    with server.http() as http:
        form = {"session_id": "hook-form", "seq": "0", "is_last": "1", "callback_url": receiver.url}
        files = {"chunk": ("x.wav", recording(1, FAILS_S))}
        task_id = task_of(http.post("/v1/audio", data=form, files=files))
        [call] = receiver.wait(1)
        told = call.verified(secret)
        assert (told["type"], told["data"]) == ("task.failed", http.get(f"/v1/task/{task_id}").json())
        assert told["data"]["error"]["code"] == "engine_refused"


def test_a_cancelled_task_is_told_and_one_that_is_deleted_is_not(
    server: Victim, secret: str, receiver: Receiver
) -> None:
    receiver.behaviour = answers(500)
    with server.http() as http:
        finished = task_of(send(http, f"{receiver.url}/finished"))
        wait_task(http, finished)
        receiver.wait(1, "/finished")
        assert http.delete(f"/v1/task/{finished}").status_code == 204
        mine = http.get("/v1/webhooks/deliveries").json()["deliveries"]
        assert finished not in {d["task_id"] for d in mine}
        for process in server.find("cosygate.engine"):
            process.suspend()
        try:
            cancelled = task_of(send(http, f"{receiver.url}/cancelled", recording(7, 3.0)))
            assert http.delete(f"/v1/task/{cancelled}").json()["state"] == "cancelled"
        finally:
            for process in server.find("cosygate.engine"):
                process.resume()
        told = receiver.wait(1, "/cancelled")[0].verified(secret)
        assert (told["type"], told["data"]["state"]) == ("task.cancelled", "cancelled")


def test_a_live_session_is_told_of(server: Victim, secret: str, receiver: Receiver) -> None:
    url = server.url.replace("http", "ws") + "/v1/live"
    own = {"Authorization": f"Bearer {server.token()}"}
    start = {"type": "start", "sample_rate": 16_000, "options": {"callback_url": receiver.url}}
    with connect(url, additional_headers=own, compression=None, proxy=None) as ws:
        ws.send(json.dumps(start))
        ready = json.loads(ws.recv(timeout=15))
        assert ready["type"] == "ready", ready
        ws.send(bytes(8) + recording(3, 1.0)[44:])
        ws.send(json.dumps({"type": "end", "samples": 16_000}))
        [call] = receiver.wait(1)
    told = call.verified(secret)
    assert (told["type"], told["data"]["task_id"]) == ("task.succeeded", ready["session"])


@pytest.mark.parametrize(
    "url",
    ["ftp://r.example/", "http://169.254.169.254/latest", "https://[::1]/", "https://10.0.0.1/", "https://0x0a000001/",
     "https://u:p@r.example/", "https://r.example/#x", "https://r.example/" + "a" * 2048, "r.example", "https://12345678901/"],
)  # fmt: skip
def test_what_can_never_be_sent_to_is_refused_at_the_door(server: Victim, secret: str, url: str) -> None:
    with server.http() as http:
        answer = send(http, url)
        assert code_of(answer) == (422, "option_invalid")
        assert answer.json()["option"] == "callback_url"
    own = {"Authorization": f"Bearer {server.token()}"}
    with connect(server.url.replace("http", "ws") + "/v1/live", additional_headers=own, proxy=None) as ws:
        ws.send(json.dumps({"type": "start", "sample_rate": 16_000, "options": {"callback_url": url}}))
        assert json.loads(ws.recv(timeout=15))["code"] == "option_invalid"


def test_a_name_that_leads_inward_is_refused_when_something_is_sent(server: Victim, secret: str) -> None:
    """`localhost` is ::1, too, which this server does not allow, or another loopback address."""
    with server.http() as http:
        task_id = task_of(send(http, "http://ip6-localhost:9/"))
        seen = delivery(http, task_id, "dead")
        assert seen["tries"] == 3
        assert seen["error"] in ("blocked_address", "dns_failed")


def test_dead_letters_are_listed_and_replayed_by_their_owner_or_the_operator(
    server: Victim, secret: str, receiver: Receiver
) -> None:
    receiver.behaviour = answers(302, location="http://169.254.169.254/")
    with server.http("dora") as http, server.http("otto") as other:
        task_id = task_of(send(http, f"{receiver.url}/s3cret"))
        dead = delivery(http, task_id, "dead")
        assert (dead["tries"], dead["status"], dead["error"]) == (3, 302, "http_status")
        assert {call.id for call in receiver.calls} == {dead["id"]}
        assert len(receiver.calls) == 3
        replay = f"/v1/webhooks/deliveries/{dead['id']}/replay"
        assert code_of(other.post(replay)) == (404, "delivery_not_found")
        assert code_of(http.post("/v1/webhooks/deliveries/msg_x/replay")) == (404, "delivery_not_found")
        with server.http("dora", scopes=["task:read"]) as reader:
            assert code_of(reader.post(replay)) == (403, "scope_missing")
        letters = [json.loads(line) for line in webhooks(server, "dead", "--tenant", "default").splitlines()]
        [letter] = [one for one in letters if one["id"] == dead["id"]]
        assert (letter["host"], letter["error"]) == (f"127.0.0.1:{receiver.port}", "http_status")
        receiver.behaviour = receiver.never
        again = http.post(replay)
        assert (again.status_code, again.json()["state"]) == (202, "pending")
        assert again.headers["ratelimit-policy"] == '"recordings";q=600;w=60'
        assert again.headers["ratelimit"].startswith('"recordings";r=598;')  # it counts as the recording did
        assert code_of(http.post(replay)) == (409, "delivery_pending")
        receiver.behaviour = answers(200)
        receiver.let_go.set()
        assert delivery(http, task_id, "delivered")["id"] == dead["id"]
        webhooks(server, "replay", dead["id"])
        receiver.wait(5)
        assert "no such delivery" in webhooks(server, "replay", "msg_nothing", status=1)


def test_410_disables_a_receiver_until_it_is_enabled(server: Victim, secret: str, receiver: Receiver) -> None:
    url = f"{receiver.url}/gone"
    receiver.behaviour = answers(410)
    with server.http() as http:
        first = task_of(send(http, url))
        assert delivery(http, first, "dead")["error"] == "gone"
        second = task_of(send(http, url))
        assert delivery(http, second, "dead")["error"] == "gone"
        assert len(receiver.calls) == 1
        gone = [json.loads(line) for line in webhooks(server, "gone").splitlines()]
        assert [(one["tenant"], one["url"]) for one in gone] == [("default", url)]
        webhooks(server, "enable", url)
        assert "not disabled" in webhooks(server, "enable", url, status=1)
        receiver.behaviour = answers(204)
        delivery(http, task_of(send(http, url)), "delivered")


def test_deliveries_are_their_owners_and_come_in_pages(server: Victim, secret: str, receiver: Receiver) -> None:
    with server.http("paul") as http, server.http("rita") as other, server.http("paul", tenant="late") as namesake:
        tasks = [task_of(send(http, receiver.url)) for _ in range(3)]
        for task_id in tasks:
            delivery(http, task_id, "delivered")
        found, cursor = [], None
        while True:
            params = {"limit": "2"} | ({"cursor": cursor} if cursor else {})
            page = http.get("/v1/webhooks/deliveries", params=params).json()
            found += [d["task_id"] for d in page["deliveries"]]
            if (cursor := page.get("next_cursor")) is None:
                break
        assert found == tasks[::-1]
        assert http.get("/v1/webhooks/deliveries", params={"state": "dead"}).json()["deliveries"] == []
        for stranger in (other, namesake):
            assert stranger.get("/v1/webhooks/deliveries").json()["deliveries"] == []
        assert code_of(http.get("/v1/webhooks/deliveries", params={"cursor": "x"})) == (422, "invalid_request")
        assert code_of(http.get("/v1/webhooks/deliveries", params={"state": "x"})) == (422, "invalid_request")


def test_a_rotated_secret_and_its_predecessor_both_sign(server: Victim, secret: str, receiver: Receiver) -> None:
    """The last one that uses the module's secret."""
    assert "rotate it" in webhooks(server, "secret", "create", status=1)
    assert "create one" in webhooks(server, "secret", "rotate", "--tenant", "nobody", status=1)
    newer = webhooks(server, "secret", "rotate").strip()
    with server.http() as http:
        send(http, receiver.url)
        [call] = receiver.wait(1)
    assert call.verified(newer) == call.verified(secret)
    assert newer not in server.log()


def test_tries_are_counted(server: Victim) -> None:
    text = httpx2.get(f"{server.url}/metrics").text
    counts = dict(re.findall(r'^cv_webhook_total\{outcome="(\w+)"\} (\S+)', text, re.MULTILINE))
    assert counts.keys() == {"delivered", "failed", "dead"}
    assert all(float(count) >= 1 for count in counts.values())
