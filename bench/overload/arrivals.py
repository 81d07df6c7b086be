"""The load generator: recordings that arrive when they are due, whatever became of those before (open loop).

Each is one request on a connection of its own, as from a crowd of strangers. One that is taken is asked about until it
has ended. Everything is measured from when the recording was due, so a generator that falls behind hides nothing. Its
plan is one JSON line on standard input; what it found goes to standard output.
"""

import asyncio
import contextlib
import gc
import json
import random
import sys
import time
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from typing import Any

import orjson
import uvloop

from bench.live.load import spread_of
from bench.recordings import wav

_ENDED = ("succeeded", "failed", "cancelled")
_OPEN = 5_000  # connections at once


@dataclass(frozen=True, slots=True)
class Crowd:
    """Recordings of one tenant."""

    name: str  # several crowds may share it: then they are counted together
    token: str
    rate: float  # a second; 0: closed loop
    workers: int = 0  # of the closed loop: each sends its next recording when its last has ended
    even: bool = False  # evenly spaced, instead of as chance has it (Poisson)
    ask_s: float = 0.1  # between two questions whether a recording has ended
    starts_s: float = 0.0  # after the others


@dataclass(frozen=True, slots=True)
class Plan:
    port: int
    crowds: tuple[Crowd, ...]
    seconds: float
    ramp_s: float  # of them, which are not counted
    audio_s: float  # of one recording
    service_s: float  # how long one takes at the least: before that it makes no sense to ask
    seed: int = 1
    patience_s: float = 60.0  # then a recording counts as lost, whether it was taken or not answered at all

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Plan":
        data = json.loads(text)
        return cls(**(data | {"crowds": tuple(Crowd(**crowd) for crowd in data["crowds"])}))


class Tally:
    """Of one name, in the counted time."""

    def __init__(self) -> None:
        self.sent = 0
        self.done: list[float] = []  # seconds until each of those that were due then had ended
        self.ended = 0  # in that time, whenever they were due
        self.refused: list[float] = []
        self.codes: Counter[str] = Counter()
        self.late: list[float] = []
        self.faults: list[str] = []

    def found(self, seconds: float) -> dict[str, Any]:
        told: dict[str, Any] = {"sent": self.sent, "codes": dict(self.codes), "faults": len(self.faults)}
        told["missing"] = self.sent - len(self.done) - len(self.refused)  # whatever became of them
        told |= {"done": len(self.done), "goodput": self.ended / seconds, "first_faults": self.faults[:3]}
        for name, values in (("done", self.done), ("refused", self.refused), ("late", self.late)):
            told |= {f"{name}_{part}": 1000 * value for part, value in spread_of(values).items()}
        return told


class Wire:
    """One connection of HTTP/1.1."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._token = token
        self._writer: asyncio.StreamWriter | None = None

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, dict[str, Any]]:
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        head = f"{method} {path} HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer {self._token}\r\n"
        self._writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:] if line)
        content = await self._reader.readexactly(int(headers.get("content-length", 0)))
        if headers.get("connection") == "close":
            self.close()
        return int(lines[0].split()[1]), orjson.loads(content)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class Arrivals:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._audio = wav(plan.audio_s)
        self._numbers = 0
        self._began = 0.0
        self._counted = 0.0  # from when on
        self._until = 0.0
        self._open: set[asyncio.Task[None]] = set()
        self.tallies: defaultdict[str, Tally] = defaultdict(Tally)

    async def run(self) -> dict[str, Any]:
        gc.collect()
        gc.freeze()
        self._began = time.perf_counter() + 0.2
        self._counted, self._until = self._began + self._plan.ramp_s, self._began + self._plan.seconds
        async with asyncio.TaskGroup() as crowds:
            for number, crowd in enumerate(self._plan.crowds):
                for _ in range(crowd.workers):
                    crowds.create_task(self._in_turn(crowd))
                if crowd.rate:
                    crowds.create_task(self._arriving(crowd, random.Random(1000 * self._plan.seed + number)))
        pending = (await asyncio.wait(self._open, timeout=self._plan.patience_s))[1] if self._open else ()
        for one in pending:  # each is counted as a fault
            one.cancel()
        await asyncio.gather(*pending, return_exceptions=True)
        return {name: tally.found(self._plan.seconds - self._plan.ramp_s) for name, tally in self.tallies.items()}

    async def _in_turn(self, crowd: Crowd) -> None:
        while (now := time.perf_counter()) < self._until:
            await self._one(crowd, now)

    async def _arriving(self, crowd: Crowd, chance: random.Random) -> None:
        due = self._began + crowd.starts_s + chance.random() / crowd.rate
        while due < self._until:
            if (wait_s := due - time.perf_counter()) > 0:
                await asyncio.sleep(wait_s)
            if len(self._open) >= _OPEN:
                self.tallies[crowd.name].faults.append("the generator has too many open")
            else:
                one = asyncio.create_task(self._one(crowd, due))
                self._open.add(one)
                one.add_done_callback(self._open.discard)
            due += 1 / crowd.rate if crowd.even else chance.expovariate(crowd.rate)

    async def _one(self, crowd: Crowd, due: float) -> None:
        tally, wire = self.tallies[crowd.name], Wire(self._plan.port, crowd.token)
        self._numbers += 1
        path = f"/v1/audio/o{self._plan.seed}-{self._numbers}/0?is_last=1"
        counts = due >= self._counted
        if counts:
            tally.sent += 1
            tally.late.append(time.perf_counter() - due)
        try:
            async with asyncio.timeout(self._plan.patience_s):
                status, answer = await wire.ask("PUT", path, self._audio)
                if status != 202:
                    self._refused(tally, counts, status, answer, due)
                    return
                ended = await self._ended(wire, answer["task_id"], crowd.ask_s)
            if ended["state"] != "succeeded":
                tally.faults.append(str(ended.get("error")))
                return
            now = time.perf_counter()
            tally.ended += self._counted <= now < self._until
            if counts:
                tally.done.append(now - due)
        except asyncio.CancelledError:
            tally.faults.append(f"still under way {self._plan.patience_s:g} s after the last had come")
            raise
        except Exception as error:
            tally.faults.append(repr(error))
        finally:
            wire.close()

    def _refused(self, tally: Tally, counts: bool, status: int, answer: dict[str, Any], due: float) -> None:
        if status not in (429, 503):
            tally.faults.append(f"{status} {answer}")
        elif counts:
            tally.refused.append(time.perf_counter() - due)
            tally.codes[answer["code"]] += 1

    async def _ended(self, wire: Wire, task_id: str, ask_s: float) -> dict[str, Any]:
        await asyncio.sleep(self._plan.service_s)
        while True:
            _, task = await wire.ask("GET", f"/v1/task/{task_id}")
            if task.get("state") in _ENDED:
                return task
            await asyncio.sleep(ask_s)


def main() -> None:
    plan = Plan.from_json(sys.stdin.readline())
    with contextlib.suppress(KeyboardInterrupt):
        print(json.dumps(uvloop.run(Arrivals(plan).run())), flush=True)


if __name__ == "__main__":
    main()
