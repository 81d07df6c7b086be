"""The Engine port (ports/engine.py) over real engine processes."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from typing import Any

import grpc
import pytest

from cosygate import errors
from cosygate.adapters.engine_grpc import GrpcEngine
from cosygate.adapters.engine_grpc.status import STATUS_ERRORS, translate
from cosygate.ports.engine import Accepted, Done, EngineEvent, Progress, RecogniseConfig, SegmentFound
from tests.support.engine_process import (
    TRANSPORTS,
    EngineProcess,
    engine_process,
    pieces,
    recognise,
    silence,
    speech_pcm,
)

SECOND = silence(1.0)
# One-second pieces. A recording whose last piece is 0.5 s hangs, 0.25 s kills the engine, others by their length.
SCRIPT: dict[str, Any] = {
    "texts": ["one", "two", "three"],
    "segment_s": 1.0,
    "languages": ["en"],
    "rules": [
        {"when": {"seconds": [0.5, 0.5]}, "do": "hang"},
        {"when": {"seconds": [0.25, 0.25]}, "do": "crash"},
        {"when": {"seconds": [0.3, 0.3]}, "do": "fail"},
        {"when": {"seconds": [0.31, 0.31]}, "do": "fail", "status": "INVALID_ARGUMENT"},
        {"when": {"seconds": [0.32, 0.32]}, "do": "fail", "status": "UNAVAILABLE"},
        {"when": {"seconds": [0.33, 0.33]}, "do": "fail", "status": "DATA_LOSS"},
        {"when": {"seconds": [0.34, 0.34]}, "do": "fail", "status": "RESOURCE_EXHAUSTED"},
    ],
}
HANG, CRASH = SECOND + silence(0.5), SECOND + silence(0.25)


@pytest.fixture(scope="module", params=TRANSPORTS)
def process(request: pytest.FixtureRequest) -> Iterator[EngineProcess]:
    with engine_process("--slots", "2", "--line", "2", script=SCRIPT, listen=TRANSPORTS[request.param]) as running:
        yield running


@pytest.fixture(params=TRANSPORTS)
def own_process(request: pytest.FixtureRequest) -> Iterator[EngineProcess]:
    """For tests that hurt it."""
    with engine_process("--slots", "1", script=SCRIPT, listen=TRANSPORTS[request.param]) as running:
        yield running


@pytest.fixture
async def engine(process: EngineProcess) -> AsyncIterator[GrpcEngine]:
    made = GrpcEngine(process.address)
    yield made
    await made.close()


@pytest.fixture
async def own_engine(own_process: EngineProcess) -> AsyncIterator[GrpcEngine]:
    made = GrpcEngine(own_process.address)
    yield made
    await made.close()


async def held(engine: GrpcEngine) -> AsyncIterator[EngineEvent]:
    """A call that has its slot, and keeps it until it is closed."""
    call = engine.recognise(RecogniseConfig(), pieces(HANG), idle_timeout_s=30)
    assert isinstance(await anext(call), Accepted)
    return call


async def close(call: AsyncIterator[EngineEvent]) -> None:
    await call.aclose()  # type: ignore[attr-defined]  # the adapter's iterators are generators


async def test_describes_itself(engine: GrpcEngine) -> None:
    info = await engine.describe()
    assert (info.name, info.slots) == ("scripted", 2)
    assert info.models[0].languages == ("en",)
    assert not info.models[0].words


async def test_events_come_in_order_with_seconds_from_the_first_sample(engine: GrpcEngine) -> None:
    events = await recognise(engine, silence(2.6), slot_wait_s=1)
    assert isinstance(events[0], Accepted)
    done = events[-1]
    assert isinstance(done, Done)
    assert done.samples == round(2.6 * 16_000)
    assert (done.engine.name, done.engine.model) == ("scripted", "scripted")
    assert {"vad", "recognise", "slot_wait"} <= set(done.stats)
    segments = [e.segment for e in events if isinstance(e, SegmentFound)]
    assert [(s.id, s.start, s.end, s.text) for s in segments] == [
        (0, 0.0, 1.0, "one"),
        (1, 1.0, 2.0, "two"),
        (2, 2.0, 2.6, "three"),
    ]
    assert segments[0].speaker is None
    assert segments[0].confidence is None


async def test_no_audio_at_all_is_an_empty_transcript(engine: GrpcEngine) -> None:
    kinds = [type(e) for e in await recognise(engine, b"")]
    assert kinds == [Accepted, Done]


@pytest.mark.parametrize("size", [2, 1001, 65_537, 10_000_000])
async def test_pieces_of_any_size_are_the_same_recording(engine: GrpcEngine, size: int) -> None:
    pcm = silence(0.4) if size == 2 else silence(3.0)
    events = [e async for e in engine.recognise(RecogniseConfig(), pieces(pcm, size), idle_timeout_s=20)]
    done = events[-1]
    assert isinstance(done, Done)
    assert done.samples == len(pcm) // 2


async def test_times_are_seconds_at_any_rate(engine: GrpcEngine) -> None:
    events = await recognise(engine, bytes(8_000 * 2 * 2), sample_rate=8_000)
    segments = [e.segment for e in events if isinstance(e, SegmentFound)]
    assert segments[0].start == 0
    assert segments[0].end == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"language": "fr"}, "does not know the language 'fr'"),
        ({"sample_rate": 7}, "sample_rate 7"),
        ({"model": "other"}, "no model 'other'"),
        ({"features": ("speakers",)}, "cannot tell 'speakers'"),
        ({"hotwords": ("a",)}, "cannot tell 'hotwords'"),
    ],
)
async def test_what_it_cannot_do_is_refused_by_name(engine: GrpcEngine, config: dict[str, Any], says: str) -> None:
    with pytest.raises(errors.EngineRefused, match=says):
        await recognise(engine, SECOND, **config)


async def test_half_a_sample_is_refused(engine: GrpcEngine) -> None:
    with pytest.raises(errors.EngineRefused, match="even"):
        await recognise(engine, SECOND + b"x")


@pytest.mark.parametrize(
    ("seconds", "error"),
    [
        (0.3, errors.EngineFailed),
        (0.31, errors.EngineRefused),
        (0.32, errors.EngineFailed),
        (0.33, errors.EngineFailed),
        (0.34, errors.EngineBusy),
    ],
)
async def test_a_recogniser_that_fails_ends_the_call_alone(
    engine: GrpcEngine, seconds: float, error: type[errors.CosyGateError]
) -> None:
    with pytest.raises(error) as caught:
        await recognise(engine, silence(seconds))
    assert type(caught.value) is error
    assert "script" not in caught.value.detail, "the recogniser's own words are for the log"
    assert isinstance((await recognise(engine, SECOND))[-1], Done)


async def test_the_status_is_not_lost_while_audio_is_still_on_its_way() -> None:
    fails_early = {"segment_s": 1.0, "rules": [{"do": "fail", "status": "INVALID_ARGUMENT"}]}
    with engine_process("--slots", "8", "--log-level", "error", script=fails_early) as process:
        engine = GrpcEngine(process.address)
        results = [
            await asyncio.gather(*(recognise(engine, silence(60)) for _ in range(8)), return_exceptions=True)
            for _ in range(10)
        ]
        await engine.close()
    assert {type(one) for batch in results for one in batch} == {errors.EngineRefused}


# --- slots -------------------------------------------------------------------------------------------------------


async def test_no_slot_in_time_is_busy_and_at_once_when_nobody_may_wait(engine: GrpcEngine) -> None:
    calls = [await held(engine), await held(engine)]
    try:
        started = time.monotonic()
        with pytest.raises(errors.EngineBusy):
            await recognise(engine, SECOND, slot_wait_s=0.4)
        assert 0.3 < time.monotonic() - started < 2
        waiting = [asyncio.create_task(recognise(engine, SECOND, slot_wait_s=20)) for _ in range(2)]
        await asyncio.sleep(0.2)
        with pytest.raises(errors.EngineBusy):
            await asyncio.wait_for(recognise(engine, SECOND, slot_wait_s=20), 2)
    finally:
        for call in calls:
            await close(call)
    for events in await asyncio.gather(*waiting):
        accepted = events[0]
        assert isinstance(accepted, Accepted)
        assert accepted.slot_wait_ms >= 100


async def test_waiting_for_a_slot_longer_than_the_idle_timeout_is_no_hang(own_engine: GrpcEngine) -> None:
    call = await held(own_engine)
    waiting = asyncio.create_task(recognise(own_engine, SECOND, slot_wait_s=20, idle_timeout_s=1.0))
    await asyncio.sleep(2.0)
    assert not waiting.done()
    await close(call)
    assert isinstance((await waiting)[-1], Done)


async def test_closing_the_iterator_stops_the_work_and_frees_the_slot(own_engine: GrpcEngine) -> None:
    for _ in range(3):
        await close(await held(own_engine))
    started = time.monotonic()
    assert isinstance((await recognise(own_engine, SECOND, slot_wait_s=5))[-1], Done)
    assert time.monotonic() - started < 2


async def test_what_the_audio_raises_passes_through_and_frees_the_slot(own_engine: GrpcEngine) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield SECOND
        raise errors.MediaUndecodable("in the middle")

    with pytest.raises(errors.MediaUndecodable, match="in the middle"):
        async for _ in own_engine.recognise(RecogniseConfig(), broken(), idle_timeout_s=5):
            pass
    assert isinstance((await recognise(own_engine, SECOND, slot_wait_s=2))[-1], Done)


async def test_a_cancelled_task_is_cancelled_and_nothing_else(own_engine: GrpcEngine) -> None:
    task = asyncio.create_task(recognise(own_engine, HANG))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert isinstance((await recognise(own_engine, SECOND, slot_wait_s=2))[-1], Done)


async def test_more_calls_than_one_connection_takes() -> None:
    script = {"segment_s": 1.0, "delay_s": 1.0}
    with engine_process("--slots", "130", "--line", "70", "--log-level", "warning", script=script) as process:
        engine = GrpcEngine(process.address)
        started = time.monotonic()
        results = await asyncio.gather(*(recognise(engine, SECOND, idle_timeout_s=10) for _ in range(130)))
        assert all(isinstance(events[-1], Done) for events in results)
        assert time.monotonic() - started < 8, "the calls past the hundredth waited for the first ones"
        await engine.close()


# --- backpressure and silence ------------------------------------------------------------------------------------


async def test_audio_is_read_no_faster_than_it_is_recognised(own_engine: GrpcEngine) -> None:
    taken = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal taken
        yield silence(0.5)  # the first piece is not whole yet
        while True:
            taken += 32_000
            yield SECOND

    with engine_process("--slots", "1", script={"segment_s": 1.0, "rules": [{"do": "hang"}]}) as process:
        engine = GrpcEngine(process.address)
        async with aclosing(engine.recognise(RecogniseConfig(), endless(), idle_timeout_s=2)) as events:  # type: ignore[type-var]  # a generator
            with pytest.raises(errors.EngineFailed):
                async for _ in events:
                    pass
        await engine.close()
    assert taken <= 12 * 32_000, "more than 12 s of audio went into an engine that takes none"


async def test_audio_that_comes_slowly_is_no_hang_of_the_engine(engine: GrpcEngine) -> None:
    async def slow() -> AsyncIterator[bytes]:
        yield SECOND
        await asyncio.sleep(1.2)
        yield SECOND

    events = [e async for e in engine.recognise(RecogniseConfig(), slow(), idle_timeout_s=0.5)]
    assert isinstance(events[-1], Done)


async def test_progress_is_told_on_the_way_and_rises() -> None:
    with engine_process("--slots", "1", script={"segment_s": 2.0, "delay_s": 0.3}) as process:
        engine = GrpcEngine(process.address)
        events = await recognise(engine, silence(20))
        await engine.close()
    samples = [e.samples for e in events if isinstance(e, Progress)]
    assert samples == sorted(samples)
    assert 0 < len(samples) <= 8, "at most every half second"


async def test_a_hung_recogniser_is_a_failure(engine: GrpcEngine) -> None:
    started = time.monotonic()
    with pytest.raises(errors.EngineFailed):
        await recognise(engine, HANG, idle_timeout_s=0.7)
    assert time.monotonic() - started < 3


async def test_a_slow_command_within_its_limit_is_no_hang() -> None:
    command = "sh -c 'sleep 2; echo said' {wav}"
    pcm = speech_pcm()[0][: 16_000 * 2 * 4]
    with engine_process("--recogniser", "command", "--command", command, "--command-timeout", "20") as process:
        engine = GrpcEngine(process.address)
        events = await recognise(engine, pcm, idle_timeout_s=1.0)
        await engine.close()
    assert [e.segment.text for e in events if isinstance(e, SegmentFound)] == ["said", "said"]


# --- engines that are away, die or stop --------------------------------------------------------------------------


async def test_an_engine_that_is_not_there_is_unavailable_at_once() -> None:
    engine = GrpcEngine("unix:/tmp/no-such-engine-socket")
    started = time.monotonic()
    with pytest.raises(errors.EngineUnavailable):
        await engine.describe()
    with pytest.raises(errors.EngineUnavailable) as caught:
        await recognise(engine, SECOND)
    assert type(caught.value) is errors.EngineUnavailable
    assert time.monotonic() - started < 3
    await engine.close()


async def test_an_engine_that_comes_back_is_used_again(tmp_path: Any) -> None:
    address = f"unix:{tmp_path}/s"
    engine = GrpcEngine(address)
    for _ in range(2):
        with pytest.raises(errors.EngineUnavailable):
            await recognise(engine, SECOND)
        with engine_process(listen=address):
            deadline = time.monotonic() + 3
            while True:
                try:
                    assert isinstance((await recognise(engine, SECOND))[-1], Done)
                    break
                except errors.EngineUnavailable:
                    assert time.monotonic() < deadline
                    await asyncio.sleep(0.05)
    await engine.close()


async def test_one_that_dies_on_the_recording_costs_an_attempt(own_engine: GrpcEngine) -> None:
    with pytest.raises(errors.EngineFailed):
        await recognise(own_engine, CRASH)


async def test_one_that_dies_before_it_accepted_costs_nothing(
    own_engine: GrpcEngine, own_process: EngineProcess
) -> None:
    call = await held(own_engine)
    waiting = asyncio.create_task(recognise(own_engine, SECOND, slot_wait_s=20))
    await asyncio.sleep(0.3)
    os.kill(own_process.pid, signal.SIGKILL)
    with pytest.raises(errors.EngineUnavailable) as caught:
        await waiting
    assert type(caught.value) is errors.EngineUnavailable
    with pytest.raises(errors.EngineFailed):
        async for _ in call:
            pass


async def test_a_stopped_process_is_noticed_within_the_idle_timeout(
    own_engine: GrpcEngine, own_process: EngineProcess
) -> None:
    async def slowly() -> AsyncIterator[bytes]:
        for _ in range(1000):
            yield SECOND
            await asyncio.sleep(0.01)

    calls = own_engine.recognise(RecogniseConfig(), slowly(), idle_timeout_s=1.0)
    assert isinstance(await anext(calls), Accepted)
    os.kill(own_process.pid, signal.SIGSTOP)
    started = time.monotonic()
    with pytest.raises(errors.EngineFailed):
        async for _ in calls:
            pass
    assert time.monotonic() - started < 4
    with pytest.raises(errors.EngineUnavailable) as caught:  # it never heard of this recording
        await recognise(own_engine, SECOND, idle_timeout_s=1.0)
    assert type(caught.value) is errors.EngineUnavailable
    os.kill(own_process.pid, signal.SIGCONT)
    assert isinstance((await recognise(own_engine, SECOND, slot_wait_s=5))[-1], Done)


async def test_the_trace_id_travels(own_engine: GrpcEngine, own_process: EngineProcess) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    await recognise(own_engine, SECOND, trace_id=trace_id)
    (line,) = [line for line in own_process.log_lines() if line["action"] == "engine.call"]
    assert (line["trace_id"], line["status"], line["samples"]) == (trace_id, "OK", 16_000)
    assert "one" not in own_process.log.read_text().split(), "no text in a log line"


# --- the table ---------------------------------------------------------------------------------------------------


def test_every_status_has_its_errors() -> None:
    assert set(STATUS_ERRORS) == set(grpc.StatusCode) - {grpc.StatusCode.OK}


@pytest.mark.parametrize("code", list(STATUS_ERRORS))
def test_no_status_costs_an_attempt_before_the_audio_was_looked_at(code: grpc.StatusCode) -> None:
    before, after = STATUS_ERRORS[code]
    gone = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
    if code in gone:
        assert (before, after) == (errors.EngineUnavailable, errors.EngineFailed)
    else:
        assert before is after
    for accepted in (False, True):
        error = translate(code, "details", accepted=accepted)
        assert type(error) is STATUS_ERRORS[code][accepted]
        assert ("details" in error.detail) == isinstance(error, errors.EngineRefused)
        assert getattr(error, "gone", False) == (code is grpc.StatusCode.UNAVAILABLE)


def test_a_refusal_is_cut_to_what_a_client_should_see() -> None:
    error = translate(grpc.StatusCode.INVALID_ARGUMENT, "bad\x00\n" + "x" * 1000, accepted=False)
    assert error.detail.startswith("badx")
    assert len(error.detail) == 200
