"""The load generator: many live streams in real time from one process, as light as Python gets.

It shares the cores with the server it measures, so it speaks just enough of WebSocket itself: frames are joined from
parts made beforehand (under the masking key 0, which leaves the audio as it is), and of what comes back only acks and
finals are looked into. Its plan is one JSON line on standard input; what it found goes to standard output.
"""

import asyncio
import contextlib
import gc
import json
import math
import resource
import sys
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import orjson
import uvloop

from bench.recordings import noise

RATE, FRAME = 16_000, 1600
FRAME_S = FRAME / RATE
_AUDIO = noise(FRAME * 2)
_HEAD = b"\x82\xfe" + (8 + len(_AUDIO)).to_bytes(2, "big") + bytes(4)
_PING_S = 5.0
_CONNECT_PER_S = 100
_DONE_S = 60.0


@dataclass(frozen=True, slots=True)
class LoadPlan:
    port: int
    token: str
    streams: int
    warm_s: float
    seconds: float
    idle: bool = False  # connected and silent but for pings
    interim: bool = True
    spread_s: float = 5.0  # the starts are spread over so much: people do not end their sentences all at once


class Tally:
    """What all streams found in the steady time."""

    def __init__(self) -> None:
        self.since = math.inf
        self.acks: list[float] = []
        self.finals: list[float] = []
        self.late: list[float] = []
        self.errors: list[str] = []
        self.done = 0
        self.open = 0
        self.partials = 0
        self.closed = asyncio.Event()  # all of them are


def text_frame(message: dict[str, Any]) -> bytes:
    data = orjson.dumps(message)
    size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return b"\x81" + size + bytes(4) + data


class Stream(asyncio.Protocol):
    __slots__ = ("_plan", "_rest", "_shaken", "_tally", "_waiting", "frames", "ready", "sent", "transport")

    def __init__(self, plan: LoadPlan, tally: Tally) -> None:
        self._plan = plan
        self._tally = tally
        self._rest = b""
        self._shaken = False
        self._waiting: deque[tuple[int, float]] = deque()  # sample behind a frame, when it was sent
        self.ready = asyncio.get_running_loop().create_future()
        self.frames = 0
        self.sent: list[float] = []  # when the nth frame was sent

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        lines = ["GET /v1/live HTTP/1.1", f"Host: 127.0.0.1:{self._plan.port}", "Upgrade: websocket"]
        lines += ["Connection: Upgrade", "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==", "Sec-WebSocket-Version: 13"]
        lines += [f"Authorization: Bearer {self._plan.token}"]
        transport.write(("\r\n".join(lines) + "\r\n\r\n").encode())

    def send(self) -> None:
        """The next 100 ms."""
        index = self.frames * FRAME
        now = time.perf_counter()
        self.sent.append(now)
        self._waiting.append((index + FRAME, now))
        self.frames += 1
        self.transport.write(b"".join((_HEAD, index.to_bytes(8, "big"), _AUDIO)))

    def say(self, message: dict[str, Any]) -> None:
        self.transport.write(text_frame(message))

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        if not self._shaken:
            at = data.find(b"\r\n\r\n") + 4
            if at < 4:
                self._rest = data
                return
            if not data.startswith(b"HTTP/1.1 101"):
                self._tally.errors.append(data[:200].decode("latin-1"))
                self.transport.abort()
                return
            self._shaken = True
            self.say({"type": "start", "sample_rate": RATE, "interim": self._plan.interim})
        while size - at >= 2:
            length, head = data[at + 1], at + 2
            if length == 126:
                if size - at < 4:
                    break
                length, head = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            if size < head + length:
                break
            self._message(data[at], data[head : head + length], now)
            at = head + length
        self._rest = data[at:]

    def _message(self, opcode: int, payload: bytes, now: float) -> None:
        if opcode == 0x81:
            if payload.startswith(b'{"type":"partial"'):
                self._tally.partials += 1
                return
            message = orjson.loads(payload)
            kind = message["type"]
            if kind == "ack":
                self._on_ack(message["samples"], now)
            elif kind == "final":
                sent = self.sent[-(-message["end_sample"] // FRAME) - 1]
                if sent >= self._tally.since:
                    self._tally.finals.append(now - sent)
            elif kind == "ready":
                self._tally.open += 1
                self.ready.set_result(None)
            elif kind == "done":
                self._tally.done += message["samples"] == self.frames * FRAME
            elif kind == "error":
                self._tally.errors.append(payload.decode())
        elif opcode == 0x89:
            self.transport.write(b"\x8a" + bytes([0x80 | len(payload)]) + bytes(4) + payload)

    def _on_ack(self, samples: int, now: float) -> None:
        waiting, tally = self._waiting, self._tally
        while waiting and waiting[0][0] <= samples:
            sent = waiting.popleft()[1]
            if sent >= tally.since:
                tally.acks.append(now - sent)

    def connection_lost(self, exc: Exception | None) -> None:
        self._tally.open -= 1
        if self._tally.open <= 0:
            self._tally.closed.set()
        if not self.ready.done():
            self.ready.set_exception(ConnectionError(f"not ready: {exc} {self._tally.errors[-1:]}"))


async def play(streams: list[Stream], plan: LoadPlan, tally: Tally, until: float) -> None:
    """Every stream's frames when they are due, evenly spread over each 100 ms."""
    count = len(streams)
    tenths = max(1, round(plan.spread_s / FRAME_S))
    began = time.perf_counter() + 0.1
    # (due, number): one pass through it is 100 ms; a stream joins in its own tenth of the spread
    turn = 0
    while True:
        base = began + turn * FRAME_S
        if base >= until:
            return
        for number, stream in enumerate(streams):
            if number % tenths > turn:
                continue
            due = base + number / count * FRAME_S
            now = time.perf_counter()
            if now < due:
                await asyncio.sleep(due - now)
                now = time.perf_counter()
            if due >= tally.since:
                tally.late.append(now - due)
            stream.send()
        turn += 1


async def keep_alive(streams: list[Stream], until: float) -> None:
    while time.perf_counter() < until:
        for stream in streams:
            stream.say({"type": "ping"})
        await asyncio.sleep(min(_PING_S, max(0.0, until - time.perf_counter())))


def say(**members: Any) -> None:
    print(json.dumps(members), flush=True)


async def run(plan: LoadPlan) -> dict[str, Any]:
    loop, tally, streams = asyncio.get_running_loop(), Tally(), []
    for _ in range(plan.streams):
        _, stream = await loop.create_connection(lambda: Stream(plan, tally), "127.0.0.1", plan.port)
        await asyncio.wait_for(stream.ready, 30)
        streams.append(stream)
        if plan.idle:
            await asyncio.sleep(1 / _CONNECT_PER_S)
    gc.collect()
    gc.freeze()
    spread = 0.0 if plan.idle else plan.spread_s
    steady = time.perf_counter() + spread + plan.warm_s
    until = steady + plan.seconds
    work = keep_alive(streams, until) if plan.idle else play(streams, plan, tally, until)
    playing = asyncio.create_task(work)
    await asyncio.sleep(steady - time.perf_counter())
    tally.since = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF)
    say(at="steady")
    await playing
    seconds = time.perf_counter() - tally.since
    after = resource.getrusage(resource.RUSAGE_SELF)
    say(at="over", seconds=seconds)
    if not plan.idle:
        await end(streams, tally)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = {
        "seconds": seconds,
        "done": tally.done,
        "open": tally.open,
        "partials": tally.partials,
        "errors": tally.errors[:5],
        "load_cpu": 100 * cpu / seconds,
        "frames": len(tally.late),
        "acked": len(tally.acks),
    }
    for name, values in (("ack", tally.acks), ("final", tally.finals), ("late", tally.late)):
        found |= {f"{name}_{part}": 1000 * value for part, value in spread_of(values).items()}
    return found


async def end(streams: list[Stream], tally: Tally) -> None:
    """Every stream says end; all must be told that nothing is missing."""
    for stream in streams:
        stream.say({"type": "end", "samples": stream.frames * FRAME})
        await asyncio.sleep(0.005)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(tally.closed.wait(), _DONE_S)


def spread_of(values: list[float]) -> dict[str, float]:
    ranked = sorted(values) or [math.nan]
    return {
        "p50": ranked[len(ranked) // 2],
        "p99": ranked[min(len(ranked) - 1, len(ranked) * 99 // 100)],
        "max": ranked[-1],
    }


def main() -> None:
    plan = LoadPlan(**json.loads(sys.stdin.readline()))
    say(at="end", found=uvloop.run(run(plan)))


if __name__ == "__main__":
    main()
