"""JWT callers by a clock that the test moves."""

from __future__ import annotations

import pytest

from cosygate import errors
from cosygate.adapters.callers_jwt import LEEWAY_S, JwtCallers, check_secret, issue
from cosygate.model.principal import DEFAULT_SCOPES, Principal
from tests.support.clock import MovedClock

SECRET = "kX9-vQ2w8ZrT5yL1nB7mC4jH6gF3dS0a"


async def test_a_remembered_token_expires_too() -> None:
    clock = MovedClock()
    callers = JwtCallers(SECRET, clock)
    token = issue(SECRET, subject="alice", now=clock.now(), ttl_s=60)
    assert await callers.identify(token) == Principal("alice", "default", DEFAULT_SCOPES)
    clock.wall += 60 + LEEWAY_S - 1
    await callers.identify(token)
    clock.wall += 2
    for _ in range(2):
        with pytest.raises(errors.TokenExpired):
            await callers.identify(token)


async def test_remembering_is_bounded() -> None:
    clock = MovedClock()
    callers = JwtCallers(SECRET, clock, remembered=3)
    for n in range(10):
        await callers.identify(issue(SECRET, subject=f"s{n}", now=clock.now(), ttl_s=60))
    assert len(callers._known) == 3


async def test_tenant_and_scopes() -> None:
    clock = MovedClock()
    token = issue(SECRET, subject="a", now=clock.now(), ttl_s=60, tenant="acme", scopes=["live"])
    caller = await JwtCallers(SECRET, clock).identify(token)
    assert caller.owner == "acme/a"
    assert caller.scopes == {"live"}


@pytest.mark.parametrize("name", ["", "a/b", "a\n", "x" * 129])
def test_names_that_are_not_issued(name: str) -> None:
    with pytest.raises(ValueError, match="sub and tenant"):
        issue(SECRET, subject=name, now=0, ttl_s=1)


@pytest.mark.parametrize("secret", ["", "short", "changeme" * 8, "ab" * 20, "Your-256-bit-secret" * 3])
def test_secrets_that_everybody_knows(secret: str) -> None:
    with pytest.raises(ValueError, match="secret"):
        check_secret(secret)
