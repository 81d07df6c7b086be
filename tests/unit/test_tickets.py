"""Tickets: what they are good for, for how long, and that nobody makes or bends one."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosygate import errors
from cosygate.adapters.tickets_hmac import HmacTickets
from cosygate.model.principal import Principal, Scope
from cosygate.ports.tickets import AUDIO, LIVE, SHARE
from tests.support.clock import MovedClock, SeededRandomness

SECRET = "kX9-vQ2w8ZrT5yL1nB7mC4jH6gF3dS0a"
ANN = Principal("ann", "acme", frozenset({Scope.TASK_READ, Scope.LIVE}))
# RFC 7230 §3.2.6 without the characters that would need a thought in a cookie, a fragment or a log
TOKEN = re.compile(r"[A-Za-z0-9._-]+")
SESSION = "0123456789abcdef0123456789abcdef"


def opened(clock: MovedClock | None = None, secret: str = SECRET, seed: int = 0) -> HmacTickets:
    return HmacTickets(secret, clock or MovedClock(), SeededRandomness(seed))


@pytest.mark.parametrize(("purpose", "resource"), [(AUDIO, SESSION), (LIVE, "")])
def test_a_ticket_says_who_holds_it_and_until_when(purpose: str, resource: str) -> None:
    clock = MovedClock()
    ticket = opened(clock).issue(purpose, resource, ANN, 30)
    told = opened(clock, seed=1).check(ticket, purpose, resource)  # by another process
    assert (told.holder, told.expires_at) == (ANN, clock.now() + 30)
    assert TOKEN.fullmatch(ticket)
    assert ticket.startswith(purpose + ".")


@pytest.mark.parametrize("expires_at", [1_800_000_600.5, math.inf])
def test_a_ticket_ends_with_the_credential_that_it_was_got_with(expires_at: float) -> None:
    """Whoever checks it learns which one that was. A share outlives it, unless it is revoked."""
    by = replace(ANN, credential="jti:7", issued_at=1_799_999_999.25, expires_at=expires_at)
    tickets = opened()
    for purpose, resource in ((AUDIO, SESSION), (LIVE, "")):
        assert tickets.check(tickets.issue(purpose, resource, by, 30), purpose, resource).holder == by
    shared = tickets.check(tickets.issue(SHARE, SESSION, by, 30), SHARE, SESSION).holder
    assert (shared.credential, shared.issued_at, shared.expires_at) == ("jti:7", by.issued_at, math.inf)


def test_no_two_tickets_are_equal() -> None:
    tickets = opened()
    issued = {tickets.issue(LIVE, "", ANN, 30) for _ in range(100)}
    assert len({tickets.check(ticket, LIVE, "").id for ticket in issued}) == 100


def test_a_ticket_keeps_its_id() -> None:
    tickets = opened()
    ticket = tickets.issue(LIVE, "", ANN, 30)
    assert tickets.check(ticket, LIVE, "") == tickets.check(ticket, LIVE, "")


def test_a_ticket_is_for_one_purpose_and_one_resource() -> None:
    tickets = opened()
    for purpose, resource in ((AUDIO, SESSION), (LIVE, ""), (SHARE, SESSION)):
        ticket = tickets.issue(purpose, resource, ANN, 30)
        for other, of in ((AUDIO, SESSION), (LIVE, ""), (SHARE, SESSION), (SHARE, SESSION[::-1]), (AUDIO, "")):
            if (other, of) != (purpose, resource):
                with pytest.raises(errors.TokenInvalid):
                    tickets.check(ticket, other, of)
        renamed = ticket.replace(purpose, AUDIO if purpose != AUDIO else LIVE, 1)
        for other in (AUDIO, LIVE, SHARE):
            with pytest.raises(errors.TokenInvalid):
                tickets.check(renamed, other, resource)


def test_a_share_lets_its_bearer_do_nothing_else() -> None:
    tickets = opened()
    holder = tickets.check(tickets.issue(SHARE, SESSION, ANN, 30), SHARE, SESSION).holder
    assert (holder.owner, holder.scopes) == (ANN.owner, frozenset())


def test_a_ticket_ends() -> None:
    clock = MovedClock()
    tickets = opened(clock)
    ticket = tickets.issue(LIVE, "", ANN, 30)
    clock.wall += 30
    tickets.check(ticket, LIVE, "")
    clock.wall += 0.1
    with pytest.raises(errors.TokenExpired):
        tickets.check(ticket, LIVE, "")


def test_another_secret_signs_nothing() -> None:
    with pytest.raises(errors.TokenInvalid):
        opened(secret=SECRET[::-1]).check(opened().issue(LIVE, "", ANN, 30), LIVE, "")


@pytest.mark.parametrize("subject", ["ann", "an", "a"])  # so that the body's base64 ends in every way there is
def test_no_character_can_be_changed_added_or_left_out(subject: str) -> None:
    tickets = opened()
    ticket = tickets.issue(LIVE, "", Principal(subject), 30)
    bent = {ticket[:at] + other + ticket[at + 1 :] for at in range(len(ticket)) for other in "ABQgw019-_.=é\ud800\0"}
    bent |= {ticket[:at] + ticket[at + 1 :] for at in range(len(ticket))}
    bent |= {ticket[:at] + other + ticket[at:] for at in range(len(ticket) + 1) for other in "A.= \n"}
    for wrong in bent - {ticket}:
        with pytest.raises(errors.TokenInvalid):
            tickets.check(wrong, LIVE, "")


@pytest.mark.parametrize("wrong", ["", ".", "..", "...", "live", "live.", "live..", "live.W10.", "ü.ü.ü", "A" * 3000])
def test_what_is_no_ticket(wrong: str) -> None:
    with pytest.raises(errors.TokenInvalid):
        opened().check(wrong, LIVE, "")


def test_a_long_ticket_is_refused_before_it_is_looked_at() -> None:
    """Also a true one, which nothing issues."""
    tickets = opened()
    with pytest.raises(errors.TokenInvalid):
        tickets.check(tickets.issue(LIVE, "x" * 2048, ANN, 30), LIVE, "x" * 2048)


names = st.text(st.characters(exclude_characters="/", exclude_categories=("Cc", "Cs")), min_size=1, max_size=128)


@settings(max_examples=100, derandomize=True, database=None, deadline=None)
@given(subject=names, tenant=names, odd=st.sets(st.text(max_size=50), max_size=50))
def test_every_caller_gets_a_ticket_that_holds(subject: str, tenant: str, odd: set[str]) -> None:
    """However long the names, and whatever a token carries as scopes: those that mean something go along."""
    tickets = opened()
    ticket = tickets.issue(AUDIO, SESSION, Principal(subject, tenant, frozenset({*odd, "live"})), 30)
    assert TOKEN.fullmatch(ticket)
    assert tickets.check(ticket, AUDIO, SESSION).holder == Principal(subject, tenant, frozenset({"live"}))


def test_the_longest_names_fit() -> None:
    tickets = opened()
    holder = Principal("\N{GRINNING FACE}" * 128, '"' * 128, frozenset(Scope))
    ticket = tickets.issue(AUDIO, SESSION, holder, 30)
    assert len(ticket) < 2048
    assert tickets.check(ticket, AUDIO, SESSION).holder == holder
