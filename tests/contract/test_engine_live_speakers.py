"""Who speaks, live: what ListenConfig and the engine's protocol promise of labels, over real engine processes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest

from cosygate import errors
from cosygate.adapters.engine_grpc import GrpcEngine
from cosygate.engine.extras import Extras
from cosygate.engine.models import locate
from cosygate.engine.recognisers.base import Samples
from cosygate.engine.recognisers.scripted import Scripted
from cosygate.engine.service import EngineService
from cosygate.engine.speakers.ge2e import Encoder
from cosygate.engine.speakers.live import Voice, Voiceprints
from cosygate.engine.speakers.weights import GE2E, read_weights
from cosygate.kit.clock import SystemClock
from cosygate.ports.engine import Done, FinalFound, Finalize, ListenConfig, PartialFound
from cosygate.proto import speech_engine_pb2 as pb
from cosygate.proto import speech_engine_pb2_grpc as pb_grpc
from tests.support.engine_process import EngineProcess, engine_process, silence, speech_pcm, speech_samples
from tests.support.listening import RATE, Piece, engine_at, finals, frames, in_order, listen

DIGESTS: dict[str, Any] = {"hear": "digest", "cut": "speech"}  # as of one who needs no thread
ASKED: dict[str, Any] = {"features": ("speakers",)}
DIALOGUE = ["S1", "S2", "S1", "S2", "S1"]


@pytest.fixture(scope="module", params=["instant", "slow"])
def process(request: pytest.FixtureRequest) -> Iterator[EngineProcess]:
    delay = {"delay_s": 0.01} if request.param == "slow" else {}
    with engine_process("--slots", "2", script=DIGESTS | delay) as running:
        yield running


@pytest.fixture
async def engine(process: EngineProcess) -> AsyncIterator[GrpcEngine]:
    async with engine_at(process) as made:
        yield made


def labels(found: list[FinalFound]) -> list[str | None]:
    return [final.segment.speaker for final in found]


async def test_it_says_that_it_can_and_each_final_has_a_label(engine: GrpcEngine) -> None:
    [model] = (await engine.describe()).models
    assert model.live_speakers and model.can_live("speakers") and not model.can_live("words")
    pcm = speech_pcm("dialogue.wav")[0]
    events = await listen(engine, frames(pcm), **ASKED)
    in_order(events)
    assert labels(finals(events)) == DIALOGUE
    done = events[-1]
    assert isinstance(done, Done) and 0 < done.stats["speakers"] < 10


async def test_who_does_not_ask_gets_none_and_the_same_words(engine: GrpcEngine) -> None:
    pcm = speech_pcm("dialogue.wav")[0]
    plain, told = await listen(engine, frames(pcm)), await listen(engine, frames(pcm), **ASKED)
    assert labels(finals(plain)) == [None] * 5
    assert [f.segment.text for f in finals(plain)] == [f.segment.text for f in finals(told)]
    done = plain[-1]
    assert isinstance(done, Done) and "speakers" not in done.stats


async def test_whenever_the_audio_comes_the_labels_are_the_same(engine: GrpcEngine) -> None:
    """In real time finals are partials that were shown, and without partials they are not."""
    pcm = speech_pcm("dialogue.wav")[0]
    slowly = await listen(engine, frames(pcm), every_s=0.02, **ASKED)
    without = await listen(engine, frames(pcm, 16_000), interim=False, **ASKED)
    assert labels(finals(slowly)) == labels(finals(without)) == DIALOGUE


async def test_an_utterance_that_is_finalized_where_it_was_shown_has_a_label_too(engine: GrpcEngine) -> None:
    speech = (speech_samples("dialogue.wav")[: 2 * RATE] * 32768).astype("<i2").tobytes()

    async def stops() -> AsyncIterator[Piece]:
        yield speech
        await asyncio.sleep(1.0)  # by now all of it was shown
        yield Finalize()

    events = [e async for e in engine.listen(ListenConfig(RATE, **ASKED), stops(), idle_timeout_s=10)]
    in_order(events)
    assert labels(finals(events)) == ["S1"]


async def test_new_voices_are_numbered_after_those_before(engine: GrpcEngine) -> None:
    pcm = speech_pcm("dialogue.wav")[0]
    found = finals(await listen(engine, frames(pcm), finals=9, speakers=3, **ASKED))
    assert labels(found) == ["S4", "S5", "S4", "S5", "S4"]
    assert [f.segment.id for f in found] == [9, 10, 11, 12, 13]


@pytest.mark.parametrize("bound", ["num_speakers", "max_speakers"])
async def test_there_are_no_more_than_is_said(engine: GrpcEngine, bound: str) -> None:
    pcm = speech_pcm("dialogue.wav")[0]
    assert labels(finals(await listen(engine, frames(pcm), **ASKED, **{bound: 1}))) == ["S1"] * 5
    with pytest.raises(errors.EngineRefused, match="without the feature"):
        await listen(engine, [silence(0.1)], **{bound: 1})
    with pytest.raises(errors.EngineRefused, match="at most 30"):
        await listen(engine, [silence(0.1)], **ASKED, **{bound: 31})


async def test_a_gateway_that_does_not_say_how_many_labels_there_are(process: EngineProcess) -> None:
    """One of a version before: no label it has seen is given to anybody again."""
    pcm = speech_pcm("dialogue.wav")[0]
    config = pb.RecognizeConfig(mode=pb.LIVE, sample_rate=RATE, finals=4, features=["speakers"])
    assert not config.HasField("speakers")

    async def messages() -> AsyncIterator[pb.RecognizeRequest]:
        yield pb.RecognizeRequest(config=config)
        for piece in frames(pcm):
            assert isinstance(piece, bytes)
            yield pb.RecognizeRequest(audio=piece)

    async with grpc.aio.insecure_channel(process.address) as channel:
        events = [e async for e in pb_grpc.SpeechEngineStub(channel).Recognize(messages())]
    told = [e.segment.speaker for e in events if e.WhichOneof("event") == "segment"]
    assert told == ["S5", "S6", "S5", "S6", "S5"]


async def test_who_cuts_by_the_clock_is_refused_unless_it_tells_speakers_itself() -> None:
    own = {"texts": [{"text": "one", "speaker": "anna"}, {"text": "two", "speaker": "bo"}], "segment_s": 1.0}
    with engine_process(script=own | {"capabilities": ["speakers"]}) as process:
        async with engine_at(process) as engine:
            [model] = (await engine.describe()).models
            assert model.speakers and not model.live_speakers, "of recordings is another matter"
            with pytest.raises(errors.EngineRefused, match="cannot tell 'speakers'"):
                await listen(engine, [silence(2.0)], **ASKED)
    for cut in ("seconds", "speech"):
        with engine_process(script=own | {"cut": cut, "capabilities": ["live_speakers"]}) as process:
            async with engine_at(process) as engine:
                pcm = speech_pcm("dialogue.wav")[0] if cut == "speech" else silence(5.0)
                found = finals(await listen(engine, frames(pcm), **ASKED))
                assert labels(found) == ["anna", "bo", "anna", "bo", "anna"]


# --- an engine in this process, to be looked into ----------------------------------------------------------------


@asynccontextmanager
async def engine_with(prints: Voiceprints) -> AsyncIterator[GrpcEngine]:
    service = EngineService(Scripted(DIGESTS), slots=1, line=1, clock=SystemClock(), extras=Extras(prints=prints))
    server = grpc.aio.server()
    pb_grpc.add_SpeechEngineServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    engine = GrpcEngine(f"127.0.0.1:{port}")
    try:
        yield engine
    finally:
        await engine.close()
        await service.drain(1)
        await server.stop(1)


def network(broken: bool = False) -> Encoder:
    with locate(GE2E)["encoder"].open("rb") as file:
        weights = dict(read_weights(file))
    if broken:  # as if it were for another network
        weights["linear.weight"] = np.ascontiguousarray(weights["linear.weight"][:, :-1])
    return Encoder(weights)


async def test_a_text_is_not_lost_when_telling_speakers_fails() -> None:
    pcm = speech_pcm("dialogue.wav")[0]
    async with engine_with(Voiceprints(network(broken=True))) as engine:
        failed = await listen(engine, frames(pcm), every_s=0.005, **ASKED)
        plain = await listen(engine, frames(pcm))
    in_order(failed)
    assert labels(finals(failed)) == [None] * 5
    assert [(f.end_sample, f.segment) for f in finals(failed)] == [(f.end_sample, f.segment) for f in finals(plain)]


class Watched(Voiceprints):
    def __init__(self) -> None:
        super().__init__(network())
        self.heard: list[tuple[str, float]] = []  # in which thread, and seconds

    def of(self, samples: Samples) -> Voice:
        self.heard.append((threading.current_thread().name, len(samples) / RATE))
        return super().of(samples)


@pytest.mark.parametrize("every_s", [0.0, 0.02])
async def test_voices_are_listened_to_beside_the_event_loop_and_once_or_twice_each(every_s: float) -> None:
    prints = Watched()
    pcm = speech_pcm("dialogue.wav")[0]
    async with engine_with(prints) as engine:
        events = await listen(engine, frames(pcm), every_s=every_s, **ASKED)
    assert labels(finals(events)) == DIALOGUE
    assert {thread.rsplit("_", 1)[0] for thread, _ in prints.heard} == {"recognise"}
    partials = sum(isinstance(event, PartialFound) for event in events)
    assert len(prints.heard) <= 2 * len(DIALOGUE), f"of {partials} partials few may become a final"
