"""A room of real engines that come and go, and what is said to it: live sessions, over a real journal, and files."""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cosygate.adapters.blobs_disk import DiskStore
from cosygate.adapters.decoder_pcm import PcmDecoder
from cosygate.adapters.journal_disk import DiskJournal
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.live.listening import Listening
from cosygate.flows.live.session import Session
from cosygate.flows.live.sound import Sound
from cosygate.kit.clock import SystemClock, SystemRandomness
from cosygate.model.live import LiveFormat, LiveSession, LiveState
from cosygate.model.options import TranscribeOptions
from cosygate.model.timeline import Timeline
from cosygate.model.transcript import Segment
from cosygate.ports.engine import Accepted, Done, RecogniseConfig, SegmentFound
from cosygate.ports.names import LookupFailed
from cosygate.settings import Settings
from cosygate.wiring.engines import engine_room
from tests.support.engine_process import pieces
from tests.unit.test_live_listening import NoDecoder

RATE = 16_000
NAME = "engines.test"
Final = tuple[int, int, int, str]


class ToldNames:
    """A resolver that answers what it is told to; None: it fails."""

    def __init__(self, *found: str) -> None:
        self.found: tuple[str, ...] | None = found
        self.asked = 0

    async def addresses(self, name: str) -> tuple[str, ...]:
        assert name == NAME
        self.asked += 1
        if self.found is None:
            raise LookupFailed("as told")
        return self.found


def free_port() -> int:
    """On every address of loopback."""
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


@asynccontextmanager
async def room_of(names: ToldNames | None, **settings: Any) -> AsyncIterator[EngineRoom]:
    """As a gateway of these settings has it."""
    async with AsyncExitStack() as stack:
        clock, randomness = SystemClock(), SystemRandomness()
        yield engine_room(Settings(**settings), [], None, clock, randomness, stack, index=0, names=names)


async def until_up(room: EngineRoom, *keys: str) -> None:
    """These, and no others, are its engines, and have answered."""
    async with asyncio.timeout(10):
        while sorted(e.key for e in room.status() if e.up) != sorted(keys) or len(room.status()) != len(keys):
            await room.refresh()
            await asyncio.sleep(0.02)


@dataclass
class Told:
    """What was heard of a live session."""

    finals: list[Final] = field(default_factory=list)


class _Session(Session):
    story: Told

    async def final(self, start: int, end: int, segment: Segment) -> None:
        await super().final(start, end, segment)
        self.story.finals.append((segment.id, start, end, segment.text))


class Stage:
    """Where live sessions are held."""

    def __init__(self, journal: DiskJournal, store: DiskStore, room: EngineRoom) -> None:
        self._journal = journal
        self._store = store
        self._room = room
        self._clock = SystemClock()
        self._number = 0

    async def talk(self, audio: bytes, *, speed: float = 1.0, idle_s: float = 5.0) -> Told:
        """The whole of a session, spoken at `speed` times real time."""
        self._number += 1
        row = LiveSession(
            id=f"{self._number:032x}", owner="/alice", token_hash="", format=LiveFormat.S16LE, rate=RATE,
            options=TranscribeOptions().to_json(), trace_id="0" * 32, created_at=self._clock.now(),
            state=LiveState.OPEN, epoch=1, holder="0/0",
        )  # fmt: skip
        writer = (await self._journal.claim(row.id, 1)).writer
        sound = Sound(self._store.parts, row.id, writer, first=0, end=0, kept=0, header=True)
        session = _Session(row, writer, Timeline(), sound, [], self._clock, longest=10**9, window_s=300)
        session.story = told = Told()
        decoder = PcmDecoder(otherwise=NoDecoder())  # type: ignore[arg-type]  # never asked
        listening = Listening(
            session, self._room, decoder, self._clock, SystemRandomness(), engine_idle_s=idle_s, gather_s=lambda: 0.0
        )
        running = asyncio.create_task(listening.run())
        try:
            began = time.monotonic()
            for at in range(0, len(audio), 3200):
                session.frame(at // 2, audio[at : at + 3200])
                ahead_s = at / 2 / RATE / speed - (time.monotonic() - began)
                if ahead_s > 0:
                    await asyncio.sleep(ahead_s)
            session.end(len(audio) // 2)
            await running
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await writer.close()
        return told


@asynccontextmanager
async def stage(folder: Path, room: EngineRoom) -> AsyncIterator[Stage]:
    async with (
        DiskJournal(folder / "live", durability="process", min_free_bytes=0) as journal,
        DiskStore(folder / "blobs", durability="process", max_bytes=10**9, min_free_bytes=0) as store,
    ):
        yield Stage(journal, store, room)


def noise(seed: object, seconds: float) -> bytes:
    """No two seeds sound alike."""
    return random.Random(f"noise {seed}").randbytes(2 * round(seconds * RATE))


async def transcribe(room: EngineRoom, pcm: bytes, began: asyncio.Event | None = None) -> tuple[str, list[str]]:
    """One recording, once: the engine that took it, and what it says. Raises what a job's call raises."""
    async with room.borrow(TranscribeOptions()) as lent:
        texts: list[str] = []
        calls = lent.recognise(RecogniseConfig(), pieces(pcm), idle_timeout_s=10)
        async with aclosing(calls):  # type: ignore[type-var]  # a generator
            async for event in calls:
                if isinstance(event, Accepted) and began is not None:
                    began.set()
                if isinstance(event, SegmentFound):
                    texts.append(event.segment.text)
        assert isinstance(event, Done)
        return lent.key, texts
