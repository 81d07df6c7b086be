"""The slow sockets, in a process of their own: half heads, bodies that drip, silence. One that is cut off is opened
again. Its plan is one JSON line on standard input; it says `open` once all are, and ends, with what it found, at the
next line or when its input ends."""

import asyncio
import contextlib
import json
import sys
from dataclasses import asdict, dataclass
from typing import Any

import uvloop

KINDS = ("heads", "bodies", "silent")
_BODY_BYTES = 100_000  # as declared; never so many come
_AGAIN_S = 0.05  # before one that was cut off at once is opened again
_SAMPLE_S = 0.1
_OPEN_S = 20.0


@dataclass(frozen=True, slots=True)
class DripPlan:
    port: int
    token: str
    sockets: int
    drip_s: float

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Sockets:
    def __init__(self, plan: DripPlan) -> None:
        self._plan = plan
        self._open = 0
        self._all = asyncio.Event()  # they have all been open at once
        self._least = plan.sockets
        self._opened = self._cut = 0
        self._answers: dict[str, int] = {}
        self._faults: list[str] = []

    async def run(self, lines: asyncio.StreamReader) -> dict[str, Any]:
        async with asyncio.TaskGroup() as group:
            slow = [group.create_task(self._one(n)) for n in range(self._plan.sockets)]
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._all.wait(), _OPEN_S)
            if self._all.is_set():
                print("open", flush=True)
                slow.append(group.create_task(self._sample()))
                await lines.readline()
            for task in slow:
                task.cancel()
        return {
            "least_open": self._least,
            "opened": self._opened,
            "cut": self._cut,
            "answers": self._answers,
            "faults": self._faults[:3],
        }

    async def _sample(self) -> None:
        while True:
            self._least = min(self._least, self._open)
            await asyncio.sleep(_SAMPLE_S)

    async def _one(self, number: int) -> None:
        await asyncio.sleep(self._plan.drip_s * number / self._plan.sockets)  # strangers do not keep step
        while True:
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._plan.port)
            except OSError as error:
                self._faults.append(repr(error))
                await asyncio.sleep(1.0)
                continue
            self._open, self._opened = self._open + 1, self._opened + 1
            if self._open == self._plan.sockets:
                self._all.set()
            try:
                await self._drip(reader, writer, number)
            finally:
                self._open -= 1
                writer.close()
            self._cut += 1
            await asyncio.sleep(_AGAIN_S)

    async def _drip(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        """Until the server has had enough."""
        kind = KINDS[number % len(KINDS)]
        cut = asyncio.create_task(reader.read(4096))
        try:
            writer.write(self._begin(kind, number))
            while not (await asyncio.wait({cut}, timeout=self._plan.drip_s))[0]:
                if kind != "silent":
                    writer.write(b"x")
            with contextlib.suppress(OSError):
                status = cut.result()[9:12].decode("latin-1")  # nothing: closed without a word
                self._answers[status] = self._answers.get(status, 0) + 1
        finally:
            cut.cancel()

    def _begin(self, kind: str, number: int) -> bytes:
        if kind == "heads":
            return b"GET /health HTTP/1.1\r\nHost: b\r\nX-Slow: "
        if kind == "silent":
            return b""
        head = (
            f"PUT /v1/audio/slow-{number}/0?is_last=1 HTTP/1.1\r\nHost: b\r\nAuthorization: Bearer {self._plan.token}"
        )
        return f"{head}\r\nContent-Length: {_BODY_BYTES}\r\n\r\n".encode()


async def _input() -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    return reader


async def run() -> dict[str, Any]:
    lines = await _input()
    plan = DripPlan(**json.loads(await lines.readline()))
    return await Sockets(plan).run(lines)


def main() -> None:
    with contextlib.suppress(KeyboardInterrupt):
        print(json.dumps(uvloop.run(run())), flush=True)


if __name__ == "__main__":
    main()
