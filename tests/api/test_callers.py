"""reliability.md, "Bad inputs", Auth: who is calling, and what is someone else's."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import jwt
import pytest

from tests.api.conftest import code_of, wav
from tests.support.faults import wait_for
from tests.support.issuer import Issuer as Provider
from tests.support.issuer import Key
from tests.support.server import Server, wait_task

Send = Callable[..., httpx2.Response]
NOW = time.time()


def _get(server: Server, authorization: str | None, path: str = "/v1/tasks") -> httpx2.Response:
    headers = {} if authorization is None else {"Authorization": authorization}
    return httpx2.get(server.url + path, headers=headers, timeout=30)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _forged(header: dict[str, Any], claims: dict[str, Any], key: bytes = b"") -> str:
    body = f"{_b64(json.dumps(header).encode())}.{_b64(json.dumps(claims).encode())}"
    return f"{body}.{_b64(hmac.digest(key, body.encode(), hashlib.sha256)) if key else ''}"


GOOD = {"sub": "alice", "exp": int(NOW) + 3600}


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Basic YTpi", "Token x", "Token", "bearer", "x"])
def test_no_token(server: Server, authorization: str | None) -> None:
    answer = _get(server, authorization)
    assert code_of(answer) == (401, "token_missing")
    assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize(
    ("header", "claims", "signed"),
    [
        ({"alg": "none"}, GOOD, False),
        ({"alg": "None"}, GOOD, False),
        ({"alg": "HS256"}, GOOD, False),
        ({"alg": "RS256"}, GOOD, True),  # HS/RS confusion: our own secret, another algorithm's name
        ({"alg": "HS512"}, GOOD, True),
        ({"alg": "HS256"}, {"sub": "alice"}, True),
        ({"alg": "HS256"}, {"exp": GOOD["exp"]}, True),
        ({"alg": "HS256"}, {**GOOD, "exp": "soon"}, True),
        ({"alg": "HS256"}, {**GOOD, "exp": 1e400}, True),
        ({"alg": "HS256"}, {**GOOD, "nbf": int(NOW) + 3600}, True),
        ({"alg": "HS256"}, {**GOOD, "nbf": "x"}, True),
        ({"alg": "HS256"}, {**GOOD, "sub": 7}, True),
        ({"alg": "HS256"}, {**GOOD, "sub": ""}, True),
        ({"alg": "HS256"}, {**GOOD, "sub": "a/b"}, True),
        ({"alg": "HS256"}, {**GOOD, "sub": "a\nb"}, True),
        ({"alg": "HS256"}, {**GOOD, "tenant": "other/alice"}, True),
        ({"alg": "HS256"}, {**GOOD, "tenant": None}, True),
        ({"alg": "HS256"}, {**GOOD, "scope": ["task:read"]}, True),
        ({"alg": "HS256", "kid": 5}, GOOD, True),
    ],
)  # fmt: skip
def test_bad_tokens(server: Server, header: dict[str, Any], claims: dict[str, Any], signed: bool) -> None:
    token = _forged(header, claims, server.secret.encode() if signed else b"")
    assert code_of(_get(server, f"Bearer {token}")) == (401, "token_invalid")


@pytest.mark.parametrize("kid", ["../../../dev/null", "' OR 1=1 --", "http://127.0.0.1:1/jwks"])
def test_a_hostile_kid_changes_nothing(server: Server, kid: str) -> None:
    wrong = _forged({"alg": "HS256", "kid": kid}, GOOD, b"x" * 32)
    assert code_of(_get(server, f"Bearer {wrong}")) == (401, "token_invalid")
    right = _forged({"alg": "HS256", "kid": kid}, GOOD, server.secret.encode())
    assert _get(server, f"Bearer {right}").status_code == 200


def test_expired(server: Server) -> None:
    token = jwt.encode({"sub": "alice", "exp": int(time.time()) - 60}, server.secret, "HS256")
    assert code_of(_get(server, f"Bearer {token}")) == (401, "token_expired")


def test_a_long_token(server: Server) -> None:
    assert code_of(_get(server, "Bearer " + "a" * 60_000)) == (401, "token_invalid")


def test_two_tokens_are_none(server: Server) -> None:
    """A proxy may have looked at the other one."""
    good = ("Authorization", f"Bearer {server.token()}")
    for other in (good, ("authorization", "Bearer x"), ("AUTHORIZATION", ""), ("Authorization", "Basic YTpi")):
        for pair in ([good, other], [other, good]):
            answer = httpx2.get(f"{server.url}/v1/tasks", headers=pair, timeout=30)
            assert code_of(answer) == (401, "token_invalid")
    assert httpx2.get(f"{server.url}/v1/tasks", headers=[good], timeout=30).status_code == 200


def test_a_megabyte_of_token(server: Server) -> None:
    try:
        answer = _get(server, "Bearer " + "a.b.c" * 200_000)
    except httpx2.HTTPError:
        pass  # the server may close before it has read it all
    else:
        assert answer.status_code in (400, 401, 431)
    assert _get(server, f"Bearer {server.token()}").status_code == 200


def test_scopes(server: Server, send: Send, session_id: str) -> None:
    with server.http(scopes=["task:read"]) as reader, server.http(scopes=["audio:write"]) as writer:
        assert code_of(reader.put(f"/v1/audio/{session_id}/0", content=b"x")) == (403, "scope_missing")
        assert code_of(writer.get("/v1/tasks")) == (403, "scope_missing")
        assert writer.put(f"/v1/audio/{session_id}/0", content=b"x").status_code == 200
        assert reader.get("/v1/tasks").status_code == 200
        assert code_of(reader.delete("/v1/task/" + "0" * 32)) == (403, "scope_missing")


def test_what_is_someone_elses_does_not_exist(
    server: Server, send: Send, alice: httpx2.Client, bob: httpx2.Client, session_id: str
) -> None:
    task_id = send(session_id, 0, wav(), is_last="1").json()["task_id"]
    wait_task(alice, task_id)
    nobodys = "0" * 32
    with server.http("alice", tenant="other") as namesake:
        for stranger in (bob, namesake):
            for path in ("", "/events", "/transcript", "/audio"):
                theirs = stranger.get(f"/v1/task/{task_id}{path}")
                none = stranger.get(f"/v1/task/{nobodys}{path}")
                assert code_of(theirs) == code_of(none) == (404, "task_not_found")
                assert theirs.json()["detail"] == none.json()["detail"]
            assert code_of(stranger.delete(f"/v1/task/{task_id}")) == (404, "task_not_found")
            assert code_of(stranger.post(f"/v1/task/{task_id}/audio-cookie")) == (404, "task_not_found")
            assert code_of(stranger.get(f"/v1/audio/{session_id}")) == (404, "upload_not_found")
            assert code_of(stranger.delete(f"/v1/audio/{session_id}")) == (404, "upload_not_found")
            assert stranger.get("/v1/tasks").json()["tasks"] == []
            # Their own upload may have the same name.
            assert stranger.put(f"/v1/audio/{session_id}/0", content=b"x").status_code == 200
    assert alice.get(f"/v1/task/{task_id}").status_code == 200


def test_the_audio_cookie_is_for_one_task_and_no_token(
    server: Server, send: Send, alice: httpx2.Client, session_id: str
) -> None:
    first = send(f"{session_id}-1", 0, wav(), is_last="1").json()["task_id"]
    second = send(f"{session_id}-2", 0, wav(), is_last="1").json()["task_id"]
    given = alice.post(f"/v1/task/{first}/audio-cookie")
    assert given.status_code == 204
    cookie = given.headers["set-cookie"]
    assert {"HttpOnly", "SameSite=strict", f"Path=/v1/task/{first}/audio"} <= {p.strip() for p in cookie.split(";")}
    ticket = cookie.split(";")[0].partition("=")[2]
    jar = {"Cookie": f"cosygate_audio={ticket}"}
    assert httpx2.get(f"{server.url}/v1/task/{first}/audio", headers=jar).status_code == 200
    assert code_of(httpx2.get(f"{server.url}/v1/task/{second}/audio", headers=jar)) == (401, "token_invalid")
    assert code_of(httpx2.get(f"{server.url}/v1/task/{first}", headers=jar)) == (401, "token_missing")
    assert code_of(_get(server, f"Bearer {ticket}")) == (401, "token_invalid")
    broken = {"Cookie": f"cosygate_audio={ticket[:-4]}AAAA"}
    assert code_of(httpx2.get(f"{server.url}/v1/task/{first}/audio", headers=broken)) == (401, "token_invalid")


# --- an identity provider --------------------------------------------------------------------------------------------

OURS = {"aud": "gate", "iss": "us"}
KEYS = {algorithm: Key(algorithm, f"{algorithm}-1") for algorithm in ("RS256", "ES256", "EdDSA")}


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider(*KEYS.values()) as running:
        yield running


@pytest.fixture(scope="module")
def configured(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Server]:
    options = {"jwt_audience": "gate", "jwt_issuer": "us", "jwt_jwks_url": provider.url, "jwt_jwks_refresh_s": 1}
    with Server(tmp_path_factory.mktemp("aud"), recogniser="scripted", **options) as running:
        yield running
        log = running.log()
    assert "Traceback" not in log and "crashed" not in log


@pytest.mark.parametrize("claims", [{"aud": "other", "iss": "us"}, {"aud": "gate"}, {"iss": "us"}, {}])
def test_audience_and_issuer(configured: Server, claims: dict[str, str]) -> None:
    token = jwt.encode({**GOOD, **claims}, configured.secret, "HS256")
    assert code_of(_get(configured, f"Bearer {token}")) == (401, "token_invalid")
    right = jwt.encode({**GOOD, **OURS}, configured.secret, "HS256")
    assert _get(configured, f"Bearer {right}").status_code == 200


@pytest.mark.parametrize("algorithm", list(KEYS))
def test_tokens_of_a_provider(configured: Server, algorithm: str) -> None:
    key = KEYS[algorithm]
    assert _get(configured, f"Bearer {key.token(**OURS)}").status_code == 200
    for wrong in ({"aud": "other"}, {"iss": "them"}, {"exp": None}, {"nbf": int(NOW) + 3600}, {"sub": "a/b"}):
        assert code_of(_get(configured, f"Bearer {key.token(**(OURS | wrong))}")) == (401, "token_invalid")
    late = key.token(**OURS, exp=int(NOW) - 60)
    assert code_of(_get(configured, f"Bearer {late}")) == (401, "token_expired")
    confused = _forged({"alg": "HS256", "kid": key.kid}, GOOD | OURS, key.pem())
    assert code_of(_get(configured, f"Bearer {confused}")) == (401, "token_invalid")
    strangers = Key(algorithm, key.kid).token(**OURS)
    assert code_of(_get(configured, f"Bearer {strangers}")) == (401, "token_invalid")


def test_a_key_that_is_withdrawn_while_its_token_is_in_use(configured: Server, provider: Provider) -> None:
    token = KEYS["RS256"].token(**OURS)
    assert _get(configured, f"Bearer {token}").status_code == 200
    provider.status = 500  # away: what is known holds
    asked = provider.asked
    wait_for(lambda: provider.asked > asked + 1, "two looks")
    assert _get(configured, f"Bearer {token}").status_code == 200
    provider.keys.remove(KEYS["RS256"])
    provider.status = 200
    wait_for(lambda: _get(configured, f"Bearer {token}").status_code == 401, "the key's end")
    assert code_of(_get(configured, f"Bearer {token}")) == (401, "token_invalid")
    assert _get(configured, f"Bearer {KEYS['ES256'].token(**OURS)}").status_code == 200
    provider.keys.append(KEYS["RS256"])
    wait_for(lambda: _get(configured, f"Bearer {token}").status_code == 200, "the key again")


def test_a_provider_that_never_answered(data_dir: Any) -> None:
    """Its tokens have to wait; ours do not, and nothing else does."""
    with Provider() as provider:
        provider.status = 500
        with Server(data_dir, recogniser="scripted", jwt_jwks_url=provider.url) as server:
            answer = _get(server, f"Bearer {KEYS['EdDSA'].token()}")
            assert code_of(answer) == (503, "keys_unavailable")
            assert int(answer.headers["retry-after"]) > 0
            assert _get(server, f"Bearer {server.token()}").status_code == 200
            provider.keys, provider.status = [KEYS["EdDSA"]], 200
            wait_for(lambda: _get(server, f"Bearer {KEYS['EdDSA'].token()}").status_code == 200, "its keys")


@pytest.mark.parametrize(
    "secret",
    [
        "sh0rt-one",
        "change-me",
        "changemechangemechangemechangeme",
        "a" * 40,
        "your-256-bit-secret" * 2,
        "cosyvoice" * 5,
    ],
)
def test_a_default_or_short_secret_refuses_to_start(data_dir: Any, secret: str) -> None:
    server = Server(data_dir, recogniser="scripted", jwt_secret=secret)
    ended = subprocess.run(
        [sys.executable, "-m", "cosygate", "serve", "--port", "0"],
        env=server.env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode != 0
    assert "secret" in ended.stderr
    assert secret not in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "ready" not in ended.stdout
