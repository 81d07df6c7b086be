"""API keys and revocation: a real server with two gateway processes, and the command line on its data folder."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import httpx2
import pytest
from typer.testing import CliRunner
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from cosygate.cli import app
from tests.api.conftest import code_of, wav
from tests.support.faults import wait_for
from tests.support.server import Server

REVOKED_S = 5.0  # the promise
START = json.dumps({"type": "start", "sample_rate": 16_000})


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("keys")
    script = folder / "script.json"
    rules = [{"do": "hang", "when": {"piece": 3}}]
    script.write_text(json.dumps({"hear": "digest", "segment_s": 1.0, "rules": rules}))
    settings = {"workers": 2, "live_window_s": 60, "durability": "process"}
    with Server(folder, recogniser="scripted", script=script, **settings) as running:
        yield running
        log = running.log()
    assert [line for line in log.splitlines() if "Traceback" in line or "crashed" in line] == []
    assert "csg_" not in log, "no key, and no part of one, in the log"


@pytest.fixture
def lines() -> Iterator[ExitStack]:
    """Closes what is still open."""
    with ExitStack() as stack:
        yield stack


def cosygate(server: Server, *arguments: str) -> str:
    """What the command prints. In this process: starting one takes longer than all it does."""
    ended = CliRunner().invoke(app, arguments, env=server.env)
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def new_key(server: Server, *options: str) -> str:
    return cosygate(server, "keys", "create", "--sub", "kim", *options).strip()


def get(server: Server, credential: str, path: str = "/v1/tasks", scheme: str = "Bearer") -> httpx2.Response:
    """On a connection of its own: it may be either gateway's."""
    return httpx2.get(server.url + path, headers={"Authorization": f"{scheme} {credential}"}, timeout=30)


def everywhere(server: Server, credential: str, code: str) -> bool:
    """Whether both gateways refuse it so: so many new connections come to both."""
    answers = [get(server, credential) for _ in range(12)]
    return all(answer.status_code == 401 and code_of(answer) == (401, code) for answer in answers)


def live(lines: ExitStack, server: Server, credential: str | None, ticket: str | None = None) -> ClientConnection:
    """A live session that has begun."""
    ws = lines.enter_context(
        connect(
            server.url.replace("http", "ws") + "/v1/live",
            additional_headers={} if credential is None else {"Authorization": f"Bearer {credential}"},
            subprotocols=None if ticket is None else ["cosygate.v1", f"ticket.{ticket}"],  # type: ignore[list-item]
            compression=None,
            proxy=None,
            ping_interval=None,
        )
    )
    ws.send(START)
    first = hear(ws)
    assert first["type"] == "ready", first
    return ws


def hear(ws: ClientConnection) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(ws.recv(20))
    return told


def closed(ws: ClientConnection) -> tuple[int | None, str]:
    """The close code, and the code of the error that was told before."""
    told = ""
    try:
        while True:
            told = hear(ws).get("code", told)
    except ConnectionClosed:
        return ws.close_code, told


def test_a_key_is_printed_alone(server: Server) -> None:
    command = [sys.executable, "-m", "cosygate", "keys", "create", "--sub", "kim"]
    ended = subprocess.run(command, env=server.env, capture_output=True, text=True, timeout=60)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.fullmatch(r"csg_[0-9a-f]{16}_[A-Za-z0-9_-]{43}[0-9a-f]{8}\n", ended.stdout)
    assert get(server, ended.stdout.strip()).status_code == 200


def test_a_key_opens_what_a_token_does(server: Server, lines: ExitStack) -> None:
    key = new_key(server)
    for scheme in ("Bearer", "bearer", "Token", "TOKEN"):
        assert get(server, key, scheme=scheme).status_code == 200
    assert code_of(get(server, server.token(), scheme="Token")) == (401, "token_missing")
    headers = {"Authorization": f"Token {key}"}
    sent = httpx2.put(f"{server.url}/v1/audio/k/0", params={"is_last": "1"}, content=wav(), headers=headers)
    assert sent.status_code == 202
    with server.http("kim") as same:  # a key is another way to be the same caller
        assert same.get(sent.json()["status_url"]).status_code == 200
    assert get(server, server.token("bob"), sent.json()["status_url"]).status_code == 404
    live(lines, server, key).send('{"type": "end", "samples": 0}')


def test_scopes_and_tenants_of_keys(server: Server) -> None:
    key = new_key(server, "--scope", "task:read", "--tenant", "acme")
    assert get(server, key).status_code == 200
    refused = httpx2.put(f"{server.url}/v1/audio/k/0", content=b"x", headers={"Authorization": f"Bearer {key}"})
    assert code_of(refused) == (403, "scope_missing")
    admin = new_key(server, "--scope", "admin task:read")
    assert get(server, admin, "/v1/admin/overview").status_code == 200
    assert code_of(get(server, key, "/v1/admin/overview")) == (403, "scope_missing")


def test_wrong_keys(server: Server) -> None:
    key = new_key(server)
    last = "0" if key[-1] != "0" else "1"
    for wrong in ("csg_", key[:-1], key[:-1] + last, key + "0", key.replace("csg_", "csg_0"), "csg_" + "a" * 8000):
        for scheme in ("Bearer", "Token"):
            assert code_of(get(server, wrong, scheme=scheme)) == (401, "token_invalid")
    assert code_of(get(server, key.removeprefix("csg_"))) == (401, "token_invalid")


def test_the_list_tells_all_but_the_secret(server: Server) -> None:
    name = "the phone in room 5"
    key = new_key(server, "--name", name, "--tenant", "listed", "--ttl", "30d")
    printed = cosygate(server, "keys", "list", "--tenant", "listed")
    _, row = printed.splitlines()
    assert row.startswith(key.split("_")[1])
    for told in ("active", "listed/kim", "never", "audio:write,live,task:read", name):
        assert told in row
    assert key[21:] not in printed
    assert "csg_" not in printed
    assert len(cosygate(server, "keys", "list").splitlines()) > 2


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (["keys", "create"], 2, "--sub"),
        (["keys", "create", "--sub", "a/b"], 2, "without /"),
        (["keys", "create", "--sub", "a", "--scope", "root"], 2, "no scope root"),
        (["keys", "create", "--sub", "a", "--ttl", "soon"], 2, "--ttl"),
        (["keys", "revoke", "0000000000000000"], 1, "no key"),
        (["revoke"], 2, "--sub or --jti"),
        (["revoke", "--sub", "a", "--jti", "b"], 2, "--sub or --jti"),
        (["revoke", "--jti", "e30.eyJleHAiOjF9."], 2, "no jti"),
    ],
)
def test_what_the_commands_refuse(server: Server, arguments: list[str], status: int, says: str) -> None:
    ended = CliRunner().invoke(app, arguments, env=server.env)
    assert (ended.exit_code, ended.stdout) == (status, "")
    assert says in ended.stderr
    assert ended.exception is None or isinstance(ended.exception, SystemExit)


# --- within five seconds, in every gateway ---------------------------------------------------------------------------


def within_promise(since: float) -> None:
    """Told at most: the machine that tests run on may be slow for itself."""
    assert time.monotonic() - since < REVOKED_S + 10


def test_a_revoked_key_ends_everywhere(server: Server, lines: ExitStack) -> None:
    key, other = new_key(server), new_key(server)
    open_ones = [live(lines, server, key) for _ in range(4)]
    stays = live(lines, server, other)
    assert all(get(server, key).status_code == 200 for _ in range(12))  # both gateways remember it
    cosygate(server, "keys", "revoke", key.split("_")[1])
    since = time.monotonic()
    wait_for(lambda: everywhere(server, key, "token_revoked"), "the key's end")
    within_promise(since)
    assert [closed(ws) for ws in open_ones] == [(4401, "token_revoked")] * 4
    within_promise(since)
    assert get(server, other).status_code == 200
    stays.send('{"type": "ping"}')
    while hear(stays)["type"] != "pong":
        pass
    assert "revoked" in next(r for r in cosygate(server, "keys", "list").splitlines() if key.split("_")[1] in r)


def test_a_revoked_token_ends_and_its_owners_others_do_not(server: Server, lines: ExitStack) -> None:
    one = cosygate(server, "token", "--sub", "tom").strip()
    two = cosygate(server, "token", "--sub", "tom").strip()
    ws = live(lines, server, one)
    assert get(server, one).status_code == get(server, two).status_code == 200
    cosygate(server, "revoke", "--jti", one)
    since = time.monotonic()
    assert closed(ws) == (4401, "token_revoked")
    within_promise(since)
    wait_for(lambda: everywhere(server, one, "token_revoked"), "the token's end")
    assert get(server, two).status_code == 200


def test_all_of_an_owners_ends_and_what_comes_after_is_good(server: Server, lines: ExitStack) -> None:
    token, key = server.token("zoe"), cosygate(server, "keys", "create", "--sub", "zoe").strip()
    with server.http("zoe") as http:
        task_id = http.put("/v1/audio/z/0", params={"is_last": "1"}, content=wav()).json()["task_id"]
        tickets = [http.post("/v1/live/tickets").json()["ticket"] for _ in range(2)]
        cookie = http.post(f"/v1/task/{task_id}/audio-cookie").headers["set-cookie"].split(";")[0]
        by_ticket, by_token = live(lines, server, None, tickets[0]), live(lines, server, token)
        ready = _ready(server, token)
        share = http.post(f"/v1/live/{ready['session']}/shares").json()["ticket"]
    captions = f"/v1/live/{ready['session']}/events"
    with _stream(server, captions, share) as shared, _stream(server, captions, token) as own:
        cosygate(server, "revoke", "--sub", "zoe")
        since = time.monotonic()
        fresh = cosygate(server, "token", "--sub", "zoe").strip()
        assert closed(by_ticket) == closed(by_token) == (4401, "token_revoked")
        for stream in (shared, own):
            for _ in stream.iter_raw():  # to its end
                pass
        within_promise(since)
    for credential in (token, key):
        wait_for(lambda it=credential: everywhere(server, it, "token_revoked"), "the end")  # type: ignore[misc]
    # What was got with them is worth nothing either.
    assert code_of(get(server, share, captions)) == (401, "token_revoked")
    sound = httpx2.get(f"{server.url}/v1/task/{task_id}/audio", headers={"Cookie": cookie})
    assert code_of(sound) == (401, "token_revoked")
    with pytest.raises((AssertionError, ConnectionClosed), match="token_revoked"):
        live(lines, server, None, tickets[1])
    assert get(server, fresh, f"/v1/task/{task_id}").status_code == 200
    assert get(server, server.token("zoe", tenant="other")).status_code == 200
    assert get(server, server.token("bob")).status_code == 200


def _ready(server: Server, token: str) -> dict[str, Any]:
    """A session whose connection has been closed again."""
    url, headers = server.url.replace("http", "ws") + "/v1/live", {"Authorization": f"Bearer {token}"}
    with connect(url, additional_headers=headers, proxy=None) as ws:
        ws.send(START)
        return hear(ws)


def _stream(server: Server, path: str, credential: str) -> Any:
    headers = {"Authorization": f"Bearer {credential}"}
    return httpx2.stream("GET", server.url + path, headers=headers, timeout=httpx2.Timeout(30))


def test_a_story_that_is_followed_ends_with_its_reader(server: Server) -> None:
    token = server.token("fay")
    headers = {"Authorization": f"Bearer {token}"}
    sent = httpx2.put(f"{server.url}/v1/audio/f/0", params={"is_last": "1"}, content=wav(3.5), headers=headers)
    url = f"/v1/task/{sent.json()['task_id']}"
    with _stream(server, f"{url}/events", token) as story:
        assert story.status_code == 200
        cosygate(server, "revoke", "--sub", "fay")
        since = time.monotonic()
        for _ in story.iter_raw():
            pass
        within_promise(since)
    assert get(server, server.token("fay"), url).json()["state"] in ("queued", "running")


def test_a_live_connection_ends_with_its_token_and_its_session_goes_on(server: Server, lines: ExitStack) -> None:
    def open_line(token: str, first: dict[str, Any]) -> tuple[ClientConnection, dict[str, Any]]:
        headers = {"Authorization": f"Bearer {token}"}
        url = server.url.replace("http", "ws") + "/v1/live"
        ws = lines.enter_context(connect(url, additional_headers=headers, proxy=None, ping_interval=None))
        ws.send(json.dumps(first))
        return ws, hear(ws)

    key = new_key(server, "--ttl", "1s")
    ws, ready = open_line(server.token("eve", ttl_s=1), json.loads(START))
    assert closed(ws) == (4401, "token_expired")  # seconds later: as far as clocks may differ
    resume = {"type": "resume", "session": ready["session"], "resume_token": ready["resume_token"], "last_final": None}
    _, again = open_line(server.token("eve"), resume)
    assert (again["type"], again["session"]) == ("ready", ready["session"])
    wait_for(lambda: get(server, key).status_code == 401, "the key's end")
    assert code_of(get(server, key)) == (401, "token_expired")


def test_a_new_gateway_knows_what_was_revoked_and_an_old_one_tells_what_was_used(server: Server) -> None:
    token = cosygate(server, "token", "--sub", "ray").strip()
    key = cosygate(server, "keys", "create", "--sub", "ivy", "--tenant", "used").strip()
    assert get(server, key).status_code == 200
    cosygate(server, "revoke", "--sub", "ray")
    wait_for(lambda: everywhere(server, token, "token_revoked"), "the token's end")
    old = server.find("cosygate.gateway")
    for gateway in old:
        gateway.terminate()
    wait_for(lambda: not any(gateway.is_running() for gateway in old), "their end")
    wait_for(lambda: _answers(server), "new gateways")
    assert everywhere(server, token, "token_revoked")
    assert "never" not in cosygate(server, "keys", "list", "--tenant", "used")


def _answers(server: Server) -> bool:
    try:
        return get(server, server.token()).status_code == 200
    except httpx2.HTTPError:
        return False
