"""The live session when the wire breaks, and when the server ends it: nothing is missing, nothing comes twice."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from cosygate.client import (
    BadAnswer,
    ClientError,
    Conflict,
    Denied,
    Disconnected,
    Final,
    Gap,
    NotFound,
    Reconnected,
    Unreachable,
)
from cosygate.client.live import Live
from cosygate.client.live_wire import Patience
from tests.support.live_client import RATE, events_of, live_at, speech, wait_for
from tests.support.live_peer import LivePeer, Misbehaviour, playing
from tests.support.proxy import Fault, FaultProxy, Kind, Way


@pytest.fixture
def peer() -> Iterator[LivePeer]:
    with playing(LivePeer(utterance=3_000)) as it:
        yield it


@pytest.fixture
def proxy(peer: LivePeer) -> Iterator[FaultProxy]:
    with FaultProxy(peer.port) as it:
        yield it


# --- cut ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_cut_anywhere_nothing_is_missing_and_nothing_comes_twice(peer: LivePeer, proxy: FaultProxy, seed: int) -> None:
    """12 cuts and resets at random bytes, half of them while the server forgets what it had beyond `safe`."""
    dice = random.Random(seed)
    for _ in range(12):
        kind = dice.choice([Kind.CUT, Kind.RESET])
        proxy.arm(Fault(kind, dice.choice([Way.UP, Way.DOWN]), at=dice.randrange(0, 6_000)))
    peer.fall_back = lambda session: dice.choice([session.samples, dice.randint(session.safe, session.samples)])
    said = speech(8.0, seed)
    told: list[Any] = []
    live = live_at(proxy.port, told.append)
    while True:
        try:
            live.open()
            break
        except Unreachable:  # all four tries of the start were cut
            live = live_at(proxy.port, told.append)
    with events_of(live) as iterated:
        for at in range(0, len(said), 1_111 * 2):
            live.send(said[at : at + 1_111 * 2])
        live.end()
        live.close()
    session = peer.sessions[live.session or ""]
    assert session.heard == said
    assert session.gaps == []
    assert [final["text"] for final in session.finals] == live.text.split()
    assert [event.id for event in told if isinstance(event, Final)] == list(range(len(session.finals)))
    assert [event for event in iterated if isinstance(event, Final)] == list(live.finals)
    lost = sum(isinstance(event, Disconnected) for event in told)
    assert lost == sum(isinstance(event, Reconnected) for event in told)
    assert len(proxy.links()) >= 3


@pytest.mark.parametrize(
    "fault",
    [
        Fault(Kind.HALF_OPEN, Way.UP, at=9_000),
        Fault(Kind.SWALLOW, Way.UP, at=9_000),
        Fault(Kind.SWALLOW, Way.DOWN, at=900),
        Fault(Kind.STALL, Way.UP, at=9_000),
        Fault(Kind.STALL, Way.DOWN, at=900),
    ],
)
def test_a_connection_that_only_seems_open_is_noticed(peer: LivePeer, proxy: FaultProxy, fault: Fault) -> None:
    proxy.arm(fault)
    said, began = speech(3.0), time.monotonic()
    with live_at(proxy.port, patience=Patience(answer_s=0.2, close_s=0.2)) as live:
        live.send(said)
    assert time.monotonic() - began < 5  # and not when the next ping is due
    assert peer.only.heard == said
    assert peer.connections == 2


def test_a_dead_connection_is_noticed_while_nothing_is_said(peer: LivePeer, proxy: FaultProxy) -> None:
    told: list[Any] = []
    with live_at(proxy.port, told.append, Patience(answer_s=0.1, ping_s=0.05, close_s=0.1)):
        proxy.strike(Fault(Kind.SWALLOW, Way.UP))
        wait_for(lambda: any(isinstance(event, Reconnected) for event in told))
    assert [type(event) for event in told][:2] == [Disconnected, Reconnected]


def test_finalize_survives_a_cut(peer: LivePeer, proxy: FaultProxy) -> None:
    peer.fault = lambda peer, number, kind, message: cut() if kind == "finalize" and number < 3 else None
    with live_at(proxy.port) as live:
        live.send(bytes(1_000))
        live.finalize()
        wait_for(lambda: peer.only.cuts == [500])
    assert peer.connections == 4
    assert peer.only.repeats == 0  # it was all there


def cut() -> None:
    raise Misbehaviour


def test_an_end_whose_answer_is_lost(peer: LivePeer) -> None:
    def fault(peer: LivePeer, number: int, kind: str, message: Any) -> Any:
        if kind == "end" and number == 0:
            peer.only.done = True
            cut()
        return None

    peer.fault = fault
    with live_at(peer.port) as live:
        live.send(bytes(2_000))
    assert live.task_id == peer.only.id
    assert peer.kinds.count("end") == 1


def test_a_server_that_restarts_is_waited_for(peer: LivePeer) -> None:
    def fault(peer: LivePeer, number: int, kind: str, message: Any) -> Any:
        return (1012,) if number == 0 and peer.kinds.count("audio") == 3 else None

    peer.fault = fault
    peer.greet = lambda number: (4503, {"code": "draining", "detail": "not yet"}) if 0 < number < 4 else None
    told: list[Any] = []
    said = speech(2.0)
    with live_at(peer.port, told.append) as live:
        live.send(said)
    assert peer.only.heard == said
    assert peer.connections == 5
    assert [type(e) for e in told if isinstance(e, Disconnected | Reconnected)] == [Disconnected, Reconnected]


def test_moved_says_when_to_come_back(peer: LivePeer) -> None:
    def fault(peer: LivePeer, number: int, kind: str, message: Any) -> Any:
        if number == 0 and kind == "audio":
            if peer.kinds.count("audio") == 1:
                return {"type": "moved", "reconnect_in_ms": 300}
            return (1012,)
        return None

    peer.fault = fault
    told: list[Any] = []
    with live_at(peer.port, told.append) as live:
        live.send(speech(1.0))
    [back] = [event for event in told if isinstance(event, Reconnected)]
    assert back.after_s >= 0.3
    assert peer.only.samples == RATE


# --- ends that are no reconnects ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("close", "code", "kind"),
    [(4409, "taken_over", Conflict), (4404, "session_not_found", NotFound), (4401, "token_expired", Denied)],
)
def test_a_resume_that_is_refused_ends_the_session(
    peer: LivePeer, close: int, code: str, kind: type[ClientError]
) -> None:
    peer.fault = lambda peer, number, what, message: cut() if what == "audio" and number == 0 else None
    peer.greet = lambda number: (close, {"code": code, "detail": "why"}) if number else None
    live = live_at(peer.port)
    with pytest.raises(kind, match=code), live:
        live.send(speech(1.0))
        live.end()
    with pytest.raises(kind), events_raising(live):
        pass
    assert peer.connections == 2


@contextmanager
def events_raising(live: Live) -> Iterator[None]:
    list(live.events())
    yield


def test_the_window_passes(proxy: FaultProxy, peer: LivePeer) -> None:
    peer.window_s = 0.2
    told: list[Any] = []
    with pytest.raises(Unreachable) as lost, live_at(proxy.port, told.append) as live:
        began = time.monotonic()  # the window counts from what was heard last, which is an ack
        live.send(speech(0.5))
        wait_for(lambda: peer.only.samples == RATE // 2)
        proxy.refuse()
        wait_for(lambda: live._session.over)
        assert 0.2 <= time.monotonic() - began < 5
        live.send(bytes(2))
    assert (lost.value.code, lost.value.extra) == ("live_lost", {"task_id": peer.only.id})
    assert sum(isinstance(event, Disconnected) for event in told) == 1


def test_a_server_that_never_lets_the_session_get_on_is_given_up(peer: LivePeer) -> None:
    peer.fault = lambda peer, number, kind, message: (1011,) if kind == "audio" else None
    with pytest.raises(Unreachable, match="live_lost"), live_at(peer.port) as live:
        live.send(speech(0.2))
    assert peer.connections == 101


def test_a_final_out_of_turn_is_an_error(peer: LivePeer) -> None:
    final = {"type": "final", "id": 5, "start": 0, "end": 0, "start_sample": 0, "end_sample": 0, "text": ""}
    peer.fault = lambda peer, number, kind, message: final if kind == "audio" else None
    with pytest.raises(BadAnswer, match="final 5"), live_at(peer.port) as live:
        live.send(bytes(2_000))


def test_a_session_that_the_server_finished_alone(peer: LivePeer) -> None:
    told: list[Any] = []

    def fault(peer: LivePeer, number: int, kind: str, message: Any) -> Any:
        if kind == "audio" and peer.only.samples >= RATE:
            peer.only.done = True
            cut()
        return None

    peer.fault = fault
    with pytest.raises(Conflict) as finished, live_at(peer.port, told.append) as live:
        live.send(speech(2.0))
    assert (finished.value.code, finished.value.extra) == ("live_finished", {"task_id": peer.only.id})
    [gap] = [event for event in told if isinstance(event, Gap)]
    assert gap == Gap(1.0, 2.0)
    assert live.task_id == peer.only.id
