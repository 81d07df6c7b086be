"""A Hypothesis state machine drives a client, a real server and the cuts between them, against a model of what must
arrive: which samples every final covers, the digest of exactly those samples, ids without a gap or a repeat, and the
stored sound. The model knows the rules of docs/live.md alone."""

from __future__ import annotations

import hashlib
import json
import random
import struct
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from tests.support.faults import Victim, wait_for

PIECE = 16_000  # samples: the engine cuts a second after each restart point
FRAME = 1600
KILLS = 6  # of gateways, in all examples together: each takes seconds until there is another
_SERVER: list[Victim] = []
_KILLED: list[int] = []


def setup_module() -> None:
    folder = Path(tempfile.mkdtemp(prefix="cosygate-machine-"))
    script = {"hear": "digest", "segment_s": PIECE / 16_000}
    settings = {"workers": 2, "live_sessions_each": 1000, "live_window_s": 120, "restart_longest_s": 0.5}
    victim = Victim(folder / "data", script=script, **settings)
    _SERVER.append(victim.start())


def teardown_module() -> None:
    _SERVER.pop().kill()
    assert len(_KILLED) == KILLS


class LiveMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.server = _SERVER[0]
        self.stack = ExitStack()
        self.ws: ClientConnection | None = None
        self.random = random.Random(0)
        self.sound = bytearray()  # all of it, as it has to be stored
        self.breaks: list[tuple[int, int]] = []  # (an utterance ends here, the next begins here), rising
        self.at = 0  # sample up to which this connection has sent
        self.safe = 0
        self.finals: dict[int, dict[str, Any]] = {}
        self.session: dict[str, Any] = {}
        self.done: dict[str, Any] | None = None
        self.killed = False

    # --- the client --------------------------------------------------------------------------------------------------

    def dial(self, first: dict[str, Any]) -> dict[str, Any]:
        """Until somebody answers `ready`: a gateway may be starting again."""

        def attempt() -> dict[str, Any] | None:
            try:
                stack = ExitStack()
                url = f"ws://127.0.0.1:{self.server.port}/v1/live"
                headers = {"Authorization": f"Bearer {self.server.token()}"}
                options: dict[str, Any] = {
                    "compression": None,
                    "proxy": None,
                    "ping_interval": None,
                    "close_timeout": 0.2,
                }
                ws = stack.enter_context(connect(url, additional_headers=headers, open_timeout=10, **options))
                self.stack = stack
                ws.send(json.dumps(first))
                while (message := json.loads(ws.recv(timeout=10)))["type"] != "ready":
                    assert message["type"] != "error" or message["code"] not in ("gap", "live_protocol"), message
                self.ws = ws
                return dict(message)
            except (OSError, ConnectionClosed, TimeoutError, EOFError):
                return None

        return wait_for(attempt, "a gateway", 30.0, 0.1)

    def listen(self, until: str | None = None) -> None:
        """Takes in what has come; with `until`, up to the first message of that kind."""
        assert self.ws is not None
        while True:
            try:
                message = json.loads(self.ws.recv(timeout=15 if until else 0.01))
            except TimeoutError:
                assert until is None, f"waited for {until} in vain"
                return
            self.take(message)
            if message["type"] == until:
                return

    def take(self, message: dict[str, Any]) -> None:
        assert message["type"] != "error", message
        if message["type"] == "ack":
            assert self.safe <= message["safe"] <= message["samples"] <= self.samples
            self.safe = message["safe"]
        elif message["type"] == "final":
            known = self.finals.setdefault(message["id"], message)
            assert known == message, "a final has changed"
        elif message["type"] == "done":
            self.done = message

    @property
    def samples(self) -> int:
        return len(self.sound) // 2

    def push(self, start: int, end: int) -> None:
        assert self.ws is not None
        for at in range(start, end, FRAME):
            stop = min(end, at + FRAME)
            self.ws.send(struct.pack(">Q", at) + bytes(self.sound[2 * at : 2 * stop]))
        self.at = end

    # --- what happens ------------------------------------------------------------------------------------------------

    @initialize(seed=st.integers(0, 1_000_000))
    def start(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.session = self.dial({"type": "start", "sample_rate": 16_000})
        assert self.session["offset"] == 0

    connected = precondition(lambda self: self.ws is not None and self.done is None)
    apart = precondition(lambda self: self.ws is None and self.done is None)

    @connected
    @rule(samples=st.sampled_from([1, 700, 1600, 5000, 16_000, 40_000]))
    def speak(self, samples: int) -> None:
        start = self.samples
        self.sound += self.random.randbytes(2 * samples)
        self.push(start, self.samples)

    @connected
    @rule(back=st.integers(1, 20_000))
    def repeat(self, back: int) -> None:
        """What the server has already."""
        at = self.at
        self.push(max(0, at - back), at)

    @connected
    @rule()
    def finalize(self) -> None:
        assert self.ws is not None
        self.ws.send(json.dumps({"type": "finalize", "samples": self.samples}))
        if self.samples and (not self.breaks or self.breaks[-1][1] < self.samples):
            self.breaks.append((self.samples, self.samples))

    @connected
    @rule(samples=st.integers(1, 30_000))
    def lose(self, samples: int) -> None:
        """The client's own buffer overflowed, and it says so."""
        assert self.ws is not None
        start, end = self.samples, self.samples + samples
        self.ws.send(json.dumps({"type": "gap", "from": start, "to": end}))
        self.sound += bytes(2 * samples)
        self.breaks = [b for b in self.breaks if b != (start, start)]
        if self.breaks and self.breaks[-1][1] == start:  # one gap goes on
            start = self.breaks.pop()[0]
        self.breaks.append((start, end))
        self.at = end

    @connected
    @rule()
    def hear(self) -> None:
        assert self.ws is not None
        self.ws.send(json.dumps({"type": "ping"}))
        self.listen("pong")

    @connected
    @rule(half=st.booleans(), politely=st.booleans())
    def cut(self, half: bool, politely: bool) -> None:
        """In the middle of a frame, or between two; with and without a goodbye."""
        assert self.ws is not None
        if half:
            self.ws.socket.sendall(b"\x82\xfe\x0c\x88" + bytes(700))  # the head of a frame, and some of it
        if not politely:
            self.ws.socket.close()
        self.stack.close()
        self.ws = None

    @apart
    @rule()
    def come_back(self) -> None:
        last = max(self.finals, default=None)
        known = {k: self.session[k] for k in ("session", "resume_token")}
        ready = self.dial({"type": "resume", **known, "last_final": last})
        assert self.safe <= ready["offset"] <= self.samples
        self.again(ready["offset"])

    def again(self, offset: int) -> None:
        """Everything from `offset` on: sound, ends of utterances, gaps, each at its place."""
        assert self.ws is not None
        at = offset
        for stop, behind in self.breaks:
            if behind <= self.safe:
                continue
            if at < stop:
                self.push(at, stop)
                at = stop
            if stop == behind:
                self.ws.send(json.dumps({"type": "finalize", "samples": stop}))
            elif at < behind:
                self.ws.send(json.dumps({"type": "gap", "from": at, "to": behind}))
                at = behind
        self.push(at, self.samples)

    @precondition(lambda self: not self.killed)
    @rule(index=st.sampled_from([0, 1, None, None, None, None]))
    def kill_a_gateway(self, index: int | None) -> None:
        """Now and then. Once enough were killed, it is the connection alone that ends: what Hypothesis draws next may
        not depend on other examples."""
        if index is None:
            return
        self.killed = True
        if len(_KILLED) < KILLS:
            _KILLED.append(index)
            self.server.gateway(index).kill()
        if self.ws is not None:
            self.stack.close()
            self.ws = None

    @invariant()
    def finals_are_what_was_said(self) -> None:
        for number, final in self.finals.items():
            start, end = final["start_sample"], final["end_sample"]
            assert final["text"] == hashlib.sha256(self.sound[2 * start : 2 * end]).hexdigest()[:12], number

    def teardown(self) -> None:
        if self.session and self.done is None:
            if self.ws is None:
                self.come_back()
            assert self.ws is not None
            self.ws.send(json.dumps({"type": "end", "samples": self.samples}))
            self.listen("done")
            self.check()
        self.stack.close()

    def check(self) -> None:
        assert self.done is not None
        wanted = list(self.expected())
        told = [self.finals[n] for n in range(self.done["finals"])]
        assert sorted(self.finals) == list(range(len(told)))
        assert [(f["start_sample"], f["end_sample"]) for f in told] == wanted
        self.finals_are_what_was_said()
        assert self.done["samples"] == self.samples
        headers = {"Authorization": f"Bearer {self.server.token()}"}
        url = f"{self.server.url}/v1/task/{self.done['task_id']}"

        def ask(what: str) -> httpx2.Response | None:
            try:
                return httpx2.get(f"{url}/{what}", headers=headers, timeout=30)
            except httpx2.TransportError:  # a gateway was killed just now
                return None

        assert wait_for(lambda: ask("audio"), "the sound").content[44:] == bytes(self.sound)
        segments = wait_for(lambda: ask("transcript"), "the transcript").json()["segments"]
        assert [s["text"] for s in segments] == [f["text"] for f in told]

    def expected(self) -> Any:
        """The utterances: a second each from the restart point before, or up to where one has to end."""
        at = 0
        for stop, behind in [*self.breaks, (self.samples, self.samples)]:
            while at < stop:
                yield at, min(at + PIECE, stop)
                at = min(at + PIECE, stop)
            at = max(at, behind)


TestLiveMachine = LiveMachine.TestCase
TestLiveMachine.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, database=None, derandomize=True,
    phases=[Phase.generate],  # a failing run says all that happened; shrinking it would take many minutes
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
