"""The engine as a process: real speech, health, reflection, protocol faults. How it ends: test_engine_ends.py."""

from __future__ import annotations

import asyncio
import csv
import itertools
import re
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc
import jiwer
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from cosygate.adapters.engine_grpc import GrpcEngine
from cosygate.ports.engine import Accepted, RecogniseConfig, SegmentFound
from cosygate.proto import speech_engine_pb2 as pb
from cosygate.proto import speech_engine_pb2_grpc as pb_grpc
from tests.support.engine_process import (
    SAMPLES,
    EngineProcess,
    engine_process,
    recognise,
    silence,
    speech_pcm,
)

SECOND = silence(1.0)
SERVICE = "cosygate.engine.v1.SpeechEngine"


@pytest.fixture(scope="module")
def moonshine() -> Iterator[EngineProcess]:
    with engine_process("--recogniser", "moonshine", "--slots", "2") as running:
        yield running


@pytest_asyncio.fixture
async def channel(moonshine: EngineProcess) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(moonshine.address) as made:
        yield made


def words(text: str) -> str:
    return " ".join(re.sub(r"[^a-z' ]", " ", text.lower()).split())


# --- speech ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["note.wav", "dialogue.wav"])
async def test_real_speech_is_recognised_with_its_times(moonshine: EngineProcess, name: str) -> None:
    pcm, rate = speech_pcm(name)
    engine = GrpcEngine(moonshine.address)
    events = await recognise(engine, pcm, sample_rate=rate)
    await engine.close()
    segments = [e.segment for e in events if isinstance(e, SegmentFound)]
    with (SAMPLES / "references.tsv").open() as file:
        reference = next(row["reference"] for row in csv.DictReader(file, delimiter="\t") if row["file"] == name)
    assert jiwer.wer(words(reference), words(" ".join(s.text for s in segments))) <= 0.1
    assert len(segments) >= 2
    assert segments[0].language == "en"
    assert [s.id for s in segments] == list(range(len(segments)))
    for before, after in itertools.pairwise(segments):
        assert 0 <= before.start < before.end <= after.start
    assert segments[-1].end <= len(pcm) / 2 / rate


async def test_segments_are_sent_as_they_are_recognised(moonshine: EngineProcess) -> None:
    pcm, _ = speech_pcm("dialogue.wav")
    told = asyncio.Event()

    async def waits_in_the_middle() -> AsyncIterator[bytes]:
        yield pcm[: len(pcm) // 2]
        await told.wait()  # never comes if segments are kept until the end
        yield pcm[len(pcm) // 2 :]

    engine = GrpcEngine(moonshine.address)
    async with asyncio.timeout(30):
        async for event in engine.recognise(RecogniseConfig(), waits_in_the_middle(), idle_timeout_s=20):
            if isinstance(event, SegmentFound):
                told.set()
    await engine.close()
    assert told.is_set()


# --- the services beside it --------------------------------------------------------------------------------------


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_health(channel: grpc.aio.Channel, service: str) -> None:
    answer = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(service=service))
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


async def test_reflection(channel: grpc.aio.Channel) -> None:
    async def ask() -> AsyncIterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    async for answer in reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo(ask()):
        assert {SERVICE, "grpc.health.v1.Health"} <= {s.name for s in answer.list_services_response.service}


async def test_describes_rates_slots_and_models(channel: grpc.aio.Channel) -> None:
    told = await pb_grpc.SpeechEngineStub(channel).Describe(pb.DescribeRequest())
    assert (told.name, told.slots, told.slots_busy, told.waiting) == ("moonshine", 2, 0, 0)
    assert told.sample_rates[0] == 16_000
    assert [m.name for m in told.models] == ["moonshine-tiny-en"]


# --- what clients may do wrong -----------------------------------------------------------------------------------


def config(**fields: Any) -> pb.RecognizeRequest:
    return pb.RecognizeRequest(config=pb.RecognizeConfig(**{"sample_rate": 16_000, **fields}))


def audio(pcm: bytes) -> pb.RecognizeRequest:
    return pb.RecognizeRequest(audio=pcm)


@pytest.mark.parametrize(
    ("messages", "says"),
    [
        ([], "first message"),
        ([audio(SECOND)], "first message"),
        ([pb.RecognizeRequest()], "first message"),
        ([config(mode=pb.LIVE, first_sample=1)], "restart_sample"),
        ([config(), config()], "neither audio nor finalize"),
        ([config(), pb.RecognizeRequest()], "neither audio nor finalize"),
        ([config(), audio(b"abc")], "3 bytes"),
        ([config(), audio(bytes(65_538))], "65538 bytes"),
        ([config(mode=pb.LIVE), config()], "neither audio nor finalize"),
        ([config(mode=pb.LIVE), pb.RecognizeRequest()], "neither audio nor finalize"),
        ([config(mode=pb.LIVE), audio(b"abc")], "3 bytes"),
        ([config(mode=pb.LIVE), audio(bytes(65_538))], "65538 bytes"),
    ],
)
async def test_protocol_faults_are_told_clearly(
    channel: grpc.aio.Channel, messages: list[pb.RecognizeRequest], says: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in pb_grpc.SpeechEngineStub(channel).Recognize(iter(messages), timeout=10):
            pass
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert says in (caught.value.details() or "")


async def test_the_deadline_of_the_caller_is_kept(channel: grpc.aio.Channel) -> None:
    stub = pb_grpc.SpeechEngineStub(channel)
    call = stub.Recognize(timeout=0.5)
    await call.write(config())
    assert (await call.read()).WhichOneof("event") == "accepted"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await asyncio.sleep(0.2)
    assert (await stub.Describe(pb.DescribeRequest())).slots_busy == 0


async def test_finalize_ends_the_open_utterance(channel: grpc.aio.Channel) -> None:
    pcm, _ = speech_pcm()
    call = pb_grpc.SpeechEngineStub(channel).Recognize(timeout=20)
    await call.write(config(first_sample=160_000))
    await call.write(audio(pcm[: 16_000 * 2]))  # in the middle of the first sentence
    await call.write(pb.RecognizeRequest(finalize=pb.Finalize()))
    kinds = []
    while "segment" not in kinds:
        event = await call.read()
        kinds.append(event.WhichOneof("event"))
    assert 160_000 <= event.segment.start_sample < event.segment.end_sample <= 160_000 + 16_000
    call.cancel()


# --- size and speed ----------------------------------------------------------------------------------------------


async def test_memory_does_not_grow_with_the_recording() -> None:
    with engine_process("--slots", "1", "--log-level", "warning") as process:
        engine = GrpcEngine(process.address)
        await recognise(engine, silence(60))

        def resident_kb() -> int:
            return int(Path(f"/proc/{process.pid}/status").read_text().split("VmRSS:")[1].split()[0])

        before = resident_kb()
        block = silence(2.0)

        async def two_hours() -> AsyncIterator[bytes]:
            for _ in range(3600):
                yield block

        peak = 0
        async for event in engine.recognise(RecogniseConfig(), two_hours(), idle_timeout_s=10):
            peak = max(peak, resident_kb()) if not isinstance(event, Accepted) else peak
        await engine.close()
        assert peak - before < 32 * 1024


def test_time_to_ready() -> None:
    started = time.monotonic()
    with engine_process():
        assert time.monotonic() - started < 5
