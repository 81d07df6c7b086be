"""The live client's state, promise by promise; test_client_live_machine.py has them all at once."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cosygate.client import BadAnswer, Conflict, Denied, Done, Final, Gap, NotFound, Rejected, ServerBusy, Unreachable
from cosygate.client.live_core import MAX_KEPT_BYTES, RATES, LiveCore, Stream
from cosygate.client.live_records import joined
from cosygate.client.live_ring import Ring


def say(kind: str, **members: Any) -> str:
    return json.dumps({"type": kind, **members})


def ready(core: LiveCore, offset: int = 0, **members: Any) -> None:
    core.received(say("ready", **{"session": "s", "resume_token": "t", "offset": offset, "window_s": 60} | members))


def drained(core: LiveCore, *, flush: bool = False) -> list[str | bytes]:
    messages = []
    while (message := core.next_message(flush=flush)[0]) is not None:
        messages.append(message)
    return messages


def test_what_start_and_resume_say() -> None:
    core = LiveCore(Stream(16_000, "mulaw", "en", None, {"filename": "call"}, interim=False))
    start = {"type": "start", "sample_rate": 16_000, "format": "mulaw", "interim": False, "language": "en"}
    assert json.loads(core.hello()) == start | {"options": {"filename": "call"}}
    ready(core)
    resume = {"type": "resume", "session": "s", "resume_token": "t", "last_final": None, "interim": False}
    assert json.loads(core.hello()) == resume
    final = {"id": 0, "start": 0, "end": 1.5, "start_sample": 0, "end_sample": 24_000, "text": "x"}
    words = [{"text": "x", "start": 0.0, "end": 0.5}]
    [told] = core.received(say("final", **final, words=words, language="en", later="unknown"))
    assert isinstance(told, Final)
    assert (told.end, told.language, told.words[0].text, told.speaker) == (1.5, "en", "x", None)
    assert core.received(say("final", **final)) == []
    assert json.loads(core.hello())["last_final"] == 0


def test_a_frame_waits_until_it_is_whole_or_flushed() -> None:
    core = LiveCore(Stream(8_000))
    ready(core)
    core.append(bytes(2 * 1_000))
    [frame] = drained(core)
    assert isinstance(frame, bytes)
    assert (frame[:8], len(frame)) == (bytes(8), 8 + 1_600)
    assert core.holds_back
    [rest] = drained(core, flush=True)
    assert isinstance(rest, bytes)
    assert (rest[:8], len(rest)) == ((800).to_bytes(8, "big"), 8 + 400)
    assert not core.holds_back
    core.append(bytes(2 * 700))
    assert [len(m) - 8 for m in drained(core)] == [1_200]  # up to where the block ends


def test_finalize_is_said_at_its_sample_once_and_again_after_a_cut() -> None:
    core = LiveCore(Stream(8_000))
    ready(core)
    core.finalize()  # nothing was said yet
    core.append(bytes(2 * 1_000))
    core.finalize()
    core.finalize()
    core.append(bytes(2 * 1_000))
    kinds = [json.loads(m)["samples"] if isinstance(m, str) else len(m) // 2 - 4 for m in drained(core, flush=True)]
    assert kinds == [800, 200, 1_000, 600, 400]
    core.closed(1006)
    ready(core, 1_200)
    assert [json.loads(m)["samples"] for m in drained(core) if isinstance(m, str)] == [1_000]
    core.received(say("ack", samples=2_000, safe=1_500))
    core.closed(1006)
    ready(core, 2_000)
    assert drained(core) == []


@pytest.mark.parametrize(
    "text",
    [
        b"\x00", "no json", "[]", say("ready"), say("ack", samples=9, safe=0), say("ack", samples=0, safe=5),
        say("final", id=1, start=0, end=0, start_sample=0, end_sample=0, text=""), say("final", id=0),
        say("ready", session="other", resume_token="t", offset=0, window_s=1),
        say("ready", session="s", resume_token="t", offset=1, window_s=1),
        say("ready", session="s", resume_token="t", offset=-1, window_s=1),
        say("done", task_id="s", finals=3, samples=0), say("partial", start="now"), say("moved"), "[" * 100_000,
    ],
)  # fmt: skip
def test_a_server_that_breaks_the_protocol_is_told_apart(text: str | bytes) -> None:
    core = LiveCore(Stream(8_000))
    ready(core)
    with pytest.raises(BadAnswer):
        core.received(text)


def test_what_the_server_leaves_out_is_told() -> None:
    core = LiveCore(Stream(8_000))
    ready(core)
    told = core.received(say("gap", **{"from": 4_000, "to": 8_000, "code": "engine_failed"}))
    assert told == [Gap(0.5, 1.0, "engine_failed")]


def test_messages_of_a_later_protocol_are_passed_over() -> None:
    core = LiveCore(Stream(8_000))
    assert core.received(say("weather", sun=True)) == []
    assert core.received(say("pong")) == []


@pytest.mark.parametrize(
    ("code", "kind", "again"),
    [
        (4400, Rejected, False), (4401, Denied, False), (4404, NotFound, False), (4409, Conflict, False),
        (4429, ServerBusy, False), (1009, Rejected, False), (1003, BadAnswer, False), (4999, BadAnswer, False),
        (4503, ServerBusy, True), (1012, ServerBusy, True), (1001, Unreachable, True), (1006, Unreachable, True),
        (1011, ServerBusy, True), (4408, ServerBusy, True), (4008, ServerBusy, True), (1000, Unreachable, True),
    ],
)  # fmt: skip
def test_what_each_close_means(code: int, kind: type[Exception], again: bool) -> None:
    core = LiveCore(Stream(8_000))
    core.received(say("error", code="some_code", detail="why", trace_id="abc", limit=3))
    error = core.closed(code)
    assert (type(error), error.retryable, error.code, error.detail) == (kind, again, "some_code", "why")
    assert (error.trace_id, error.extra) == ("abc", {"limit": 3, "close_code": code})
    assert str(code) in core.closed(code).detail  # what was told on an earlier connection says nothing of this one


def test_a_gap_that_the_server_finds_is_worth_one_resume_until_the_session_gets_on() -> None:
    core = LiveCore(Stream(8_000))
    for again in (True, False):
        ready(core)
        core.received(say("error", code="gap", detail="missing", expected=0))
        assert core.closed(4400).retryable is again
    core.append(bytes(1_600))
    ready(core)
    core.received(say("ack", samples=800, safe=0))
    core.received(say("error", code="gap", detail="missing", expected=0))
    assert core.closed(4400).retryable


def test_a_takeover_may_be_by_an_attempt_of_our_own_that_got_no_answer() -> None:
    core = LiveCore(Stream(8_000))
    core.hello()
    ready(core)
    assert not core.closed(4409).retryable
    core.hello()
    assert core.closed(1006).retryable  # no answer: the server may get to it yet
    core.hello()
    ready(core)
    assert core.closed(4409).retryable
    core.hello()
    ready(core)
    assert not core.closed(4409).retryable  # once


def test_a_session_that_the_server_finished_alone_says_what_it_lacks() -> None:
    core = LiveCore(Stream(8_000))
    ready(core)
    core.append(bytes(2 * 8_000))
    gap, done = core.received(say("done", task_id="s", finals=0, samples=2_000))
    assert gap == Gap(0.25, 1.0)
    assert done == Done("s", 0, 2_000)
    core.end()
    error = core.missing()
    assert error is not None
    assert (type(error), error.code, error.extra) == (Conflict, "live_finished", {"task_id": "s"})


def test_what_a_server_has_lost_again_is_kept() -> None:
    """It acknowledged everything, and then its journal was gone: a full buffer lets go only what it has now."""
    core = LiveCore(Stream(8_000), buffer_s=1.0, keep_all=True)
    ready(core)
    for _ in range(10):
        core.append(bytes(2 * 800))
    core.received(say("ack", samples=8_000, safe=0))
    core.closed(1006)
    ready(core, 1_700)
    taken = 0
    while core.room(800):
        core.append(bytes(2 * 800))
        taken += 1
    assert (taken, core.ring.start) == (2, 1_600)


def test_the_ring_is_bounded_in_bytes_too() -> None:
    core = LiveCore(Stream(48_000), buffer_s=86_400)
    assert core.ring.capacity * core.ring.unit <= MAX_KEPT_BYTES
    assert LiveCore(Stream(16_000)).ring.capacity == 120 * 16_000
    webm = LiveCore(Stream(48_000, "webm-opus"))
    assert webm.keep_all
    assert webm.ring.unit == 1


@pytest.mark.parametrize("wrong", [{"sample_rate": 16_001}, {"sample_rate": 8_000, "format": "mp3"}])
def test_streams_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="is one of"):
        Stream(**wrong)
    assert len(RATES) == 9


@pytest.mark.parametrize("wrong", [{"buffer_s": 0.5}, {"chunk_s": 0.01}, {"chunk_s": 1.0}])
def test_buffers_that_cannot_be(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at least"):
        LiveCore(Stream(8_000), **wrong)


def test_a_ring_reads_from_anywhere() -> None:
    ring = Ring(2, 10, 100)
    said = bytes(range(94))
    ring.append(said)
    assert (ring.end, ring.whole_end) == (47, 40)
    assert ring.read(3, 47) == said[6:20]
    assert ring.read(3, 8) == said[6:16]
    assert ring.read(42, 47) == said[84:]
    ring.forget(25)
    assert ring.start == 20
    assert ring.read(20, 40) == said[40:60]
    ring.forget(47)
    assert ring.start == 40  # an unfinished block is kept
    assert not ring.drop_oldest()


def test_texts_are_joined_as_their_script_joins() -> None:
    def texts(*said: str) -> str:
        return joined(Final(n, 0.0, 0.0, text, 0, 0) for n, text in enumerate(said))

    assert texts("Hello ", "", " there.") == "Hello there."
    assert texts("你好。", "再见。", "Bye.") == "你好。再见。 Bye."
