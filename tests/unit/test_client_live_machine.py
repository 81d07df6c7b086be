"""The live client's state against a model server: whatever is cut, lost or forgotten, what arrives is what was said."""

from __future__ import annotations

import json
import random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from cosygate.client import Done, Final, Gap
from cosygate.client.live_core import LiveCore, Stream

TAPE = random.Random(3).randbytes(1 << 20)  # what is said: wrong places show
UTTERANCE = 700  # samples after which the model server decides by itself


class ModelServer:
    """Keeps the protocol in the simplest way, and everything that it heard."""

    def __init__(self, unit: int) -> None:
        self.unit = unit
        self.heard = bytearray()
        self.gaps: list[tuple[int, int]] = []
        self.finals: list[dict[str, Any]] = []
        self.safe = 0
        self.finalized: set[int] = set()  # on this connection
        self.offset = 0  # of this connection
        self.done = False

    @property
    def samples(self) -> int:
        return len(self.heard) // self.unit

    def hello(self, text: str, fall_back: int) -> list[str]:
        data = json.loads(text)
        offset = max(self.safe, self.samples - fall_back)
        del self.heard[offset * self.unit :]
        self.finalized, self.offset = set(), offset
        answers = [say("ready", session="s", resume_token="t", offset=offset, window_s=60)]
        assert data["type"] == "start" or (data["session"], data["resume_token"]) == ("s", "t")
        last = data.get("last_final")
        answers += [say("final", **final) for final in self.finals[0 if last is None else last + 1 :]]
        return answers + (self._end() if self.done else [])

    def take(self, message: str | bytes) -> list[str]:
        if isinstance(message, bytes):
            index, audio = int.from_bytes(message[:8], "big"), message[8:]
            assert audio
            assert index <= self.samples, "a gap that was not told"
            self.heard += audio[(self.samples - index) * self.unit :]
            finals = []
            while self.samples - self.safe >= UTTERANCE:
                finals.append(self._final(self.safe + UTTERANCE))
            return [*finals, say("ack", samples=self.samples, safe=self.safe)]
        data = json.loads(message)
        if data["type"] == "gap":
            assert data["from"] == self.samples
            self.gaps.append((data["from"], data["to"]))
            self.heard += bytes((data["to"] - data["from"]) * self.unit)
            return [say("ack", samples=self.samples, safe=self.safe)]
        if data["type"] == "finalize":
            at = data["samples"]
            assert at == self.samples or at <= self.offset, "said at its own sample, or again"
            self.finalized.add(at)
            return [self._final(at)] if at > self.safe else []
        assert data == {"type": "end", "samples": self.samples}
        rest = [self._final(self.samples)] if self.samples > self.safe else []
        self.done = True
        return rest + self._end()

    def _final(self, end: int) -> str:
        start, self.safe = self.safe, end
        final = {
            "id": len(self.finals),
            "start": start,
            "end": end,
            "start_sample": start,
            "end_sample": end,
            "text": "x",
        }
        self.finals.append(final)
        return say("final", **final)

    def _end(self) -> list[str]:
        return [say("done", task_id="s", finals=len(self.finals), samples=self.samples)]


def say(kind: str, **members: Any) -> str:
    return json.dumps({"type": kind, **members})


class LiveMachine(RuleBasedStateMachine):
    """Messages wait in two queues; a cut loses both."""

    @initialize(form=st.sampled_from(["s16le", "mulaw"]), keep_all=st.booleans())
    def begin(self, form: str, keep_all: bool) -> None:
        self.core = LiveCore(Stream(8_000, form), buffer_s=1.0, chunk_s=0.02, keep_all=keep_all)
        self.unit = self.core.ring.unit
        self.server = ModelServer(self.unit)
        self.open = False
        self.up: list[str | bytes] = []
        self.down: list[str] = []
        self.said = 0
        self.dropped = 0  # the ring gave up everything before
        self.marks: set[int] = set()
        self.events: list[Any] = []

    @precondition(lambda self: not self.core.ended)
    @rule(samples=st.integers(1, 3_000))
    def speak(self, samples: int) -> None:
        for at in range(self.said, self.said + samples, self.core.ring.block):
            count = min(self.core.ring.block, self.said + samples - at)
            before = self.core.ring.start
            if not self.core.room(count):
                assert self.core.connected or self.core.keep_all
                assert self.core.ring.start + self.core.ring.block > self.core.acked
                samples = at - self.said
                break
            if self.core.ring.start > before:
                self.dropped = self.core.ring.start
                if self.core.connected or self.core.keep_all:
                    assert self.dropped <= self.core.acked
            self.core.append(TAPE[at * self.unit : (at + count) * self.unit])
            assert self.core.ring.end - self.core.ring.start <= self.core.ring.capacity
        self.said += samples

    @precondition(lambda self: not self.core.ended)
    @rule()
    def finalize(self) -> None:
        self.core.finalize()
        if self.said > self.core.safe:
            self.marks.add(self.said)

    @precondition(lambda self: not self.open)
    @rule(fall_back=st.integers(0, 2_000))
    def connect(self, fall_back: int) -> None:
        self.open = True
        self.down += self.server.hello(self.core.hello(), fall_back)

    @precondition(lambda self: self.open)
    @rule(count=st.integers(1, 60), flush=st.booleans())
    def send(self, count: int, flush: bool) -> None:
        for _ in range(count):
            message, event = self.core.next_message(flush=flush)
            if event:
                self.events.append(event)
            if message is None:
                assert not flush or not self.core.holds_back
                return
            self.up.append(message)

    @precondition(lambda self: self.up)
    @rule(count=st.integers(1, 60))
    def arrive(self, count: int) -> None:
        for message in self.up[:count]:
            self.down += self.server.take(message)
        del self.up[:count]

    @precondition(lambda self: self.down)
    @rule(count=st.integers(1, 60))
    def answer(self, count: int) -> None:
        for text in self.down[:count]:
            self.events += self.core.received(text)
        del self.down[:count]

    @precondition(lambda self: self.open)
    @rule(reached=st.integers(0, 20))
    def cut(self, reached: int) -> None:
        """Some of what was on its way still arrives, the rest does not."""
        for message in self.up[:reached]:
            self.server.take(message)
        self.up, self.down, self.open = [], [], False
        assert self.core.closed(1006).retryable

    @rule()
    def end(self) -> None:
        if self.said > 20_000:
            self.core.end()

    def teardown(self) -> None:
        if not hasattr(self, "core"):
            return
        if self.open:
            self.cut(0)
        self.core.end()
        self.connect(500)
        due = {mark for mark in self.marks if mark >= self.core.safe}
        while not self.core.done:
            self.answer(60)
            self.send(60, False)
            self.arrive(60)
            assert self.up or self.down or self.core.done, "nobody has anything to say"
        assert self.core.missing() is None
        assert self.server.samples == self.said
        gaps = self.server.gaps
        expected = bytearray(TAPE[: self.said * self.unit])
        for start, end in gaps:
            assert end <= self.dropped, "a gap, and nothing was dropped"
            expected[start * self.unit : end * self.unit] = bytes((end - start) * self.unit)
        assert self.server.heard == expected
        finals = [event for event in self.events if isinstance(event, Final)]
        assert [final.id for final in finals] == list(range(len(self.server.finals)))
        assert isinstance(self.events[-1], Done)
        hidden = {mark for mark in due for start, end in gaps if start < mark < end}
        assert due - hidden <= self.server.finalized
        told = {(round(e.start * 8_000), round(e.end * 8_000)) for e in self.events if isinstance(e, Gap)}
        assert told >= set(gaps)


LiveMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
test_machine = LiveMachine.TestCase
