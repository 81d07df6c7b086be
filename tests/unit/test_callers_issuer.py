"""Tokens of an identity provider: a key set over real HTTP that rotates, hangs, fails and lies; the clock is moved."""

from __future__ import annotations

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest

from cosygate import errors
from cosygate.adapters.callers_jwt import JwtCallers
from cosygate.adapters.callers_jwt.issued import IssuedCallers
from cosygate.adapters.callers_jwt.issuer import FAILED_S, STALE_S, UNKNOWN_S, Issuer
from cosygate.adapters.callers_jwt.key_set import MAX_KEYS, MAX_SAME, parse
from cosygate.model.principal import LEEWAY_S
from cosygate.ports.callers import Callers
from tests.support.clock import MovedClock
from tests.support.issuer import Issuer as Provider
from tests.support.issuer import Key, b64
from tests.unit.test_callers_jwt import SECRET, forged

REFRESH_S = 300.0
RSA, EC, ED = Key("RS256", "rsa-1"), Key("ES256", "ec-1"), Key("EdDSA", "ed-1")  # made once: RSA takes its time
OTHER_RSA, SHORT_RSA = Key("RS256", "rsa-2"), Key("RS256", "short", bits=1024)
ALL = {key.algorithm: key for key in (RSA, EC, ED)}


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider(RSA, EC, ED) as running:
        yield running


class Watched:
    """The callers of one process, and how often they were told to forget."""

    def __init__(self, url: str, clock: MovedClock, **options: Any) -> None:
        self.dropped = 0
        self.clock = clock
        self.issuer = Issuer(url, clock, refresh_s=REFRESH_S, dropped=self._drop, **options)
        self.callers: Callers = JwtCallers(SECRET, clock, otherwise=IssuedCallers(self.issuer, clock))

    def _drop(self) -> None:
        self.dropped += 1

    async def good(self, token: str) -> bool:
        try:
            await self.callers.identify(token)
        except errors.TokenInvalid:
            return False
        return True


@asynccontextmanager
async def watched(provider: Provider, *, runs: bool = False, **options: Any) -> AsyncIterator[Watched]:
    one = Watched(provider.url, MovedClock(time.time()), **options)
    running = asyncio.create_task(one.issuer.run()) if runs else None
    try:
        yield one
    finally:
        if running is not None:
            running.cancel()
        await one.issuer.close()


async def until(look: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not look():
            await asyncio.sleep(0.005)


# --- which tokens ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", list(ALL))
async def test_a_token_of_each_kind(provider: Provider, algorithm: str) -> None:
    async with watched(provider) as one:
        token = ALL[algorithm].token("ann", tenant="acme", scope="live", jti="7", iat=1_000)
        caller = await one.callers.identify(token)
        assert (caller.owner, caller.scopes, caller.credential) == ("acme/ann", {"live"}, "jti:7")
        assert caller.issued_at == 1_000 - LEEWAY_S  # its clock may be ahead of ours
        assert caller.expires_at > one.clock.now()
        head, body, signature = token.split(".")
        for bent in (f"{head}.{body}.{signature[:-8]}AAAAAAAA", f"{head}.{body}.", f"{head}.{b64(b'{}')}.{signature}"):
            assert not await one.good(bent)
    assert provider.asked == 1


async def test_the_secrets_tokens_need_no_issuer(provider: Provider) -> None:
    async with watched(provider) as one:
        assert await one.good(forged({"alg": "HS256", "kid": RSA.kid}, {"sub": "a", "exp": time.time() + 60}))
    assert provider.asked == 0


@pytest.mark.parametrize("algorithm", list(ALL))
async def test_a_public_key_is_no_secret(provider: Provider, algorithm: str) -> None:
    """HS/RS confusion: what everybody can read signs an HS256 token."""
    key, claims = ALL[algorithm], {"sub": "alice", "exp": time.time() + 60}
    public = key.jwk()
    secrets = [key.pem(), key.pem().strip(), json.dumps(public).encode(), public.get("n", public.get("x")).encode()]
    async with watched(provider) as one:
        for secret in secrets:
            for alg in ("HS256", "HS512", algorithm):
                assert not await one.good(forged({"alg": alg, "kid": key.kid}, claims, secret))


async def test_a_key_is_for_its_own_algorithm(provider: Provider) -> None:
    claims = {"sub": "alice", "exp": int(time.time()) + 60}
    async with watched(provider) as one:
        for kid in ("ec-1", "ed-1", "rsa-2"):
            assert not await one.good(RSA.token(header={"kid": kid}))
        for algorithm in ("RS512", "PS256"):
            assert not await one.good(jwt.encode(claims, RSA.private, algorithm, headers={"kid": "rsa-1"}))
        assert not await one.good(f"{b64(json.dumps({'alg': 'none', 'kid': 'rsa-1'}).encode())}.{b64(b'{}')}.")
        assert not await one.good(OTHER_RSA.token(header={"kid": "rsa-1"}))
        assert await one.good(RSA.token())


async def test_an_algorithm_that_no_key_has_is_refused_at_once(provider: Provider) -> None:
    """Also while the issuer is away, and without asking it."""
    provider.status = 500
    async with watched(provider) as one:
        for algorithm in ("none", "HS512", "PS256", "RS512", "ES384", "ES256K", "rs256", "RS256 "):
            assert not await one.good(forged({"alg": algorithm, "kid": "rsa-1"}, {"sub": "a", "exp": time.time() + 60}))
    assert provider.asked == 0


async def test_keys_in_a_token_are_nobodys(provider: Provider) -> None:
    """`jwk`, `jku`, `x5u`: a token never brings its key, and nothing is fetched for it."""
    elsewhere = provider.url.replace("/jwks", "/mine")
    async with watched(provider) as one:
        for header in ({"jwk": OTHER_RSA.jwk()}, {"jku": elsewhere}, {"x5u": elsewhere}, {"crit": ["exp"], "exp": 1}):
            assert not await one.good(OTHER_RSA.token(header={**header, "kid": "rsa-1"}))
    assert provider.other_paths == []


KIDS = ["../../../dev/null", "http://127.0.0.1:1/jwks", "a\0b", "\r\nx: y", "' OR 1=1 --", "k" * 1200, "", "ключ"]


@pytest.mark.parametrize("kid", KIDS)
async def test_a_hostile_kid_is_looked_up_and_no_more(provider: Provider, kid: str) -> None:
    async with watched(provider) as one:
        assert not await one.good(RSA.token(header={"kid": kid}))
        assert await one.good(RSA.token())
    assert provider.other_paths == []
    assert provider.asked == 1


async def test_a_kid_of_a_megabyte_and_one_that_is_no_text(provider: Provider) -> None:
    async with watched(provider) as one:
        assert not await one.good(RSA.token(header={"kid": "k" * 1_000_000}))
        for kid in (5, None, ["rsa-1"], {}):
            head = {"alg": "RS256", "kid": kid}
            assert not await one.good(forged(head, {"sub": "a", "exp": time.time() + 60}))


async def test_a_token_that_names_no_key(provider: Provider) -> None:
    """Good where there is one key that it can mean."""
    nameless = Key("ES256")
    async with watched(provider) as one:
        provider.keys = [nameless, RSA]
        assert await one.good(nameless.token())
        provider.keys = [nameless, EC]
        await one.issuer._fetch()
        assert not await one.good(nameless.token())


async def test_two_keys_of_one_kid(provider: Provider) -> None:
    twin = Key("RS256", "rsa-1")
    provider.keys = [RSA, twin]
    async with watched(provider) as one:
        assert await one.good(RSA.token())
        assert await one.good(twin.token())
        assert not await one.good(OTHER_RSA.token(header={"kid": "rsa-1"}))


@pytest.mark.parametrize("claims", [{"aud": "other"}, {"iss": "them"}, {"aud": None}, {"iss": None}])
async def test_audience_and_issuer(provider: Provider, claims: dict[str, Any]) -> None:
    async with watched(provider) as one:
        callers = IssuedCallers(one.issuer, one.clock, audience="gate", issuer="us")
        good = {"aud": "gate", "iss": "us"}
        assert (await callers.identify(EC.token(**good))).subject == "alice"
        with pytest.raises(errors.TokenInvalid):
            await callers.identify(EC.token(**(good | claims)))


@pytest.mark.parametrize(
    "claims", [{"exp": None}, {"sub": None}, {"nbf": time.time() + 3600}, {"sub": "a/b"}, {"exp": "soon"}]
)
async def test_claims(provider: Provider, claims: dict[str, Any]) -> None:
    async with watched(provider) as one:
        assert not await one.good(ED.token(**claims))


# --- which keys ------------------------------------------------------------------------------------------------------


def document(*jwks: Any) -> bytes:
    return json.dumps({"keys": list(jwks)}).encode()


private = json.loads(jwt.algorithms.ECAlgorithm.to_jwk(EC.private))
P384 = {"kty": "EC", "crv": "P-384", "x": b64(b"1" * 48), "y": b64(b"1" * 48), "kid": "p384"}
NOT_FOR_US = {
    "encryption": RSA.jwk(use="enc"),
    "another algorithm": RSA.jwk(alg="RS512"),
    "an algorithm of another kind": EC.jwk(alg="RS256"),
    "another curve": P384,
    "X25519": ED.jwk(crv="X25519"),
    "a secret": {"kty": "oct", "k": b64(b"x" * 32), "kid": "oct", "alg": "HS256"},
    "signing alone": RSA.jwk(key_ops=["sign"]),
    "odd key_ops": RSA.jwk(key_ops="verify"),
    "too short": SHORT_RSA.jwk(),
    "a point that is not on the curve": EC.jwk(x=b64(b"1" * 32)),
    "no point": EC.jwk(x=None),
    "a number for text": RSA.jwk(n=5),
    "not base64": RSA.jwk(n="!!"),
    "an even exponent": RSA.jwk(e=b64(b"\4")),
    "an endless exponent": RSA.jwk(e=b64(b"\1" * 32)),
    "a huge modulus": RSA.jwk(n=b64(b"\xff" * 4096)),
    "a kid that is no text": RSA.jwk(kid=5),
    "an empty kid": RSA.jwk(kid=""),
    "a private key": private | {"kid": "private"},
    "no kind": RSA.jwk(kty=None),
    "an odd kind": RSA.jwk(kty=["RSA"]),
    "no object": "key",
    "nothing": None,
}


@pytest.mark.parametrize("what", list(NOT_FOR_US))
def test_keys_that_are_not_for_us_are_left_out(what: str) -> None:
    found = parse(document(NOT_FOR_US[what], ED.jwk()))
    assert found.ignored == 1
    assert list(found.keys) == [("ed-1", "EdDSA")]


def test_keys_that_say_little_or_more_are_used() -> None:
    plain = [key.jwk(alg=None, use=None) for key in (RSA, EC, ED)]
    assert len(parse(document(*plain)).keys) == 3
    assert len(parse(document(ED.jwk(alg="Ed25519"), RSA.jwk(key_ops=["verify"], x5c=["…"]))).keys) == 2


def test_a_key_set_is_bounded() -> None:
    many = [ED.jwk(kid=f"k{n}") for n in range(MAX_KEYS + 5)]
    found = parse(document(*many))
    assert (len(found.keys), found.ignored) == (MAX_KEYS, 5)
    same = [Key("EdDSA", "same").jwk() for _ in range(MAX_SAME + 3)]
    found = parse(document(*same))
    assert (len(found.find("same", "EdDSA")), found.ignored) == (MAX_SAME, 3)


# --- where from ------------------------------------------------------------------------------------------------------


async def test_a_new_key_is_fetched_when_its_first_token_comes(provider: Provider) -> None:
    async with watched(provider) as one:
        assert await one.good(RSA.token())
        provider.keys = [RSA, EC, ED, OTHER_RSA]
        assert not await one.good(OTHER_RSA.token())  # the last fetch is too fresh
        await one.clock.advance(UNKNOWN_S)
        assert await one.good(OTHER_RSA.token())
        assert provider.asked == 2
        assert one.dropped == 0


async def test_a_flood_of_unknown_kids_costs_one_fetch(provider: Provider) -> None:
    async with watched(provider) as one:
        assert await one.good(RSA.token())
        await one.clock.advance(UNKNOWN_S)
        flood = (one.good(EC.token(header={"kid": f"k{n}"})) for n in range(200))
        assert not any(await asyncio.gather(*flood))
        assert provider.asked == 2


async def test_who_comes_first_all_at_once_cost_one_fetch(provider: Provider) -> None:
    async with watched(provider) as one:
        assert all(await asyncio.gather(*(one.good(EC.token(f"s{n}")) for n in range(50))))
        assert provider.asked == 1


async def test_who_gives_up_waiting_takes_the_fetch_from_nobody(provider: Provider) -> None:
    provider.slow_s = 0.001
    async with watched(provider) as one:
        first = asyncio.create_task(one.good(EC.token()))
        second = asyncio.create_task(one.good(ED.token()))
        await asyncio.sleep(0.02)
        first.cancel()
        assert await second
        assert provider.asked == 1


async def test_a_removed_key_holds_until_the_next_refresh(provider: Provider) -> None:
    async with watched(provider, runs=True) as one:
        await until(lambda: provider.asked == 1)
        assert await one.good(RSA.token())
        provider.keys = [EC]
        assert await one.good(RSA.token())
        await one.clock.advance(REFRESH_S)
        await until(lambda: one.dropped == 1)
        assert not await one.good(RSA.token())
        assert await one.good(EC.token())


async def test_a_key_that_was_exchanged_under_its_kid_is_gone(provider: Provider) -> None:
    async with watched(provider) as one:
        assert await one.good(RSA.token())
        provider.keys = [Key("RS256", "rsa-1"), EC, ED]
        await one.issuer._fetch()
        assert one.dropped == 1
        assert not await one.good(RSA.token())


async def test_keys_hold_while_the_issuer_is_away_but_not_for_ever(provider: Provider) -> None:
    async with watched(provider) as one:
        token = RSA.token(exp=int(time.time()) + 10 * 86_400)
        assert await one.good(token)
        provider.status = 500
        await one.clock.advance(REFRESH_S + STALE_S)
        await one.issuer._fetch()
        assert await one.good(token)
        await one.clock.advance(1)
        with pytest.raises(errors.KeysUnavailable):
            await one.callers.identify(token)
        assert one.dropped == 1
        provider.status = 200
        await one.clock.advance(FAILED_S)
        assert await one.good(token)


async def test_no_keys_at_all_say_try_again_and_do_not_ask_too_often(provider: Provider) -> None:
    provider.status = 503
    async with watched(provider) as one:
        for _ in range(20):
            with pytest.raises(errors.KeysUnavailable):
                await one.callers.identify(RSA.token())
        assert provider.asked == 1
        assert await one.good(forged({"alg": "HS256"}, {"sub": "a", "exp": time.time() + 60}))
        provider.status = 200
        await one.clock.advance(FAILED_S)
        assert await one.good(RSA.token())


async def test_the_background_tries_again_soon_after_a_failure(provider: Provider) -> None:
    provider.status = 500
    async with watched(provider, runs=True) as one:
        await until(lambda: one.issuer._failing)
        provider.status = 200
        await asyncio.sleep(0.05)  # it goes to sleep
        await one.clock.advance(FAILED_S)
        await until(lambda: provider.asked == 2)
        assert await one.good(RSA.token())


async def test_a_key_set_without_keys_is_one(provider: Provider) -> None:
    """The issuer has withdrawn them all."""
    async with watched(provider) as one:
        assert await one.good(RSA.token())
        provider.keys = []
        await one.issuer._fetch()
        assert not await one.good(RSA.token())


BAD_ANSWERS: dict[str, dict[str, Any]] = {
    "a redirect": {"status": 302, "headers": {"location": "/elsewhere"}},
    "another status": {"status": 204},
    "no JSON": {"document": b"<html>"},
    "no object": {"document": b"[]"},
    "no list": {"document": b'{"keys": {}}'},
    "no keys": {"document": b"{}"},
    "deep": {"document": b"[" * 100_000},
    "too long": {"document": b'{"keys": [], "x": "' + b"x" * 300_000 + b'"}'},
    "compressed": {"headers": {"content-encoding": "gzip"}, "document": gzip.compress(b'{"keys": []}')},
    "not UTF-8": {"document": b'{"keys": [], "x": "\xff"}'},
}


@pytest.mark.parametrize("what", list(BAD_ANSWERS))
async def test_a_bad_answer_changes_nothing(provider: Provider, what: str) -> None:
    async with watched(provider) as one:
        assert await one.good(RSA.token())
        for name, value in BAD_ANSWERS[what].items():
            setattr(provider, name, value)
        await one.issuer._fetch()
        assert provider.asked == 2
        assert provider.other_paths == []
        assert await one.good(RSA.token())
        assert one.dropped == 0


@pytest.mark.parametrize("how", ["hangs", "trickles"])
async def test_an_issuer_that_does_not_come_to_an_end(provider: Provider, how: str) -> None:
    async with watched(provider, fetch_s=0.2) as one:
        if how == "hangs":
            provider.hang.set()
        else:
            provider.slow_s = 0.05
        with pytest.raises(errors.KeysUnavailable):
            await one.callers.identify(RSA.token())
        assert provider.asked == 1


async def test_an_issuer_that_is_not_there() -> None:
    with Provider(RSA) as gone:
        url = gone.url
    one = Watched(url, MovedClock(time.time()))
    with pytest.raises(errors.KeysUnavailable):
        await one.callers.identify(RSA.token())
    await one.issuer.close()
