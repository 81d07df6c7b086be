"""How fast an engine gets to hear what lies behind: at most twice as fast as it was spoken, after a start, and then
everything as it comes. A real session over a real journal, an engine that only listens, and a clock that tests move."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NoReturn

import pytest
from structlog.testing import capture_logs

from cosygate import errors
from cosygate.adapters.blobs_disk import DiskStore
from cosygate.adapters.decoder_pcm import PcmDecoder
from cosygate.adapters.journal_disk import DiskJournal
from cosygate.flows.choose_engine import EngineRoom
from cosygate.flows.live.listening import Listening
from cosygate.flows.live.session import Session
from cosygate.flows.live.sound import Sound
from cosygate.model.live import LiveFormat, LiveSession, LiveState
from cosygate.model.options import TranscribeOptions
from cosygate.model.timeline import Timeline
from cosygate.model.transcript import EngineName
from cosygate.ports.engine import Accepted, Decided, Done, EngineInfo, Finalize, ListenConfig, ListenEvent, ModelInfo
from tests.support.breakers import breakers, numbered
from tests.support.clock import MovedClock, SeededRandomness

RATE = 16_000
START_S, SPEED = 0.5, 2.0
PIECE_S = 64 * 1024 / 2 / RATE  # what is read from the journal, and sent, at once
STEP_S = 0.1


class CountingClock(MovedClock):
    asleep = 0

    async def sleep(self, seconds: float) -> None:
        self.asleep += 1
        try:
            await super().sleep(seconds)
        finally:
            self.asleep -= 1


class Ears:
    """An Engine that takes whatever comes, and decides nothing before the end; it dies at `dies_at` samples, once or
    `ever`."""

    def __init__(self, clock: MovedClock) -> None:
        self._clock = clock
        self.dies_at: int | None = None
        self.ever = False
        self.restarts: list[int] = []
        self.heard = bytearray()  # of the present call
        self.longest_s = 0.0  # of the pieces of the present call
        self.began = 0.0

    async def leaving(self) -> None:
        await asyncio.Event().wait()

    async def describe(self) -> EngineInfo:
        return EngineInfo("own", "1", slots=1, busy=0, models=(ModelInfo("own", ("*",), live=True),), live_slots=9)

    def recognise(self, *_: object, **__: object) -> NoReturn:
        raise NotImplementedError

    async def listen(
        self, config: ListenConfig, audio: AsyncIterator[bytes | Finalize], *, idle_timeout_s: float
    ) -> AsyncIterator[ListenEvent]:
        self.restarts.append(config.restart_sample)
        self.heard.clear()
        self.longest_s, self.began = 0.0, self._clock.monotonic()
        yield Accepted(0)
        async for piece in audio:
            if isinstance(piece, Finalize):
                yield Decided(config.first_sample + self.samples)
                continue
            self.heard += piece
            self.longest_s = max(self.longest_s, len(piece) / 2 / RATE)
            if self.dies_at is not None and self.samples >= self.dies_at:
                self.dies_at = self.dies_at if self.ever else None
                raise errors.EngineFailed("as told")
        yield Done(EngineName("own", "own", "1"), self.samples)

    @property
    def samples(self) -> int:
        return len(self.heard) // 2

    @property
    def reached(self) -> int:
        return (self.restarts[-1] if self.restarts else 0) + self.samples

    @property
    def ahead_s(self) -> float:
        """How much more it has heard than twice real time."""
        return self.samples / RATE - SPEED * (self._clock.monotonic() - self.began)


class House:
    def __init__(self, session: Session, clock: CountingClock) -> None:
        self.session, self.clock = session, clock
        self.ears = Ears(clock)
        self.breakers = breakers(clock)
        self.said = bytearray()
        self.task: asyncio.Task[None] | None = None

    def say(self, seconds: float) -> None:
        audio = random.Random(len(self.said)).randbytes(round(seconds * RATE) * 2)
        for at in range(0, len(audio), 3200):
            self.session.frame((len(self.said) + at) // 2, audio[at : at + 3200])
        self.said += audio

    async def journalled(self) -> None:
        await until(lambda: self.session.durable == len(self.said) // 2)

    def listen(self, **options: Any) -> None:
        engines, randomness = EngineRoom(numbered(self.ears), self.clock, self.breakers), SeededRandomness()
        decoder = PcmDecoder(otherwise=NoDecoder())
        listening = Listening(
            self.session, engines, decoder, self.clock, randomness, engine_idle_s=5, gather_s=lambda: 0.0, **options
        )
        self.task = asyncio.create_task(listening.run())

    async def idle(self) -> None:
        """Until it waits: for the clock, for more sound, or for nothing more."""
        assert self.task is not None
        said = len(self.said) // 2
        await until(lambda: self.clock.asleep or self.ears.reached >= said or self.task.done())


class NoDecoder:
    @asynccontextmanager
    async def open(self, *_: object) -> AsyncIterator[NoReturn]:
        raise NotImplementedError
        yield


async def until(look: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not look():
            await asyncio.sleep(0.001)


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    clock = CountingClock()
    row = LiveSession(
        id="a" * 32, owner="/alice", token_hash="", format=LiveFormat.S16LE, rate=RATE,
        options=TranscribeOptions().to_json(), trace_id="0" * 32, created_at=clock.now(),
        state=LiveState.OPEN, epoch=1, holder="0/0",
    )  # fmt: skip
    async with (
        DiskJournal(tmp_path / "live", durability="process", min_free_bytes=0) as journal,
        DiskStore(tmp_path / "blobs", durability="process", max_bytes=10**9, min_free_bytes=0) as store,
    ):
        writer = (await journal.claim(row.id, 1)).writer
        sound = Sound(store.parts, row.id, writer, first=0, end=0, kept=0, header=True)
        made = House(Session(row, writer, Timeline(), sound, [], clock, longest=10**9, window_s=300), clock)
        yield made
        if made.task is not None:
            made.task.cancel()
            await asyncio.gather(made.task, return_exceptions=True)
        await writer.close()


async def check_pace(house: House, upto_s: float) -> None:
    """Never ahead of twice real time by more than the start and a piece, and never behind it while there is more."""
    while house.ears.samples < upto_s * RATE:
        await house.idle()
        assert house.ears.ahead_s <= START_S + PIECE_S + 0.001
        assert house.ears.ahead_s >= 0 or house.ears.samples >= upto_s * RATE
        await house.clock.advance(STEP_S)


async def test_a_replay_is_at_most_twice_as_fast_as_speech(house: House) -> None:
    house.say(12)
    await house.journalled()
    house.listen()
    began = house.clock.monotonic()
    await check_pace(house, 12)
    assert house.clock.monotonic() - began == pytest.approx((12 - START_S - PIECE_S) / SPEED, abs=1.2)
    assert house.ears.heard == house.said


async def test_what_comes_after_it_is_heard_at_once(house: House) -> None:
    house.say(3)
    await house.journalled()
    house.listen()
    await check_pace(house, 3)
    for _ in range(20):  # the clock stands still
        house.say(0.1)
        await until(lambda: house.ears.samples == len(house.said) // 2)
    assert house.ears.heard == house.said


async def test_the_next_engine_is_not_hurried_either(house: House) -> None:
    """One that died is replaced by one that hears everything since the last restart point again."""
    house.listen()
    await until(lambda: house.ears.restarts)
    house.say(2)
    house.session.finalize(2 * RATE)  # decided up to here
    house.ears.dies_at = 9 * RATE
    for _ in range(70):  # live, and so at once
        house.say(0.1)
        await until(lambda: house.ears.samples == len(house.said) // 2 or len(house.ears.restarts) > 1)
        if house.ears.dies_at is None:
            break
    assert house.ears.dies_at is None
    await until(lambda: house.clock.asleep)  # the pause after a failure
    while len(house.ears.restarts) == 1:
        await house.clock.advance(STEP_S)
        await asyncio.sleep(0.001)
    assert house.ears.restarts == [0, 2 * RATE]
    first = len(house.said) - len(house.ears.heard)
    await check_pace(house, 7)
    assert first
    assert house.said.endswith(house.ears.heard)


async def test_the_log_tells_what_each_call_was_given(house: House) -> None:
    """Beyond the place that it began at."""
    with capture_logs() as lines:
        house.listen()
        await until(lambda: house.ears.restarts)
        house.say(2)
        house.session.finalize(2 * RATE)  # decided up to here
        house.ears.dies_at = 3 * RATE
        house.say(2)
        house.session.end(4 * RATE)
        assert house.task is not None
        while not house.task.done():
            await house.idle()
            await house.clock.advance(STEP_S)
        await house.task
    first, second = [line for line in lines if line["event"] == "engine.call"]
    assert first["session"] == second["session"] == house.session.id
    assert first["outcome"] == "engine_failed" and 3.0 <= first["audio_s"] <= 4.0
    assert (second["outcome"], second["audio_s"]) == ("ok", 2.0)


async def test_the_end_of_a_replay_is_the_end(house: House) -> None:
    house.say(4)
    house.session.end(4 * RATE)
    await house.journalled()
    house.listen()
    assert house.task is not None
    while not house.task.done():
        await house.idle()
        await house.clock.advance(STEP_S)
    await house.task
    assert house.session.timeline.restart == 4 * RATE


@pytest.mark.parametrize(("tries", "seconds"), [(10, 0.0), (3, 20.0)])
async def test_sound_that_ends_every_engine_is_left_out_and_keeps_nobody_from_them(
    house: House, tries: int, seconds: float
) -> None:
    """After so many calls and so many seconds. Their failures tell of this sound alone."""
    house.say(4)
    house.session.end(4 * RATE)
    await house.journalled()
    house.ears.dies_at, house.ears.ever = RATE, True
    began = house.clock.monotonic()
    house.listen(unheard_tries=tries, unheard_s=seconds)
    assert house.task is not None
    while house.session.timeline.restart == 0:
        await house.idle()
        assert house.breakers.blocked_s(["0"]) == 0
        await house.clock.advance(STEP_S)
    calls = house.ears.restarts.count(0)
    assert calls >= tries if seconds else calls == tries
    assert house.clock.monotonic() - began >= seconds
    assert RATE <= house.session.timeline.restart < 4 * RATE
    house.ears.dies_at = None
    while not house.task.done():
        await house.idle()
        await house.clock.advance(STEP_S)
    await house.task
    assert house.breakers.of("0").streak == 0


async def test_a_session_outlives_an_open_breaker(house: House) -> None:
    """Nobody calls the engine meanwhile; then this session's call is the one that finds out."""
    house.say(4)
    house.session.end(4 * RATE)
    await house.journalled()
    for _ in range(5):
        house.breakers.failed("0")
    house.listen()
    assert house.task is not None
    for _ in range(53):
        await house.idle()
        await house.clock.advance(1)
        assert (house.task.done(), house.ears.restarts) == (False, [])
    while not house.task.done():
        await house.idle()
        await house.clock.advance(STEP_S)
    await house.task
    assert (house.ears.restarts, house.ears.heard) == ([0], house.said)
    assert house.breakers.blocked_s(["0"]) == 0
