"""Whom a request is counted under when nobody has signed in, and when who is refused should come back."""

from __future__ import annotations

import math

import pytest

from cosygate import errors
from cosygate.api.addresses import Proxies
from cosygate.api.limit_fields import retry_after
from cosygate.api.problems import problem
from cosygate.kit.clock import SystemRandomness
from cosygate.kit.networks import parse_networks

# --- who sent it -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "forwarded", "key"),
    [
        ("192.0.2.9", [], "192.0.2.9"),
        ("192.0.2.9", ["198.51.100.1"], "192.0.2.9"),  # no proxy of ours
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6", "198.51.100.1 , 10.9.9.9"], "198.51.100.1"),  # two lines, two proxies
        ("10.0.0.1", ["6.6.6.6, 198.51.100.1:4711"], "198.51.100.1"),
        ("10.0.0.1", ["6.6.6.6, nonsense"], "10.0.0.1"),
        ("10.0.0.1", ["6.6.6.6,"], "10.0.0.1"),
        ("10.0.0.1", ["10.1.1.1, 10.2.2.2"], "10.1.1.1"),  # all are ours
        ("10.0.0.1", ["[2001:db8:1:2:3:4:5:6]:80"], "2001:db8:1:2::/64"),
        ("10.0.0.1", ["2001:db8:1:2::9"], "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", [], "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.9", [], "192.0.2.9"),
        ("::ffff:10.0.0.1", ["198.51.100.1"], "198.51.100.1"),
        (None, ["198.51.100.1"], "unknown"),  # a Unix socket
        ("", [], "unknown"),
    ],
)
def test_only_a_trusted_proxy_is_believed_and_only_its_last_word(
    peer: str | None, forwarded: list[str], key: str
) -> None:
    proxies = Proxies(parse_networks("10.0.0.0/8"))
    headers = [(b"host", b"x"), *((b"x-forwarded-for", line.encode()) for line in forwarded)]
    assert proxies.key({"client": (peer, 1) if peer is not None else None, "headers": headers}) == key


# --- when to come back -------------------------------------------------------------------------------------------


def test_retry_after_is_never_early_and_spread_by_the_trace_id() -> None:
    dice = SystemRandomness()
    for wait_s in (0.0, 1.0, 2.0, 12.3, 60.0, 86_400.0):
        drawn = {retry_after(wait_s, dice.trace_id()) for _ in range(300)}
        assert math.ceil(wait_s) <= min(drawn) < max(drawn) <= math.ceil(wait_s + max(2, min(60, wait_s / 4)))
    assert retry_after(2, "") == 2


def test_every_refusal_that_may_be_repeated_tells_when() -> None:
    for error in errors.all_errors():
        answer = problem(error(), "0" * 24 + "80000000")
        assert ("retry-after" in answer.headers) == error.retryable
        if error.retryable:
            assert answer.headers["retry-after"] == "4"  # 2 s, drawn half of 2 s later, in whole seconds
    told = problem(errors.Refused(retry_after=60, policy="recordings", limit=10, window_s=60), "0" * 32).headers
    assert (told["ratelimit-policy"], told["ratelimit"]) == ('"recordings";q=10;w=60', '"recordings";r=0;t=60')
