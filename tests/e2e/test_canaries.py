"""Canaries: secrets and speech that are known to be such, sent through every door, good and bad, at the level debug.
None of them may come out of any process again but in an answer to whoever may have it: not in a log line, not on
stdout, not in a metric. And every line that any process writes is one JSON object.
"""

from __future__ import annotations

import base64
import json
import re
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from cosygate.cli import app
from tests.support import media
from tests.support.faults import Victim, recording, wait_for
from tests.support.issuer import Issuer, Key
from tests.support.receiver import Receiver, free_port
from tests.support.server import wait_task

SPEECH = "canary-speech about a secret matter"
SECRET = "canary-jwt-secret-of-thirty-two-bytes-at-least"
CRASHES, FAILS, HANGS = 1.3, 1.5, 1.7  # seconds of recordings that end, or stop, the engine
NEVER_SAID = "never-said-canary"  # what a client invents: names, ids, bodies


class Canaries:
    """What must not come out; learnt while the server is used."""

    def __init__(self) -> None:
        self.known: dict[str, str] = {"speech": SPEECH, "JWT secret": SECRET, "invented": "canary"}

    def learn(self, what: str, value: str) -> str:
        assert len(value) >= 16, what
        self.known[what] = value
        return value

    def found_in(self, text: str) -> list[str]:
        plain = text.casefold()
        found = [what for what, value in self.known.items() if value.casefold() in plain]
        encoded = {what: base64.b64encode(value.encode())[:20].decode() for what, value in self.known.items()}
        return found + [f"{what} in base64" for what, value in encoded.items() if len(value) == 20 and value in text]


@pytest.fixture(scope="module")
def canaries() -> Canaries:
    return Canaries()


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    with Issuer(Key("ES256", "the-issuers")) as running:
        yield running


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, issuer: Issuer) -> Iterator[Victim]:
    rules = [
        {"when": {"seconds": [CRASHES - 0.01, CRASHES + 0.01]}, "do": "crash"},
        {"when": {"seconds": [FAILS - 0.01, FAILS + 0.01]}, "do": "fail"},
        {"when": {"seconds": [HANGS - 0.01, HANGS + 0.01]}, "do": "hang"},
    ]
    script = {"texts": [SPEECH], "segment_s": 2.0, "rules": rules, "capabilities": ["words"]}
    settings = {"log_level": "debug", "jwt_secret": SECRET, "workers": 2, "slow_request_s": 0.001, "engine_idle_s": 1}
    settings |= {"webhook_scheme": "any", "webhook_allow": "127.0.0.0/8", "webhook_timeout_s": 2}
    settings |= {"jwt_jwks_url": issuer.url, "jwt_jwks_refresh_s": 1}
    with Victim(tmp_path_factory.mktemp("canaries") / "data", script=script, **settings) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Victim, canaries: Canaries) -> Iterator[httpx2.Client]:
    token = canaries.learn("token", server_token(server))
    with httpx2.Client(base_url=server.url, headers={"Authorization": f"Bearer {token}"}, timeout=30) as client:
        yield client


def server_token(server: Victim, **claims: Any) -> str:
    (server.data_dir / "jwt_secret").write_text(SECRET)  # where the harness looks
    return server.token(**claims)


def put(
    http: httpx2.Client, name: str, data: bytes, headers: dict[str, str] | None = None, **query: str
) -> httpx2.Response:
    params = {"is_last": "1", **query}
    return http.put(f"/v1/audio/canary-{name}/0", content=data, params=params, headers=headers)


def test_recordings(server: Victim, http: httpx2.Client, canaries: Canaries) -> None:
    task = wait_task(http, put(http, "good", recording(1), filename="canary-name.wav").json()["task_id"])
    assert SPEECH in task["result"]["text"]
    for path in ("", "/events", "/transcript?format=srt", "/transcript?format=json", "/audio"):
        assert http.get(f"/v1/task/{task['task_id']}{path}").status_code == 200
    form = {"session_id": "canary-form", "seq": "0", "is_last": "1", "hotwords": "canary-hotword"}
    http.post("/v1/audio", data=form, files={"chunk": ("canary-file.wav", recording(2))})
    cookie = http.post(f"/v1/task/{task['task_id']}/audio-cookie").headers["set-cookie"]
    canaries.learn("cookie", cookie.partition("=")[2].partition(";")[0])
    stored = next(server.data_dir.glob(f"blobs/results/*/{task['task_id']}/*"))
    for content in (f'{{"text": "{SPEECH}', f'"{SPEECH}"', f'{{"{SPEECH}": 1}}'):
        stored.write_text(content)  # a bug, or a broken disk: the exception that it makes quotes what it read
        assert http.get(f"/v1/task/{task['task_id']}/transcript").status_code == 500
    http.delete(f"/v1/task/{task['task_id']}")


def test_keys_and_tokens_of_an_issuer(server: Victim, http: httpx2.Client, issuer: Issuer, canaries: Canaries) -> None:
    key = canaries.learn("real API key", printed(server, "keys", "create", "--sub", "bob", "--name", "canary-key"))
    good = canaries.learn("issuer's token", issuer.keys[0].token("carol"))
    forged = canaries.learn("forged token", Key("ES256", "canary-kid").token("carol"))
    for number, credential in enumerate((key, good)):
        own = {"Authorization": f"Bearer {credential}"}
        assert put(http, f"by-other-{number}", recording(4 + number), own).status_code == 202
        with line(server, own) as ws:
            say(ws, {"type": "start", "sample_rate": 16_000})
            canaries.learn(f"resume token {number}", json.loads(ws.recv(10))["resume_token"])
    for wrong in (forged, key[:-1], good[:-4]):
        assert http.get("/v1/tasks", headers={"Authorization": f"Bearer {wrong}"}).status_code == 401
    printed(server, "keys", "revoke", key)  # as somebody does who has only the key itself

    def void() -> bool:
        return http.get("/v1/tasks", headers={"Authorization": f"Bearer {key}"}).status_code == 401

    wait_for(void, "the key's revocation")


def test_webhooks(server: Victim, http: httpx2.Client, canaries: Canaries) -> None:
    canaries.learn("webhook secret", printed(server, "webhooks", "secret", "create"))
    canaries.learn("webhook secret's value", canaries.known["webhook secret"].removeprefix("whsec_"))
    with Receiver() as receiver:
        sent = canaries.learn("callback", f"{receiver.url}/canary-path/sent?secret=canary-hook-secret")
        dead = canaries.learn("dead callback", f"http://127.0.0.1:{free_port()}/canary-path/dead?canary=1")
        for name, url in (("taken", sent), ("not-taken", dead)):
            assert put(http, name, recording(len(name)), callback_url=url).status_code == 202
        [call] = receiver.wait()
        assert SPEECH in call.body.decode()
        call.verified(canaries.known["webhook secret"])
        canaries.learn("signature", call.headers["webhook-signature"].partition(",")[2])
        for action in ("webhook.sent", "webhook.failed"):
            wait_for(lambda action=action: f'"action":"{action}"' in server.log(), action)  # type: ignore[misc]  # mypy cannot tell a bound default
    refused = put(http, "no-hook", recording(6), callback_url="http://10.0.0.1/canary-path")
    assert refused.status_code == 422
    assert "canary" not in refused.text


def printed(server: Victim, *words: str) -> str:
    """By a `cosygate` command on the server's data folder."""
    ended = CliRunner().invoke(app, [*words], env=server.env)
    assert ended.exit_code == 0, ended.output
    return ended.stdout.strip()


def test_a_body_that_comes_slowly(http: httpx2.Client) -> None:
    def body() -> Iterator[bytes]:
        yield b"canary"
        time.sleep(0.3)
        yield b"canary"

    assert http.put("/v1/audio/canary-slow/0", content=body()).status_code == 200


@pytest.mark.parametrize("seconds", [CRASHES, FAILS, HANGS])
def test_engines_that_fail_on_speech(http: httpx2.Client, seconds: float) -> None:
    task = wait_task(http, put(http, f"ends-{seconds}", recording(int(seconds * 10), seconds)).json()["task_id"], 60)
    assert task["state"] == "failed"


def test_bad_media(http: httpx2.Client) -> None:
    words = f"{SPEECH} ".encode() * 100
    good = media.wav(media.s16(media.tone(1.0)))
    opus = media.encode("ogg-opus", media.tone(1.0))
    for number, data in enumerate(
        (words, b"RIFF" + words, b"fLaC" + words, b"ID3" + words, opus[:200], good[:60], b"")
    ):
        answer = put(http, f"bad-{number}", data)
        if answer.status_code == 202:
            wait_task(http, answer.json()["task_id"])


def test_bad_requests(server: Victim, http: httpx2.Client, canaries: Canaries) -> None:
    key = canaries.learn("API key", "csg_canarycanarycanarycanarycanary")
    for header in (
        f"Bearer {key}",
        f"Token {key}",
        "Bearer canary.canary.canary",
        "Basic Y2FuYXJ5OmNhbmFyeQ==",
        "canary",
    ):
        assert http.get("/v1/tasks", headers={"Authorization": header}).status_code == 401
    http.get("/v1/canary?token=canary", headers={"canary": "canary", "cookie": "canary=canary"})
    http.request("CANARY", "/v1/tasks")
    http.get("/v1/task/canary/events", headers={"Last-Event-ID": "canary"})
    http.get("/v1/tasks", params={"cursor": "canary", "state": "canary", "limit": "canary"})
    http.get("/v1/tasks", headers={"tracestate": "canary=canary", "traceparent": "canary"})
    put(http, "unknown-option", b"canary", canary="canary")
    http.put("/v1/audio/canary-x/canary", content=b"canary", headers={"Content-Digest": "sha-256=:canary:"})
    http.post(
        "/v1/audio", content=b"--canary\r\ncanary", headers={"content-type": "multipart/form-data; boundary=canary"}
    )
    http.post("/v1/live/canary/shares", content=b"{canary")
    http.get("/v1/live/canary/events", params={"ticket": "canary"})
    for raw in (
        b"CANARY canary canary\r\n\r\n",
        b"GET /canary HTTP/1.1\r\ncanary\x00: \xff\r\n\r\n",
        b"\x16\x03canary",
    ):
        with socket.create_connection((server.url.split("//")[1].split(":")[0], server.port), 5) as plain:
            plain.sendall(raw)
            with suppress(OSError):
                plain.recv(4096)


def test_live_speech(server: Victim, http: httpx2.Client, canaries: Canaries) -> None:
    own = {"Authorization": http.headers["authorization"]}
    with line(server, own) as ws:
        say(ws, {"type": "start", "sample_rate": 16_000})
        ready = json.loads(ws.recv(10))
        canaries.learn("resume token", ready["resume_token"])
        for index in range(0, 64_000, 1600):
            ws.send(struct.pack(">Q", index) + recording(index, 0.1)[-3200:])
        said = until(ws, "final")
        assert SPEECH in said["text"]
        share = http.post(f"/v1/live/{ready['session']}/shares")
        assert share.status_code < 300
        shared = canaries.learn("share ticket", next(v for k, v in share.json().items() if "ticket" in k))
        seen = http.build_request(
            "GET", f"/v1/live/{ready['session']}/events", headers={"Authorization": f"Bearer {shared}"}
        )
        http.send(seen, stream=True).close()
    with line(server, own) as ws:  # the first connection was cut; this one takes the session up
        resume = {
            "type": "resume",
            "session": ready["session"],
            "resume_token": ready["resume_token"],
            "last_final": None,
        }
        say(ws, resume)
        again = json.loads(ws.recv(10))
        say(ws, {"type": "end", "samples": again["offset"]})
        until(ws, "done")
    ticket = canaries.learn("ticket", http.post("/v1/live/tickets").json()["ticket"])
    spent = {"subprotocols": ["cosygate.v1", f"ticket.{ticket}"]}
    start = {"type": "start", "sample_rate": 16_000}
    stranger = {"type": "resume", "session": "canary", "resume_token": "canary"}
    refused(server, {}, start, **spent)
    refused(server, {}, start, **spent)  # now it is spent
    for bad in ("canary", {"type": "canary", "canary": SPEECH}, stranger):
        refused(server, own, bad)
    refused(server, {"Authorization": "Bearer canary"}, start)
    refused(server, own | {"Origin": "https://canary.example"}, start)


def refused(server: Victim, headers: dict[str, str], message: Any, **how: Any) -> None:
    with suppress(ConnectionClosed), line(server, headers, **how) as ws:
        say(ws, message)
        ws.recv(10)


def line(server: Victim, headers: dict[str, str], **how: Any) -> ClientConnection:
    url = server.url.replace("http", "ws") + "/v1/live"
    return connect(url, additional_headers=headers, proxy=None, close_timeout=2, **how)


def say(ws: ClientConnection, message: Any) -> None:
    ws.send(message if isinstance(message, str) else json.dumps(message))


def until(ws: ClientConnection, kind: str) -> dict[str, Any]:
    while (told := json.loads(ws.recv(10)))["type"] != kind:
        pass
    return dict(told)


def test_no_canary_comes_out_and_every_line_is_an_object(
    server: Victim, http: httpx2.Client, canaries: Canaries
) -> None:
    """After the others: it ends the server and reads all that its processes have written."""
    metrics = http.get("/metrics").text
    assert canaries.found_in(metrics) == []
    wait_for(lambda: "http.slow" in server.log(), "a slow request's line")
    server.stop()
    log = server.log()
    assert canaries.found_in(log) == []
    assert canaries.found_in(server.rest) == []
    lines = [json.loads(text) for text in log.splitlines()]
    for told in lines:
        assert {"ts", "level", "action"} <= told.keys(), told
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", told["ts"])
        assert re.fullmatch(r"[a-z]+\.[a-z_]+", told["action"]), told
    actions = {told["action"] for told in lines}
    # What this test is about has happened: engines that died, exceptions with stacks, calls that failed.
    assert {"child.ended", "http.crashed", "engine.call", "task.requeued", "live.closed", "http.slow"} <= actions
    assert {"webhook.sent", "webhook.failed", "issuer.keys", "revocations.changed"} <= actions
    assert [told for told in lines if told["action"] == "http.crashed" and "Traceback" in told["exception"]]


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("http.request", {"trace_id", "user_id", "tenant", "cost_ms", "route", "status"}),
        ("http.slow", {"trace_id", "user_id", "tenant", "cost_ms", "route", "body_ms", "handler_ms", "answer_ms"}),
        ("http.crashed", {"trace_id", "user_id", "tenant", "exception"}),
        ("task.finished", {"trace_id", "user_id", "tenant", "cost_ms", "task_id"}),
        ("live.connection", {"trace_id", "user_id", "tenant", "cost_ms", "close_code"}),
        ("engine.call", {"trace_id", "cost_ms"}),
    ],
)
def test_a_line_has_what_the_contract_wants(server: Victim, action: str, fields: set[str]) -> None:
    lines = [told for told in map(json.loads, server.log().splitlines()) if told["action"] == action]
    assert lines
    assert all(fields <= told.keys() for told in lines)
    if action == "engine.call":  # the engine never hears whose speech it is; the gateway tells it
        assert all({"user_id", "tenant"} <= told.keys() for told in lines if "outcome" in told)
        assert [told for told in lines if "outcome" in told]
        assert [told for told in lines if "status" in told]


def test_a_slow_request_tells_where_its_time_went_and_what_goes_on_for_long_is_not_slow(server: Victim) -> None:
    lines = [told for told in map(json.loads, server.log().splitlines()) if told["action"] == "http.slow"]
    chunk = max((told for told in lines if told["method"] == "PUT"), key=lambda told: told["body_ms"])
    assert chunk["body_ms"] >= 250
    for told in lines:
        assert abs(told["cost_ms"] - told["body_ms"] - told["handler_ms"] - told["answer_ms"]) < 1
    answered = [told for told in lines if told["status"] == 200]
    assert {told["route"] for told in answered}.isdisjoint({"/v1/task/{task_id}/events", "/v1/live/{session}/events"})


def test_the_canaries_can_be_found(canaries: Canaries) -> None:
    """The search itself works."""
    assert "speech" in canaries.found_in(f'{{"a": "{SPEECH.upper()}"}}')
    assert "token in base64" in canaries.found_in(base64.b64encode(canaries.known["token"].encode()).decode())
    assert len(canaries.known) >= 8
