"""Runs that cut live sessions in every way and hold each to its undisturbed transcript; tests and `make bench-live`
share them. Seeded: a number that fails fails again, as far as processes and sockets can be the same twice."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import psutil

from tests.support.faults import Victim
from tests.support.live import LiveCaller, Message, Story, compare, undisturbed
from tests.support.live_recordings import FORMATS, LiveRecording, check_task, noise
from tests.support.proxy import Fault, FaultProxy, Kind, Way

# What a live server of these runs is started with: hashes of what was heard, and room for all.
SETTINGS = {"live_sessions": 1000, "live_sessions_each": 1000, "live_window_s": 60, "engine_live": 200}
SCRIPT = {"hear": "digest", "segment_s": 0.7}
_ENDINGS = (Kind.CUT, Kind.RESET, Kind.ABORT)  # noticed at once
_SILENT = (Kind.HALF_OPEN, Kind.SWALLOW)  # noticed by silence
_SILENCE_S = 1.5


@dataclass(slots=True)
class CutReport:
    cuts: Counter[str] = field(default_factory=Counter)  # that struck, by kind and way
    kills: Counter[str] = field(default_factory=Counter)  # of processes
    sessions: int = 0
    connections: int = 0
    finals: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Played:
    """A recording, and what it sounds like when nothing happens."""

    recording: LiveRecording
    finals: list[Message]


async def rehearse(victim: Victim, recordings: list[LiveRecording], speed: float | None = None) -> list[Played]:
    heard = (undisturbed(victim.port, victim.token(), recording, speed) for recording in recordings)
    return [Played(*pair) for pair in zip(recordings, await asyncio.gather(*heard), strict=True)]


def recordings(seed: object, count: int, seconds: float = 6.0) -> list[LiveRecording]:
    """In all formats, with utterances ended at random samples."""
    return [noise(f"{seed} {n}", seconds, *FORMATS[n % len(FORMATS)], finalizes=n % 4) for n in range(count)]


def plan(rng: random.Random, recording: LiveRecording) -> Fault:
    """One cut: at a random frame by the client, or at a random byte of either direction by the proxy. A third of them
    falls into the handshake and the first messages."""
    early = rng.random() < 0.35
    kind = rng.choice(_ENDINGS if rng.random() < 0.9 else _SILENT)
    if kind is Kind.ABORT:
        return Fault(kind, at=rng.randrange(3 if early else 2 + recording.samples // recording.frame // 3))
    way = rng.choice(list(Way))
    longest = {Way.UP: len(recording.audio) // 3, Way.DOWN: 4000}[way]
    return Fault(kind, way, rng.randrange(900 if early else longest))


async def one_session(
    victim: Victim, played: Played, faults: list[Fault], what: object, speed: float | None
) -> tuple[Story, Counter[str]]:
    """The nth fault meets the nth connection. Raises AssertionError unless all is as if nothing had happened."""
    breaks = [fault.at if fault.kind is Kind.ABORT else None for fault in faults]
    with FaultProxy(victim.port) as proxy:
        for fault in faults:
            proxy.arm(*([] if fault.kind is Kind.ABORT else [fault]))
        options = {"breaks": breaks, "silence_s": _SILENCE_S, "seed": what}
        story = await LiveCaller(proxy.port, victim.token(), played.recording, speed=speed, **options).run()
        struck = Counter(f"{fault.kind} {fault.way}" for link in proxy.links() for fault in link.struck)
    compare(story, played.finals, what)
    assert story.done is not None
    await check_kept(victim, story.done["task_id"], played)
    struck[Kind.ABORT] += story.aborted
    return story, +struck


async def check_kept(victim: Victim, task_id: str, played: Played, attempts: int = 5) -> None:
    """check_task, asked again when the gateway is killed meanwhile."""

    def check() -> None:
        for attempt in range(attempts):
            try:
                with victim.http() as http:
                    return check_task(http, task_id, played.recording, len(played.finals))
            except httpx2.TransportError:
                if attempt == attempts - 1:
                    raise
                time.sleep(0.5)
        return None

    await asyncio.to_thread(check)


async def cut_run(
    victim: Victim,
    library: list[Played],
    cuts: int,
    seed: object,
    *,
    lanes: int = 6,
    kill_every_s: tuple[float, float] = (1.0, 1.0),
    kills: int = 0,
    tell: Callable[[CutReport], None] = lambda _: None,
) -> CutReport:
    """Sessions, `lanes` at once, until `cuts` of them have struck; now and then, at most `kills` times, kill -9 of a
    gateway (`serve` waits longer and longer before it starts one again that does not live for ten seconds)."""
    report, numbers, began = CutReport(), iter(range(1_000_000)), time.monotonic()

    async def lane() -> None:
        while report.cuts.total() < cuts:
            number = next(numbers)
            rng = random.Random(f"{seed} session {number}")
            played = library[number % len(library)]
            faults = [plan(rng, played.recording) for _ in range(rng.randint(4, 14))]
            speed = rng.choice((6.0, 12.0, 25.0, None))
            story, struck = await one_session(victim, played, faults, f"seed {seed}, session {number}", speed)
            report.cuts += struck
            report.sessions += 1
            report.connections += len(story.contacts)
            report.finals += len(story.finals)
            tell(report)

    async def killer() -> None:
        rng = random.Random(f"{seed} kills")
        for _ in range(kills):
            await asyncio.sleep(rng.uniform(*kill_every_s))
            gateway = rng.choice(await asyncio.to_thread(victim.find, "cosygate.gateway"))
            gateway.kill()
            report.kills["gateway"] += 1

    async with _beside(killer()):
        await _all(lane() for _ in range(lanes))
    report.seconds = time.monotonic() - began
    return report


async def engine_kill_run(
    victim: Victim, library: list[Played], kills: int, seed: object, *, lanes: int = 4, speed: float = 2.0
) -> CutReport:
    """`lanes` sessions at once in an endless row, and an engine killed or stopped under them, `kills` times."""
    report, began = CutReport(), time.monotonic()
    numbers = iter(range(1_000_000))
    open_now: set[int] = set()

    async def lane() -> None:
        while report.kills.total() < kills:
            number = next(numbers)
            played = library[number % len(library)]
            open_now.add(number)
            caller = LiveCaller(victim.port, victim.token(), played.recording, speed=speed, silence_s=20)
            story = await caller.run()
            open_now.discard(number)
            compare(story, played.finals, f"seed {seed}, session {number}")
            assert len(story.contacts) == 1, f"an engine's death is not the client's business: {story.contacts}"
            assert story.done is not None
            await check_kept(victim, story.done["task_id"], played)
            report.sessions += 1
            report.finals += len(story.finals)

    async def killer() -> None:
        rng = random.Random(f"{seed} engines")
        for number in range(kills):
            await asyncio.to_thread(wait_engines, victim)
            await asyncio.sleep(rng.uniform(0.5, 1.5))
            engine = await asyncio.to_thread(victim.engine, rng.randrange(2))
            assert open_now, "nobody speaks"
            if number % 2:
                engine.send_signal(signal.SIGSTOP)
                report.kills["SIGSTOP"] += 1
                # As long as it takes to notice; serve itself would replace it, but only after three unanswered probes.
                await asyncio.sleep(4.0)
            else:
                report.kills["SIGKILL"] += 1
            engine.kill()

    await _all([killer(), *(lane() for _ in range(lanes))])
    report.seconds = time.monotonic() - began
    return report


def wait_engines(victim: Victim, timeout_s: float = 60.0) -> None:
    """Until every engine answers."""
    deadline = time.monotonic() + timeout_s
    with victim.http() as http:
        while not all(engine["up"] for engine in http.get("/v1/models").json()["engines"]):
            assert time.monotonic() < deadline, "the engines did not come back"
            time.sleep(0.1)


@dataclass(frozen=True, slots=True)
class Restart:
    down_s: float  # from the kill until a gateway answers again
    resumed_s: list[float]  # of each stream: from then until it was told ready (negative: before our own question was)
    streams: int


async def restart_run(victim: Victim, library: list[Played], streams: int, kill_after_s: float = 2.0) -> Restart:
    """Streams in real time, and kill -9 of the only gateway in the middle of them."""
    connected: list[None] = []
    callers = [
        LiveCaller(
            victim.port,
            victim.token(),
            library[n % len(library)].recording,
            speed=1.0,
            seed=n,
            connected=lambda: connected.append(None),
        )
        for n in range(streams)
    ]

    async def kill() -> tuple[float, float]:
        while len(connected) < streams:
            await asyncio.sleep(0.02)
        await asyncio.sleep(kill_after_s)
        [gateway] = await asyncio.to_thread(victim.find, "cosygate.gateway")
        gateway.kill()
        killed = time.monotonic()
        await asyncio.to_thread(psutil.wait_procs, [gateway], 5)
        return killed, await asyncio.to_thread(answering, victim)

    (killed, ready), *stories = await _all([kill(), *(caller.run() for caller in callers)])
    for n, story in enumerate(stories):
        compare(story, library[n % len(library)].finals, f"stream {n}")
        await check_kept(victim, story.done["task_id"], library[n % len(library)])
    back = [next(c.ready for c in story.contacts if c.ready and c.ready > killed) for story in stories]
    return Restart(ready - killed, [at - ready for at in back], streams)


def answering(victim: Victim, timeout_s: float = 30.0) -> float:
    """When /readyz first says yes."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            if httpx2.get(f"{victim.url}/readyz", timeout=timeout_s).status_code == 200:
                return time.monotonic()
        except httpx2.TransportError:
            pass
        assert time.monotonic() < deadline, "the gateway did not come back"
        time.sleep(0.01)


async def _all(work: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    """The results in order; the first fault ends the others."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(item) for item in work]
    return [task.result() for task in tasks]


@asynccontextmanager
async def _beside(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """`work`, as long as the block lasts."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
