"""The load generator of `rate`: recordings as fast as they are taken, each asked about until its result is there.

As light as Python gets, for it shares the cores with what it measures. Its plan is one line of JSON on standard input;
it says that it is ready, is told to go, and tells what it found. Times are of the monotonic clock, which all processes
of a machine share.
"""

import asyncio
import gc
import json
import resource
import sys
import time
from dataclasses import dataclass
from typing import Any

import uvloop

from bench.load import BadRun
from bench.overload.arrivals import Wire
from bench.recordings import wav

_ASK_S = 0.02
_PATIENCE_S = 300.0


@dataclass(frozen=True, slots=True)
class Plan:
    port: int
    token: str
    name: str  # of its recordings; two must not have the same
    count: int
    connections: int
    audio_s: float
    wait: bool = True  # for the results


class Sending:
    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._audio = wav(plan.audio_s)
        self._tasks: list[str] = []
        self._new = asyncio.Event()
        self._sent = 0.0

    async def run(self) -> dict[str, Any]:
        before, began = cpu_s(), time.monotonic()
        numbers = iter(range(self._plan.count))
        async with asyncio.timeout(_PATIENCE_S), asyncio.TaskGroup() as group:
            for _ in range(self._plan.connections):
                group.create_task(self._send(numbers))
            if self._plan.wait:
                group.create_task(self._ask())
        ended = time.monotonic()
        return {"began": began, "sent": self._sent, "ended": ended, "cpu": cpu_s() - before, "tasks": self._tasks}

    async def _send(self, numbers: Any) -> None:
        wire = Wire(self._plan.port, self._plan.token)
        try:
            for number in numbers:
                path = f"/v1/audio/{self._plan.name}-{number}/0?is_last=1"
                status, answer = await wire.ask("PUT", path, self._audio)
                if status != 202:
                    raise BadRun(f"{path}: {status} {answer}")
                self._tasks.append(answer["task_id"])
                self._new.set()
            self._sent = time.monotonic()
        finally:
            wire.close()

    async def _ask(self) -> None:
        """For each in turn, on one connection, until all have succeeded."""
        wire = Wire(self._plan.port, self._plan.token)
        try:
            for number in range(self._plan.count):
                while len(self._tasks) <= number:
                    self._new.clear()
                    await self._new.wait()
                await succeeded(wire, self._tasks[number])
        finally:
            wire.close()


async def succeeded(wire: Wire, task_id: str) -> None:
    """Raises BadRun when it ended otherwise."""
    while True:
        status, task = await wire.ask("GET", f"/v1/task/{task_id}")
        if task.get("state") == "succeeded":
            return
        if status != 200 or task["state"] not in ("queued", "running"):
            raise BadRun(f"task {task_id}: {status} {task}")
        await asyncio.sleep(_ASK_S)


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def say(**members: Any) -> None:
    print(json.dumps(members), flush=True)


async def _main() -> None:
    sending = Sending(Plan(**json.loads(sys.stdin.readline())))
    gc.collect()
    gc.freeze()
    say(at="ready")
    if sys.stdin.readline():  # else whoever started it is gone
        say(**await sending.run())


if __name__ == "__main__":
    uvloop.run(_main())
