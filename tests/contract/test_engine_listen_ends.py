"""Engine.listen (ports/engine.py) over real engine processes: turns, limits, and how calls end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from cosygate import errors
from cosygate.adapters.engine_grpc import GrpcEngine
from cosygate.ports.engine import (
    Accepted,
    FinalFound,
    Finalize,
    ListenConfig,
    PartialFound,
    SegmentFound,
)
from tests.support.engine_process import TRANSPORTS, EngineProcess, engine_process, recognise, silence
from tests.support.listening import (
    RATE,
    SCRIPT,
    Piece,
    engine_at,
    finals,
    frames,
    held,
    in_order,
    listen,
    restarts,
    sent,
)


@pytest.fixture(scope="module", params=TRANSPORTS)
def process(request: pytest.FixtureRequest) -> Iterator[EngineProcess]:
    listen = TRANSPORTS[request.param]
    with engine_process("--slots", "2", "--live", "3", script=SCRIPT, listen=listen) as running:
        yield running


@pytest.fixture
async def engine(process: EngineProcess) -> AsyncIterator[GrpcEngine]:
    async with engine_at(process) as made:
        yield made


# --- turns -------------------------------------------------------------------------------------------------------


async def test_partials_do_not_queue_and_finals_go_before_them() -> None:
    """A recogniser that takes longer for each piece than partials are apart."""
    with engine_process("--slots", "1", script={"segment_s": 2.0, "delay_s": 0.35}) as process:
        async with engine_at(process) as engine:
            calls = (listen(engine, frames(silence(6.0)), every_s=0.1) for _ in range(3))
            results = await asyncio.gather(*calls)
    for events in results:
        in_order(events)
        assert len(finals(events)) == 3
        for final in finals(events):
            shown = [e for e in events if isinstance(e, PartialFound) and e.start_sample == final.start_sample]
            ends = [e.end_sample for e in shown]
            assert ends == sorted(set(ends)), "each of newer audio than the one before"
    partials = sum(isinstance(e, PartialFound) for events in results for e in events)
    assert 0 < partials <= (6.0 * 1.2 - 9 * 0.35) / 0.35, "they take what finals leave"


async def test_a_final_does_not_wait_for_the_partials_of_others() -> None:
    with engine_process("--slots", "1", script={"segment_s": 10.0, "delay_s": 0.25}) as process:
        async with engine_at(process) as engine, contextlib.AsyncExitStack() as stack:
            for _ in range(10):  # their first partials take two and a half seconds
                await stack.enter_async_context(held(engine, silence(0.7)))
            started = time.monotonic()
            events = await listen(engine, [silence(0.3)])
            assert len(finals(events)) == 1
            assert time.monotonic() - started < 1.2, "a final waits for the piece at work"


async def test_one_that_sends_ten_times_real_time_does_not_hold_up_another() -> None:
    with engine_process("--slots", "1", script={"segment_s": 1.0, "delay_s": 0.1}) as process:
        async with engine_at(process) as engine:
            greedy = asyncio.create_task(listen(engine, frames(silence(50)), every_s=0.01))
            await asyncio.sleep(0.5)
            started = time.monotonic()
            modest = engine.listen(ListenConfig(RATE), sent(*frames(silence(4)), every_s=0.1), idle_timeout_s=20)
            late = [time.monotonic() - started - e.end_sample / RATE async for e in modest if isinstance(e, FinalFound)]
            assert not greedy.done()
            in_order(await greedy)
    assert len(late) == 4
    assert max(late) < 1.0, "a final waits for the piece at work and one of the other's"


async def test_a_file_leaves_live_finals_their_turns() -> None:
    script = {"segment_s": 1.0, "delay_s": 0.1}
    with engine_process("--slots", "2", script=script) as process:
        async with engine_at(process) as engine:
            files = [asyncio.create_task(recognise(engine, silence(30))) for _ in range(4)]
            await asyncio.sleep(0.3)
            started = time.monotonic()
            events = await listen(engine, frames(silence(3)), every_s=0.1, slot_wait_s=0.0)
            took = time.monotonic() - started
            info = await engine.describe()
            assert (info.busy, info.live_busy) == (2, 0), "a live call holds no slot of the files'"
            for task in files:
                segments = [e for e in await task if isinstance(e, SegmentFound)]
                assert len(segments) == 30
    assert len(finals(events)) == 3
    assert took < 5.0


async def test_audio_is_read_no_faster_than_it_is_recognised() -> None:
    taken = 0

    async def endless() -> AsyncIterator[Piece]:
        nonlocal taken
        while True:
            taken += 16_000
            yield silence(1.0)

    with engine_process("--slots", "1", script={"segment_s": 1.0, "rules": [{"do": "hang"}]}) as process:
        async with engine_at(process) as engine:
            events = engine.listen(ListenConfig(RATE), endless(), idle_timeout_s=2)
            with pytest.raises(errors.EngineFailed):
                async for _ in events:
                    pass
    assert taken <= 20 * 16_000


# --- limits and ends ---------------------------------------------------------------------------------------------


async def test_more_live_calls_than_there_may_be_are_busy_and_a_cancel_frees_one(engine: GrpcEngine) -> None:
    async with held(engine), held(engine):
        async with held(engine):
            assert (await engine.describe()).live_busy == 3
            started = time.monotonic()
            with pytest.raises(errors.EngineBusy):
                await listen(engine, [silence(1)], slot_wait_s=0.0)
            with pytest.raises(errors.EngineBusy):
                await listen(engine, [silence(1)], slot_wait_s=0.3)
            assert time.monotonic() - started < 2
            waiting = asyncio.create_task(listen(engine, [silence(1)], slot_wait_s=10, idle_timeout_s=1.0))
            await asyncio.sleep(1.5)
            assert not waiting.done(), "waiting for a slot is no hang"
        in_order(await waiting)


async def test_silence_of_the_caller_is_no_hang_of_the_engine(engine: GrpcEngine) -> None:
    async def pauses() -> AsyncIterator[Piece]:
        yield silence(0.2)
        await asyncio.sleep(4.0)
        yield silence(0.2)

    events = [e async for e in engine.listen(ListenConfig(RATE), pauses(), idle_timeout_s=2.0)]
    in_order(events)


@pytest.mark.parametrize("at_the_end", [True, False])
async def test_a_recogniser_that_hangs_is_a_failure(engine: GrpcEngine, at_the_end: bool) -> None:
    async def audio() -> AsyncIterator[Piece]:
        yield silence(0.5)
        if not at_the_end:
            yield Finalize()
            while True:
                await asyncio.sleep(0.05)
                yield silence(0.05)

    started = time.monotonic()
    with pytest.raises(errors.EngineFailed):
        async for _ in engine.listen(ListenConfig(RATE), audio(), idle_timeout_s=0.8):
            pass
    assert time.monotonic() - started < 5
    in_order(await listen(engine, [silence(1)]))


@pytest.mark.parametrize(("seconds", "error"), [(0.3, errors.EngineFailed), (0.31, errors.EngineRefused)])
async def test_a_recogniser_that_fails_ends_the_call_though_it_waits_for_audio(
    engine: GrpcEngine, seconds: float, error: type[errors.CosyGateError]
) -> None:
    async def audio() -> AsyncIterator[Piece]:
        yield silence(seconds)
        yield Finalize()
        await asyncio.Event().wait()

    with pytest.raises(error) as caught:
        async for _ in engine.listen(ListenConfig(RATE), audio(), idle_timeout_s=10):
            pass
    assert type(caught.value) is error


async def test_one_that_dies_in_the_middle_is_a_failure() -> None:
    with engine_process(script=SCRIPT) as process:
        async with engine_at(process) as engine:
            with pytest.raises(errors.EngineFailed):
                await listen(engine, [silence(1.25)])
    rule = {"when": {"piece": 1}, "do": "crash"}
    with engine_process(script={"segment_s": 1.0, "rules": [rule]}) as process:
        async with engine_at(process) as engine:
            events = []
            call = engine.listen(ListenConfig(RATE), sent(*frames(silence(3)), every_s=0.02), idle_timeout_s=5)
            with pytest.raises(errors.EngineFailed):
                async for event in call:
                    events.append(event)  # noqa: PERF401 - a comprehension would lose them
    assert [f.segment.id for f in finals(events)] == [0], "in the middle of the second utterance"


async def test_a_stopped_engine_is_noticed() -> None:
    with engine_process(script=SCRIPT) as process:
        async with engine_at(process) as engine:
            events = engine.listen(ListenConfig(RATE), sent(*frames(silence(60)), every_s=0.02), idle_timeout_s=1.0)
            assert isinstance(await anext(events), Accepted)
            os.kill(process.pid, signal.SIGSTOP)
            started = time.monotonic()
            with pytest.raises(errors.EngineFailed):
                async for _ in events:
                    pass
            assert time.monotonic() - started < 3
            os.kill(process.pid, signal.SIGCONT)


async def test_an_engine_that_shuts_down_costs_nothing() -> None:
    with engine_process("--grace", "0.2", script=SCRIPT) as process:
        async with engine_at(process) as engine:
            events = engine.listen(ListenConfig(RATE), sent(*frames(silence(60)), every_s=0.02), idle_timeout_s=5)
            assert isinstance(await anext(events), Accepted)
            process.process.terminate()
            with pytest.raises(errors.EngineUnavailable) as caught:
                async for _ in events:
                    pass
            assert type(caught.value) is errors.EngineLeaving
            process.process.wait(5)
            assert process.process.returncode == 0


async def test_what_the_audio_raises_passes_through_and_frees_the_slot(engine: GrpcEngine) -> None:
    async def broken() -> AsyncIterator[Piece]:
        yield silence(1.0)
        raise errors.TakenOver("in the middle")

    with pytest.raises(errors.TakenOver, match="in the middle"):
        async for _ in engine.listen(ListenConfig(RATE), broken(), idle_timeout_s=5):
            pass
    async with held(engine), held(engine), held(engine):
        pass


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"language": "fr"}, "does not know the language 'fr'"),
        ({"sample_rate": 7}, "sample_rate 7"),
        ({"restart_sample": 17_000}, "restart_sample"),
    ],
)
async def test_what_it_cannot_do_is_refused_by_name(engine: GrpcEngine, config: dict[str, Any], says: str) -> None:
    with pytest.raises(errors.EngineRefused, match=says):
        await listen(engine, [silence(1)], **config)


async def test_half_a_sample_is_refused_and_pieces_of_any_size_are_taken(engine: GrpcEngine) -> None:
    with pytest.raises(errors.EngineRefused, match="even"):
        await listen(engine, [b"x"])
    events = await listen(engine, [silence(9), Finalize(), bytes(2), silence(5)])
    in_order(events)
    assert restarts(events)[-1] == 14 * RATE + 1
