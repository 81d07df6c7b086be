"""A live session's state, without a socket, a thread or a clock: what to send next, and what arrived means.

The promise: whatever is cut, the server hears every sample once and in order, and the user sees every final once. What
the buffer could not keep is told, as `gap` to the server and as Gap to the user. docs/live.md has the protocol.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from cosygate.client.errors import BadAnswer, ClientError, Conflict, from_close
from cosygate.client.live_records import Done, Final, Gap, LiveEvent, Partial, SpeechEnded, SpeechStarted
from cosygate.client.live_ring import Ring

UNITS = {"s16le": 2, "mulaw": 1, "alaw": 1, "webm-opus": 1}  # bytes that an index counts as one
RATES = frozenset({8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000})
MAX_KEPT_BYTES = 64 * 1024 * 1024
MAX_MARKS = 10_000  # finalize marks that may have to be sent again; more only if marks are milliseconds apart
WEBM_BYTES_S = 64_000  # Opus' highest rate, 510 kbit/s
DECODED_RATE = 16_000  # what the server counts in a webm stream that it has decoded
INDEX_BYTES = 8
_TAKEN_OVER = 4409
_AGAIN = frozenset({1000, 1001, 1002, 1005, 1006, 1011, 1012, 1013, 1014, 4008, 4408, 4503})  # closes worth a reconnect


@dataclass(frozen=True, slots=True)
class Stream:
    """What is sent and how. Raises ValueError."""

    sample_rate: int
    format: str = "s16le"
    language: str | None = None
    model: str | None = None
    options: Mapping[str, str] = field(default_factory=dict)
    interim: bool = True

    def __post_init__(self) -> None:
        if self.format not in UNITS:
            raise ValueError(f"format is one of {', '.join(UNITS)}")
        if self.sample_rate not in RATES and not self.is_webm:
            raise ValueError(f"sample_rate is one of {', '.join(map(str, sorted(RATES)))}")

    @property
    def is_webm(self) -> bool:
        return self.format == "webm-opus"

    @property
    def units_per_s(self) -> int:
        return WEBM_BYTES_S if self.is_webm else self.sample_rate

    def start(self) -> str:
        asked = {"language": self.language, "model": self.model, "options": dict(self.options)}
        return _message(
            "start",
            sample_rate=self.sample_rate,
            format=self.format,
            interim=self.interim,
            **{k: v for k, v in asked.items() if v},
        )


class LiveCore:
    """Not thread-safe. `keep_all`: the source can wait, so nothing that was not acknowledged is ever dropped."""

    def __init__(self, stream: Stream, *, buffer_s: float = 120.0, chunk_s: float = 0.1, keep_all: bool = False):
        if buffer_s < 1 or not 0.02 <= chunk_s <= 0.25:
            raise ValueError("buffer_s is at least 1, chunk_s 0.02-0.25")
        unit, rate = UNITS[stream.format], stream.units_per_s
        self.stream = stream
        self.ring = Ring(unit, round(rate * chunk_s), min(round(rate * buffer_s), MAX_KEPT_BYTES // unit))
        self.keep_all = keep_all or stream.is_webm  # a webm stream with a hole cannot be decoded
        self.session: str | None = None
        self.resume_token: str | None = None
        self.window_s = 0.0  # how long the server keeps the session open without a connection
        self.finals: list[Final] = []
        self.done: Done | None = None
        self.moved_s = 0.0  # the server asked to wait so long before the next connection
        self.connected = False  # `ready` has come on this connection
        self.acked = 0  # what this connection's server has
        self.safe = 0
        self.progress = 0  # rises whenever the session gets on
        self.ended = False
        self._next = 0  # index of the next sample to send on this connection
        self._marks: deque[int] = deque()  # finalize, rising
        self._marked = 0  # how many of them this connection has seen
        self._end_sent = False
        self._error: Mapping[str, Any] | None = None  # the server's `error` on this connection
        self._asked = False  # this connection said resume
        self._late = False  # a resume of ours got no answer: the server may get to it when we are connected anew
        self._gap_forgiven = -1  # `progress` when the server last missed audio

    # --- what the user does

    def room(self, units: int) -> bool:
        """Makes room for so many more (a block at most), if it may. What the server has goes first: it matters only to
        a server that loses its journal. Then, without a connection, the oldest. False: wait for the server."""
        while not self.ring.fits(units):
            if self.ring.start + self.ring.block > self.acked and (self.connected or self.keep_all):
                return False
            self.ring.drop_oldest()
        return True

    def append(self, audio: bytes | memoryview) -> None:
        """Whole samples, for which there is room."""
        self.ring.append(audio)

    def finalize(self) -> None:
        """The open utterance ends here."""
        at = self.ring.end
        if at and (not self._marks or self._marks[-1] < at) and at > self.safe:
            self._marks.append(at)
            if len(self._marks) > MAX_MARKS:
                self._forget_mark()

    def end(self) -> None:
        self.ended = True

    # --- what to send

    def hello(self) -> str:
        """The first message of a connection."""
        if self.session is None:
            return self.stream.start()
        self._asked = True
        last = len(self.finals) - 1 if self.finals else None
        mine = {"session": self.session, "resume_token": self.resume_token, "last_final": last}
        return _message("resume", **mine, interim=self.stream.interim)

    @property
    def holds_back(self) -> bool:
        """A piece of a frame waits for the rest of it."""
        return self.connected and self._next < self.ring.end and not self._end_sent

    @property
    def unanswered(self) -> bool:  # audio was sent that the server has not acknowledged
        return self.connected and self.acked < self._next

    def next_message(self, *, flush: bool) -> tuple[str | bytes | None, LiveEvent | None]:
        """What to send now, None for nothing, and what to tell the user about it. `flush`: an unfinished frame too."""
        if not self.connected or self._end_sent or self.done:
            return None, None
        while self._marked < len(self._marks) and self._marks[self._marked] <= self._next:
            self._marked += 1
            return _message("finalize", samples=self._marks[self._marked - 1]), None
        if self._next < self.ring.start:
            return self._gap()
        until = self.ring.end if flush or self.ended else self.ring.whole_end
        if self._marked < len(self._marks):
            until = self._marks[self._marked]
        if self._next < until:
            index = self._next
            audio = self.ring.read(index, until)
            self._next += len(audio) // self.ring.unit
            return index.to_bytes(INDEX_BYTES, "big") + audio, None
        if self.ended:
            self._end_sent = True
            return _message("end", samples=self.ring.end), None
        return None, None

    def _gap(self) -> tuple[str, LiveEvent]:
        start, self._next = self._next, self.ring.start
        while self._marked < len(self._marks) and self._marks[self._marked] < self._next:
            del self._marks[self._marked]
        told = _message("gap", **{"from": start, "to": self._next})
        return told, Gap(start / self.stream.sample_rate, self._next / self.stream.sample_rate)

    def _forget_mark(self) -> None:
        self._marks.popleft()
        self._marked = max(0, self._marked - 1)

    # --- what arrives

    def received(self, text: str | bytes) -> list[LiveEvent]:
        """Takes one message of the server; what the user is to see of it. Raises BadAnswer."""
        try:
            data = json.loads(text) if isinstance(text, str) else None
            if not isinstance(data, dict):
                _unexpected("a message is not a JSON object")
            take = _TAKERS.get(str(data.get("type")))
            return take(self, data) if take else []
        except (KeyError, TypeError, ValueError, RecursionError) as error:
            raise BadAnswer(f"a live message is not as expected: {type(error).__name__}") from error

    def _ready(self, data: Mapping[str, Any]) -> list[LiveEvent]:
        session, offset = str(data["session"]), int(data["offset"])
        if self.session not in (None, session):
            _unexpected("another session answers")
        if not 0 <= offset <= self.ring.end:
            _unexpected(f"the server asks to continue from {offset}, and {self.ring.end} were recorded")
        self.session, self.resume_token = session, str(data["resume_token"])
        self.window_s = float(data["window_s"])
        self.acked = self._next = offset
        self._marked, self._end_sent = 0, False
        self.connected = True
        return []

    def _ack(self, data: Mapping[str, Any]) -> list[LiveEvent]:
        samples, safe = int(data["samples"]), int(data["safe"])
        if not safe <= samples <= self.ring.end:
            _unexpected(f"{samples} acknowledged, {safe} safe, of {self.ring.end}")
        if samples > self.acked or safe > self.safe:
            self.progress += 1
        self.acked = max(self.acked, samples)
        self.safe = max(self.safe, safe)
        self.ring.forget(self.safe)
        while self._marks and self._marks[0] < self.safe:
            self._forget_mark()
        return []

    def _final(self, data: Mapping[str, Any]) -> list[LiveEvent]:
        final = Final.parse(data)
        if final.id > len(self.finals):
            _unexpected(f"final {final.id} came after {len(self.finals) - 1}")
        if final.id < len(self.finals):
            return []
        self.finals.append(final)
        self.progress += 1
        return [final]

    def _left_out(self, data: Mapping[str, Any]) -> list[LiveEvent]:
        rate = DECODED_RATE if self.stream.is_webm else self.stream.sample_rate
        code = data.get("code")
        return [Gap(int(data["from"]) / rate, int(data["to"]) / rate, code if isinstance(code, str) else None)]

    def _moved(self, data: Mapping[str, Any]) -> list[LiveEvent]:
        self.moved_s = max(0.0, float(data["reconnect_in_ms"]) / 1000)
        return []

    def _done(self, data: Mapping[str, Any]) -> list[LiveEvent]:
        self.done = done = Done.parse(data)
        if done.finals != len(self.finals):
            _unexpected(f"{done.finals} finals were promised and {len(self.finals)} came")
        self.progress += 1
        if done.samples >= self.ring.end or self.stream.is_webm:
            return [done]
        rate = self.stream.sample_rate
        return [Gap(done.samples / rate, self.ring.end / rate), done]

    def _failed(self, data: Mapping[str, Any]) -> list[LiveEvent]:
        self._error = data
        return []

    def _heard(self, data: Mapping[str, Any]) -> list[LiveEvent]:
        kind: type[SpeechStarted | SpeechEnded] = SpeechStarted if data["type"] == "speech_started" else SpeechEnded
        return [kind(float(data["at"]))]

    def _partial(self, data: Mapping[str, Any]) -> list[LiveEvent]:
        return [Partial.parse(data)]

    # --- when a connection ends

    def closed(self, code: int) -> ClientError:
        """Forgets the connection, which ended with that close code (1006: it was cut), and says what that means:
        `retryable` is whether another one may do better."""
        error, self._error = self._error, None
        unanswered, self.connected = self._asked and not self.connected, False
        self._asked = False
        again = code in _AGAIN
        if code == _TAKEN_OVER and self._late:
            again, self._late = True, False  # perhaps by an attempt of our own that the server got to late
        elif unanswered and again:
            self._late = True
        if error is not None and error.get("code") == "gap" and self._gap_forgiven != self.progress:
            # The server lacks something that we thought it had: its `ready` says from where on, once.
            self._gap_forgiven = self.progress
            again = True
        return from_close(code, error, retryable=again)

    def missing(self) -> ClientError | None:
        """Of a session that is done: the error if the server finished it without all that was sent."""
        if self.done is None or (self.ended and self.done.samples == self.ring.end):
            return None
        detail = f"the server finished the session after {self.done.samples} of {self.ring.end} samples"
        return Conflict(detail, code="live_finished", extra={"task_id": self.done.task_id})


_TAKERS: dict[str, Callable[[LiveCore, Mapping[str, Any]], list[LiveEvent]]] = {
    "ready": LiveCore._ready,
    "ack": LiveCore._ack,
    "speech_started": LiveCore._heard,
    "speech_ended": LiveCore._heard,
    "partial": LiveCore._partial,
    "final": LiveCore._final,
    "gap": LiveCore._left_out,
    "moved": LiveCore._moved,
    "done": LiveCore._done,
    "error": LiveCore._failed,
}


def _message(kind: str, **members: Any) -> str:
    return json.dumps({"type": kind, **members}, separators=(",", ":"))


def _unexpected(detail: str) -> NoReturn:
    raise BadAnswer(detail)
