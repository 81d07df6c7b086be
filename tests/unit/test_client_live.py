"""The live session over real sockets, against a peer that keeps the protocol; test_client_live_cuts.py breaks it."""

from __future__ import annotations

import itertools
import json
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cosygate.client import (
    BadAnswer,
    Client,
    ClientError,
    Conflict,
    Denied,
    Disconnected,
    Done,
    Final,
    Gap,
    Partial,
    Rejected,
    ServerBusy,
    Unreachable,
    WaitTimeout,
)
from cosygate.client.live_core import Stream
from cosygate.client.live_wire import Door, Patience
from tests.support.live_client import QUICK, RATE, live_at, speech, wait_for
from tests.support.live_peer import LivePeer, playing
from tests.support.proxy import Fault, FaultProxy, Kind, Way
from tests.support.scripted_http import Answer, Request, problem, serving


@pytest.fixture
def peer() -> Iterator[LivePeer]:
    with playing(LivePeer(utterance=3_000)) as it:
        yield it


@pytest.fixture
def proxy(peer: LivePeer) -> Iterator[FaultProxy]:
    with FaultProxy(peer.port) as it:
        yield it


# --- an undisturbed session --------------------------------------------------------------------------------------


def test_the_five_lines(peer: LivePeer) -> None:
    told: list[Any] = []
    said = speech(2.0)
    with (
        Client(peer.url, "secret", retries=QUICK) as client,
        client.live(RATE, on_event=told.append, language="en", options={"filename": "talk"}) as live,
    ):
        for at in range(0, len(said), 700):
            live.send(said[at : at + 700])
    session = peer.only
    assert session.heard == said
    assert session.start["language"] == "en"
    assert session.start["options"] == {"filename": "talk"}
    assert peer.headers[0]["authorization"] == "Bearer secret"
    assert "sec-websocket-extensions" not in peer.headers[0]
    assert live.text == "0-3000 3000-6000 6000-9000 9000-12000 12000-15000 15000-16000"
    assert (live.session, live.task_id, live.resume_token) == (session.id, session.id, "t" * 32)
    finals = [event for event in told if isinstance(event, Final)]
    assert tuple(finals) == live.finals
    assert any(isinstance(event, Partial) for event in told)
    assert told[-1] == Done(session.id, 6, 16_000)
    with pytest.raises(Conflict, match="live_finished"):
        live.send(bytes(2))
    assert [t.name for t in threading.enumerate() if t.name == "cosygate-live"] == []


def test_events_can_be_iterated_and_partials_do_not_pile_up(peer: LivePeer) -> None:
    with live_at(peer.port) as live:
        live.send(speech(3.0))
    told = list(live.events())
    assert [event.id for event in told if isinstance(event, Final)] == list(range(8))
    for one, two in itertools.pairwise(told):
        assert not (isinstance(one, Partial) and isinstance(two, Partial))
    assert isinstance(told[-1], Done)
    assert list(live.events()) == []


def test_an_unfinished_frame_is_sent_soon_and_finalize_at_once(peer: LivePeer) -> None:
    with live_at(peer.port) as live:
        live.send(bytes(100))
        wait_for(lambda: peer.only.samples == 50)
        live.send(bytes(20))
        live.finalize()
        wait_for(lambda: peer.only.cuts == [60])
        assert live.finals[0].end_sample == 60 or wait_for(lambda: live.finals) is None


def test_a_caller_that_trickles_still_gets_through(peer: LivePeer) -> None:
    """A sample now and then: the wait for a whole frame is counted from the first."""
    with live_at(peer.port, chunk_s=0.2) as live:
        stop = threading.Event()

        def trickle() -> None:
            while not stop.wait(0.01):
                live.send(bytes(2))

        thread = threading.Thread(target=trickle)
        thread.start()
        try:
            wait_for(lambda: peer.only.samples > 0)
            assert peer.only.samples < 100
        finally:
            stop.set()
            thread.join()


def test_a_silent_caller_pings(peer: LivePeer) -> None:
    with live_at(peer.port, patience=Patience(ping_s=0.02, close_s=0.5)):
        wait_for(lambda: peer.kinds.count("ping") >= 3)
    assert peer.connections == 1


def test_leaving_with_an_exception_does_not_end_the_session(peer: LivePeer) -> None:
    with pytest.raises(KeyError), live_at(peer.port) as live:
        live.send(speech(1.0))
        wait_for(lambda: peer.only.samples == RATE)
        raise KeyError
    assert not peer.only.done
    assert "end" not in peer.kinds
    assert live.task_id is None
    with pytest.raises(RuntimeError, match="not open"):
        live.send(bytes(2))
    with pytest.raises(RuntimeError, match="begins once"):
        live.open()


def test_what_cannot_be_sent(peer: LivePeer) -> None:
    live = live_at(peer.port)
    with pytest.raises(RuntimeError, match="not open"):
        live.send(bytes(2))
    with live:
        with pytest.raises(ValueError, match="whole samples of 2"):
            live.send(b"odd")
        live.send(b"")
    with Client(peer.url, "t") as client, pytest.raises(ValueError, match="sample_rate is one of"):
        client.live(44_000)


def test_what_on_event_raises_ends_the_session(peer: LivePeer) -> None:
    def on_event(event: Any) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), live_at(peer.port, on_event) as live:
        live.send(speech(1.0))
        wait_for(lambda: live._session.over)
        live.send(bytes(2))
    assert not peer.only.done


def test_on_event_may_finalize_but_not_send(peer: LivePeer) -> None:
    errors: list[Exception] = []

    def on_event(event: Any) -> None:
        if isinstance(event, Partial):
            live.finalize()
            for call in (lambda: live.send(bytes(2)), live.end):
                try:
                    call()
                except RuntimeError as error:
                    errors.append(error)

    live = live_at(peer.port, on_event)
    with live:
        live.send(bytes(200))
        wait_for(lambda: peer.only.cuts)
    assert len(errors) >= 2


# --- refused -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("close", "code", "kind", "tries"),
    [
        (4401, "token_invalid", Denied, 1),
        (4400, "option_unsupported", Rejected, 1),
        (4429, "too_many_sessions", ServerBusy, 1),
        (4503, "engine_unavailable", ServerBusy, 4),
    ],
)
def test_a_start_that_is_refused(peer: LivePeer, close: int, code: str, kind: type[ClientError], tries: int) -> None:
    peer.greet = lambda number: (close, {"code": code, "detail": "why"})
    with pytest.raises(kind) as refused, live_at(peer.port):
        pass
    assert (refused.value.code, refused.value.detail, refused.value.tries) == (code, "why", tries)
    assert peer.connections == tries


def test_a_start_is_tried_again_while_the_server_is_full(peer: LivePeer) -> None:
    peer.greet = lambda number: (4503, {"code": "sessions_full", "detail": "full"}) if number < 2 else None
    with live_at(peer.port) as live:
        live.send(speech(0.5))
    assert peer.only.samples == RATE // 2


def test_nobody_listens() -> None:
    with FaultProxy(1) as proxy, pytest.raises(Unreachable) as gone, live_at(proxy.port):
        pass
    assert gone.value.tries == 4


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (Answer(404, b"<h1>nginx</h1>", "text/html"), BadAnswer, "bad_answer"),
        (Answer(200, b"hello", "text/html"), BadAnswer, "bad_answer"),
        (problem(403, "scope_missing"), Denied, "scope_missing"),
        (problem(503, "draining"), ServerBusy, "draining"),
        (Answer(0), Unreachable, "unreachable"),
    ],
)
def test_a_door_that_does_not_open(answer: Answer, kind: type[ClientError], code: str) -> None:
    with serving(lambda request: answer) as url, Client(url, "t", retries=QUICK) as client:
        with pytest.raises(kind) as refused, client.live(RATE):
            pass
        assert refused.value.code == code


def test_the_token_follows_no_redirect(peer: LivePeer) -> None:
    def answer(request: Request) -> Answer:
        return Answer(307, headers={"Location": f"ws://127.0.0.1:{peer.port}/v1/live"})

    with serving(answer) as url, Client(url, "t", retries=QUICK) as client, pytest.raises(BadAnswer, match="redirect"):
        client.live(RATE).open()
    assert peer.connections == 0


def test_a_server_that_says_nothing_is_left(proxy: FaultProxy, peer: LivePeer) -> None:
    """Before the handshake is answered, and between the handshake and ready."""
    patience = Patience(open_s=0.1, answer_s=0.1, close_s=0.1)
    proxy.arm(Fault(Kind.SWALLOW, Way.UP, at=0))
    proxy.arm(Fault(Kind.SWALLOW, Way.UP, at=320))
    with live_at(proxy.port, patience=patience) as live:
        live.send(speech(0.3))
    assert len(proxy.links()) == 3
    assert peer.only.samples == round(0.3 * RATE)


# --- buffers -----------------------------------------------------------------------------------------------------


def test_without_a_connection_the_newest_is_kept_and_the_gap_is_told(peer: LivePeer, proxy: FaultProxy) -> None:
    told: list[Any] = []
    said = speech(10.0)
    at = 2 * RATE
    with live_at(proxy.port, told.append, buffer_s=2.0) as live:
        live.send(said[:at])
        wait_for(lambda: peer.only.samples == RATE)
        proxy.refuse()
        wait_for(lambda: any(isinstance(event, Disconnected) for event in told))
        live.send(said[at:])  # returns at once: nothing waits for a network
        proxy.heal()
        wait_for(lambda: peer.only.samples == 10 * RATE)
    [(start, end)] = peer.only.gaps
    assert (start, end) == (RATE, 8 * RATE)
    expected = bytearray(said)
    expected[2 * start : 2 * end] = bytes(2 * (end - start))
    assert peer.only.heard == expected
    assert [event for event in told if isinstance(event, Gap)] == [Gap(1.0, 8.0)]


def test_a_source_that_can_wait_loses_nothing(peer: LivePeer, proxy: FaultProxy) -> None:
    told: list[Any] = []
    said = speech(10.0)
    with live_at(proxy.port, told.append, buffer_s=2.0, keep_all=True) as live:
        sender = threading.Thread(target=live.send, args=(said,))
        proxy.refuse()
        wait_for(lambda: told)
        sender.start()
        wait_for(lambda: live._core.ring.end == 2 * RATE)
        sender.join(0.1)
        assert sender.is_alive()
        assert live._core.ring.end == 2 * RATE
        proxy.heal()
        sender.join(10)
    assert peer.only.heard == said
    assert peer.only.gaps == []


def test_a_slow_server_is_waited_for(peer: LivePeer) -> None:
    """It takes no more for a while: `send` waits with a full buffer, and goes on by itself."""
    gate = threading.Event()
    peer.fault = lambda peer, number, kind, message: gate.wait(10) and None if kind == "audio" else None
    with live_at(peer.port, buffer_s=1.0) as live:
        sender = threading.Thread(target=live.send, args=(speech(5.0),))
        sender.start()
        wait_for(lambda: live._core.ring.end == RATE)
        sender.join(0.1)
        assert sender.is_alive()
        assert live._core.ring.end == RATE
        gate.set()
        sender.join(10)
        assert not sender.is_alive()
    assert peer.only.heard == speech(5.0)


class Jumping:
    """A monotonic clock that can be put forward."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.monotonic() + self.ahead


@pytest.mark.parametrize("waits_in", ["send", "end"])
def test_no_wait_is_for_ever(peer: LivePeer, waits_in: str) -> None:
    """The server answers pings and nothing else."""
    peer.fault = lambda peer, number, kind, message: {"type": "pong"} if kind in ("audio", "end") else None
    clock = Jumping()
    live = live_at(peer.port, buffer_s=1.0)
    live._monotonic = clock
    expected, code = (ServerBusy, "live_stalled") if waits_in == "send" else (WaitTimeout, "wait_timeout")

    def put_forward() -> None:
        with live._changed:
            clock.ahead = 100.0
            live._changed.notify_all()

    jump = threading.Timer(0.2, put_forward)
    live.open()
    try:
        jump.start()
        with pytest.raises(expected) as waited:
            live.send(speech(5.0)) if waits_in == "send" else live.end()
        assert waited.value.code == code
        if waits_in == "end":
            with pytest.raises(WaitTimeout):
                live.end(timeout_s=0.01)
    finally:
        jump.join()
        live.close()


# --- TLS ---------------------------------------------------------------------------------------------------------


def test_doors() -> None:
    door = Door.of("http://127.0.0.1:81/below/", "t", True)
    assert (door.url, door.tls, door.direct) == ("ws://127.0.0.1:81/below/v1/live", None, True)
    door = Door.of("https://gateway.example", "t", True)
    assert (door.url, door.direct) == ("wss://gateway.example/v1/live", False)
    assert door.tls is not None
    assert door.tls.verify_mode is ssl.CERT_REQUIRED
    trusting = Door.of("https://gateway.example", "t", False).tls
    assert trusting is not None
    assert trusting.verify_mode is ssl.CERT_NONE
    assert Door.of("https://gateway.example", "t", trusting).tls is trusting
    with pytest.raises(FileNotFoundError):
        Door.of("https://gateway.example", "t", Path("no-such.pem"))


def test_the_peer_speaks_the_protocol_that_is_documented() -> None:
    """So that what is proved against it holds: the messages of docs/live.md, name by name."""
    page = (Path(__file__).parent.parent.parent / "docs" / "live.md").read_text()
    for kind in ("start", "resume", "finalize", "gap", "end", "ping", "ready", "ack", "partial", "final", "done"):
        assert f"`{kind}" in page or f'"{kind}"' in page, kind
    assert json.loads(Stream(16_000).start())["type"] == "start"
