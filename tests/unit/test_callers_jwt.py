"""Tokens of the secret by a clock that the test moves: what they say, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

import jwt
import pytest

from cosygate import errors
from cosygate.adapters.callers_jwt import JwtCallers, check_secret, issue
from cosygate.model.principal import DEFAULT_SCOPES, LEEWAY_S, Principal
from tests.support.clock import MovedClock

SECRET = "kX9-vQ2w8ZrT5yL1nB7mC4jH6gF3dS0a"
NOW = MovedClock().now()
GOOD = {"sub": "alice", "exp": NOW + 60}


class Elsewhere:
    """Another adapter, which knows one token."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def identify(self, credential: str) -> Principal:
        self.asked.append(credential)
        return Principal("elsewhere")


def forged(header: dict[str, Any], claims: dict[str, Any], key: bytes = SECRET.encode()) -> str:
    def b64(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    body = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(claims).encode())}"
    return f"{body}.{b64(hmac.digest(key, body.encode(), hashlib.sha256))}"


async def test_what_a_token_says() -> None:
    clock = MovedClock()
    token = issue(SECRET, subject="a", now=clock.now(), ttl_s=60, tenant="acme", scopes=["live"], jti="7")
    caller = await JwtCallers(SECRET, clock).identify(token)
    assert caller == Principal("a", "acme", frozenset({"live"}), "jti:7", NOW, NOW + 60)
    assert caller.owner == "acme/a"


async def test_a_token_that_says_little() -> None:
    caller = await JwtCallers(SECRET, MovedClock()).identify(jwt.encode(GOOD, SECRET))
    assert caller == Principal("alice", "default", DEFAULT_SCOPES, "", 0.0, NOW + 60)


@pytest.mark.parametrize(
    ("claims", "detail"),
    [
        ({"exp": None}, "the token lacks exp"),
        ({"sub": None}, "the token lacks sub"),
        ({"exp": "soon"}, "The token is not valid"),
        ({"exp": 10**400}, "The token is not valid"),
        ({"exp": float("inf")}, "exp is not a time"),
        ({"iat": float("nan")}, "iat is not a time"),
        ({"iat": []}, "The token is not valid"),
        ({"nbf": NOW + LEEWAY_S + 1}, "the token is not valid yet"),
        ({"jti": 5}, "The token is not valid"),
        ({"scope": ["live"]}, "scope is a string of names separated by spaces"),
        ({"tenant": "a/b"}, "sub and tenant are 1-128 characters without / or control characters"),
        ({"sub": "a\0"}, "sub and tenant are 1-128 characters without / or control characters"),
    ],
)
async def test_what_a_token_must_not_say(claims: dict[str, Any], detail: str) -> None:
    told = {name: value for name, value in (GOOD | claims).items() if value is not None}
    with pytest.raises(errors.TokenInvalid) as refused:
        await JwtCallers(SECRET, MovedClock()).identify(forged({"alg": "HS256"}, told))
    assert refused.value.detail == detail


async def test_a_clock_a_little_off_is_no_reason() -> None:
    caller = await JwtCallers(SECRET, MovedClock()).identify(jwt.encode(GOOD | {"nbf": NOW + LEEWAY_S}, SECRET))
    assert caller.subject == "alice"


async def test_a_token_from_the_future_is_as_old_as_can_be() -> None:
    """Else it would outlive every revocation of its owner."""
    caller = await JwtCallers(SECRET, MovedClock()).identify(jwt.encode(GOOD | {"iat": NOW + 1000}, SECRET))
    assert caller.issued_at == 0.0


@pytest.mark.parametrize("jti", ["x" * 65, "a b", "ü", "a/b", "\ud800", "\0"])
async def test_an_odd_jti_is_told_by_its_hash(jti: str) -> None:
    caller = await JwtCallers(SECRET, MovedClock()).identify(forged({"alg": "HS256"}, GOOD | {"jti": jti}))
    assert caller.credential.startswith("jti:sha256:")
    assert len(caller.credential) < 80


@pytest.mark.parametrize("audience", ["", "gate"])
@pytest.mark.parametrize("issuer", ["", "us"])
async def test_audience_and_issuer_count_where_they_are_configured(audience: str, issuer: str) -> None:
    callers = JwtCallers(SECRET, MovedClock(), audience=audience, issuer=issuer)
    for aud, iss in (("gate", "us"), ("other", "us"), ("gate", "them"), (None, None), (["a", "gate"], "us")):
        claims = GOOD | {k: v for k, v in (("aud", aud), ("iss", iss)) if v is not None}
        right = (not audience or aud in ("gate", ["a", "gate"])) and (not issuer or iss == "us")
        token = forged({"alg": "HS256"}, claims)
        if right:
            assert (await callers.identify(token)).subject == "alice"
            continue
        with pytest.raises(errors.TokenInvalid):
            await callers.identify(token)


@pytest.mark.parametrize("algorithm", ["RS256", "ES256", "EdDSA", "none", "HS512", "PS256", "hs256", ""])
async def test_tokens_of_other_algorithms_are_somebody_elses(algorithm: str) -> None:
    """Signed with the secret or not: this key is for HS256."""
    token = forged({"alg": algorithm}, GOOD)
    elsewhere = Elsewhere()
    caller = await JwtCallers(SECRET, MovedClock(), otherwise=elsewhere).identify(token)
    assert (caller.subject, elsewhere.asked) == ("elsewhere", [token])
    with pytest.raises(errors.TokenInvalid):
        await JwtCallers(SECRET, MovedClock()).identify(token)


async def test_our_own_tokens_are_nobody_elses() -> None:
    elsewhere = Elsewhere()
    callers = JwtCallers(SECRET, MovedClock(), otherwise=elsewhere)
    assert (await callers.identify(forged({"alg": "HS256", "kid": "x"}, GOOD))).subject == "alice"
    with pytest.raises(errors.TokenInvalid):
        await callers.identify(forged({"alg": "HS256"}, GOOD, b"another key" * 4))
    assert elsewhere.asked == []


NO_TOKENS = [
    "",
    ".",
    "..",
    "...",
    "a.b.c",
    "é.é.é",
    "eyJ9.e30.",
    "e30.e30.",
    "W10.W10.W10",
    "bnVsbA.e30.e30",
    "\0.\0.\0",
]


@pytest.mark.parametrize("token", [*NO_TOKENS, "a" * 1_000_000, "e30." * 300_000, "[" * 3000 + ".x.y"])
@pytest.mark.parametrize("otherwise", [None, Elsewhere()])
async def test_what_is_no_token(token: str, otherwise: Elsewhere | None) -> None:
    with pytest.raises(errors.TokenInvalid):
        await JwtCallers(SECRET, MovedClock(), otherwise=otherwise).identify(token)


@pytest.mark.parametrize("header", [{"alg": ["HS256"]}, {"alg": None}, {"alg": {}}, {}, {"alg": "HS256", "kid": 5}])
@pytest.mark.parametrize("otherwise", [None, Elsewhere()])
async def test_headers_that_are_none(header: dict[str, Any], otherwise: Elsewhere | None) -> None:
    with pytest.raises(errors.TokenInvalid):
        await JwtCallers(SECRET, MovedClock(), otherwise=otherwise).identify(forged(header, GOOD))


@pytest.mark.parametrize("name", ["", "a/b", "a\n", "x" * 129])
def test_names_that_are_not_issued(name: str) -> None:
    with pytest.raises(ValueError, match="sub and tenant"):
        issue(SECRET, subject=name, now=0, ttl_s=1)


@pytest.mark.parametrize("secret", ["", "short", "changeme" * 8, "ab" * 20, "Your-256-bit-secret" * 3])
def test_secrets_that_everybody_knows(secret: str) -> None:
    with pytest.raises(ValueError, match="secret"):
        check_secret(secret)
