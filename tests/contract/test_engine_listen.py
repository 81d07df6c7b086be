"""Engine.listen (ports/engine.py) over real engine processes: events and their order, restart points, real speech."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import soxr

from cosygate.adapters.engine_grpc import GrpcEngine
from cosygate.kit.pcm import warm_up_samples
from cosygate.ports.engine import (
    Accepted,
    Done,
    Finalize,
    Heard,
    ListenConfig,
    PartialFound,
    SegmentFound,
)
from tests.support.engine_process import (
    TRANSPORTS,
    EngineProcess,
    engine_process,
    recognise,
    silence,
    speech_pcm,
    speech_samples,
)
from tests.support.listening import (
    RATE,
    SCRIPT,
    Piece,
    engine_at,
    finals,
    frames,
    in_order,
    listen,
    restarts,
)

DIGESTS: dict[str, Any] = {"hear": "digest", "cut": "speech"}


@pytest.fixture(scope="module", params=TRANSPORTS)
def process(request: pytest.FixtureRequest) -> Iterator[EngineProcess]:
    listen = TRANSPORTS[request.param]
    with engine_process("--slots", "2", "--live", "3", script=SCRIPT, listen=listen) as running:
        yield running


@pytest.fixture(scope="module")
def digests() -> Iterator[EngineProcess]:
    with engine_process("--slots", "2", script=DIGESTS) as running:
        yield running


@pytest.fixture
async def engine(process: EngineProcess) -> AsyncIterator[GrpcEngine]:
    async with engine_at(process) as made:
        yield made


# --- events ------------------------------------------------------------------------------------------------------


async def test_describes_its_live_side(engine: GrpcEngine) -> None:
    info = await engine.describe()
    assert (info.live_slots, info.live_busy) == (3, 0)
    assert info.models[0].live


async def test_events_are_in_order_and_all_audio_is_decided_in_the_end(engine: GrpcEngine) -> None:
    events = await listen(engine, frames(silence(4.6)), finals=7)
    in_order(events)
    assert [(f.start_sample, f.end_sample, f.segment.id) for f in finals(events)] == [
        (0, 16_000, 7),  # "four": texts go on from the finals before
        (16_000, 32_000, 8),
        (32_000, 48_000, 9),
    ]
    assert [f.segment.text for f in finals(events)] == ["four", "one", "two"]
    assert restarts(events) == [16_000, 32_000, 48_000, 64_000, 73_600], "the third has no words"
    done = events[-1]
    assert isinstance(done, Done)
    assert (done.samples, done.engine.name) == (73_600, "scripted")


async def test_times_count_from_sample_0_and_what_warms_the_resampler_is_not_heard(engine: GrpcEngine) -> None:
    restart = 80_000
    first = restart - warm_up_samples(8_000, restart, RATE)
    pcm = bytes(2 * (restart - first)) + bytes(2 * 8_000)
    events = await listen(engine, frames(pcm), sample_rate=8_000, first_sample=first, restart_sample=restart)
    in_order(events)
    (one,) = finals(events)
    assert (one.start_sample, one.end_sample) == (80_000, 88_000)
    assert (one.segment.start, one.segment.end) == (10.0, 11.0)


async def test_no_audio_at_all_is_nothing(engine: GrpcEngine) -> None:
    assert [type(e) for e in await listen(engine, [])] == [Accepted, Done]


async def test_finalize_ends_what_is_open_and_is_a_restart_point(engine: GrpcEngine) -> None:
    pieces: list[Piece] = [silence(0.4), Finalize(), Finalize(), silence(0.7), Finalize()]
    events = await listen(engine, pieces)
    in_order(events)
    assert restarts(events) == [6_400, 17_600]
    assert [f.segment.text for f in finals(events)] == ["one", "two"]


async def test_partials_come_only_when_they_are_wanted(digests: EngineProcess) -> None:
    pcm = speech_pcm("dialogue.wav")[0]
    async with engine_at(digests) as engine:
        with_them = await listen(engine, frames(pcm), every_s=0.002)
        without = await listen(engine, frames(pcm), interim=False)
    assert any(isinstance(e, PartialFound) for e in with_them)
    assert not any(isinstance(e, PartialFound) for e in without)
    assert finals(with_them) == finals(without)


async def test_it_says_how_far_it_has_heard_while_audio_comes_and_after(engine: GrpcEngine) -> None:
    async def slowly() -> AsyncIterator[Piece]:
        yield silence(0.1)
        for _ in range(15):
            await asyncio.sleep(0.1)
            yield silence(0.1)
        await asyncio.sleep(1.3)

    started = time.monotonic()
    events = engine.listen(ListenConfig(RATE), slowly(), idle_timeout_s=1.0)
    heard = [(time.monotonic() - started, e.sample) async for e in events if isinstance(e, Heard)]
    assert heard[-1][1] == 25_600
    assert heard[-1][0] < 2.4, "what was taken in is told before more comes"
    assert all(b[0] - a[0] < 1.5 for a, b in itertools.pairwise(heard))


# --- restart points: the core promise ----------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
async def test_a_call_from_any_restart_point_gives_the_same_finals(digests: EngineProcess, rate: int) -> None:
    dice = random.Random(rate)
    speech = speech_samples("dialogue.wav")
    mixed = np.concatenate([speech[:100_000], np.zeros(6 * RATE, np.float32), speech[100_000:], speech[30_000:90_000]])
    sound = soxr.resample(mixed, RATE, rate) if rate != RATE else mixed
    pcm = np.clip(np.rint(sound * 32767), -32768, 32767).astype("<i2").tobytes()
    mark = len(pcm) // 2 * 4 // 5

    def pieces(first: int, restart: int) -> list[Piece]:
        made: list[Piece] = []
        at = first
        while at < len(pcm) // 2:
            upto = at + dice.randrange(rate // 50, rate // 4)
            if at < mark <= upto:
                upto = mark
            made.append(pcm[2 * at : 2 * upto])
            at = upto
            if at == mark and at > restart:
                made.append(Finalize())
        return made

    async with engine_at(digests) as engine:
        whole = await listen(engine, pieces(0, 0), sample_rate=rate, every_s=0.001)
        in_order(whole)
        points = restarts(whole)
        assert len(finals(whole)) >= 8
        assert mark in points
        assert points[-1] == len(pcm) // 2
        for restart in dice.sample(points[:-1], 6):
            first = restart - warm_up_samples(rate, restart, RATE)
            before = [f for f in finals(whole) if f.end_sample <= restart]
            config = {"first_sample": first, "restart_sample": restart, "finals": len(before)}
            again = await listen(engine, pieces(first, restart), sample_rate=rate, interim=bool(restart % 2), **config)
            in_order(again)
            assert before + finals(again) == finals(whole)
            assert restarts(again) == [p for p in points if p > restart]


# --- real speech -------------------------------------------------------------------------------------------------


async def test_real_speech_says_live_what_it_says_as_a_file() -> None:
    pcm, _ = speech_pcm("dialogue.wav")
    with engine_process("--recogniser", "moonshine", "--slots", "2") as process:
        async with engine_at(process) as engine:
            live = await listen(engine, frames(pcm), every_s=0.01)
            file = await recognise(engine, pcm)
    in_order(live)
    assert any(isinstance(e, PartialFound) for e in live)
    said = " ".join(f.segment.text for f in finals(live)).lower().split()
    written = " ".join(e.segment.text for e in file if isinstance(e, SegmentFound)).lower().split()
    assert len(written) > 25
    assert distance(said, written) <= 0.1 * len(written)


def distance(a: Sequence[str], b: Sequence[str]) -> int:
    """Words inserted, left out or changed."""
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        last, row[0] = row[0], i
        for j, other in enumerate(b, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (one != other))
    return row[-1]
