"""A model's folder behind the real engine process: what it describes, files and live, and folders that are damaged."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from cosygate import errors
from cosygate.engine.__main__ import CANNOT_START
from cosygate.ports.engine import Done, PartialFound, SegmentFound
from cosygate.proto import speech_engine_pb2 as pb
from cosygate.proto import speech_engine_pb2_grpc as pb_grpc
from tests.support import tiny_models
from tests.support.engine_process import EngineProcess, engine_argv, engine_process, recognise, speech_pcm
from tests.support.listening import engine_at, finals, frames, in_order, listen

SHERPA = ("--recogniser", "sherpa", "--model-dir")
OWN = {"words", "language", "emotion", "events", "punctuation", "itn"}  # of SenseVoice itself


@pytest.fixture(scope="module")
def sense_voice(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    folder = tiny_models.sense_voice(tmp_path_factory.mktemp("model"))
    with engine_process(*SHERPA, str(folder), "--slots", "2", "--num-threads", "2") as running:
        yield running


@pytest.fixture(scope="module")
def zipformer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    folder = tiny_models.zipformer(tmp_path_factory.mktemp("model"))
    with engine_process(*SHERPA, str(folder)) as running:
        yield running


async def test_describes_what_the_model_can(sense_voice: EngineProcess, zipformer: EngineProcess) -> None:
    async def model(process: EngineProcess) -> pb.Model:
        async with grpc.aio.insecure_channel(process.address) as channel:
            told = await pb_grpc.SpeechEngineStub(channel).Describe(pb.DescribeRequest())
        assert told.name == "sherpa"
        return told.models[0]

    told = await model(sense_voice)
    assert (told.name, list(told.languages)) == ("tiny-sense_voice", ["zh", "en", "ja", "ko", "yue"])
    assert set(told.capabilities) - {"speakers", "live_speakers"} == OWN | {"live"}
    assert {"words", "hotwords", "live"} <= set((await model(zipformer)).capabilities)
    assert not {"emotion", "itn"} & set((await model(zipformer)).capabilities)


async def test_a_recording_gets_language_mood_events_and_words(sense_voice: EngineProcess) -> None:
    pcm, rate = speech_pcm("dialogue.wav")
    async with engine_at(sense_voice) as engine:
        told = [
            await recognise(engine, pcm, sample_rate=rate, language=language, features=("words", "emotion"))
            for language in ("auto", "ja")
        ]
    for language, events in zip(("en", "ja"), told, strict=True):
        segments = [event.segment for event in events if isinstance(event, SegmentFound)]
        assert len(segments) >= 2
        assert isinstance(events[-1], Done)
        for segment in segments:
            assert segment.language == language
            assert segment.emotion in ("sad", "neutral", "angry")
            assert segment.events == (("laughter",) if segment.emotion == "angry" else ())
            assert segment.words
            assert segment.start <= segment.words[0].start
            assert segment.words[-1].end <= segment.end
            assert all(word.start <= word.end for word in segment.words)
            assert all(a.end <= b.start for a, b in itertools.pairwise(segment.words))


async def test_what_the_model_cannot_is_refused_by_name(sense_voice: EngineProcess, zipformer: EngineProcess) -> None:
    async with engine_at(sense_voice) as engine:
        with pytest.raises(errors.EngineRefused, match="cannot tell 'hotwords'"):
            await recognise(engine, bytes(32_000), hotwords=("word",))
        with pytest.raises(errors.EngineRefused, match="language 'fr'"):
            await recognise(engine, bytes(32_000), language="fr")
    async with engine_at(zipformer) as engine:
        with pytest.raises(errors.EngineRefused, match="cannot tell 'emotion'"):
            await recognise(engine, bytes(32_000), features=("emotion",))


async def test_hotwords_reach_the_model(zipformer: EngineProcess) -> None:
    pcm, rate = speech_pcm()

    async def text(*hotwords: str) -> str:
        events = await recognise(engine, pcm, sample_rate=rate, hotwords=hotwords)
        return " ".join(event.segment.text for event in events if isinstance(event, SegmentFound))

    async with engine_at(zipformer) as engine:
        assert (await text("hello")).count("hello") > (await text("zzz")).count("hello")


@pytest.mark.parametrize("name", ["sense_voice", "zipformer"])
async def test_live_speech_is_shown_while_it_is_spoken(name: str, request: pytest.FixtureRequest) -> None:
    process: EngineProcess = request.getfixturevalue(name)
    pcm, rate = speech_pcm()
    async with engine_at(process) as engine:
        events = await listen(engine, frames(pcm), every_s=0.02, sample_rate=rate)
        whole = await recognise(engine, pcm, sample_rate=rate)
    in_order(events)
    assert any(isinstance(event, PartialFound) and event.text for event in events)
    assert finals(events)
    assert any(isinstance(event, SegmentFound) for event in whole)


async def test_calls_in_several_languages_at_once_do_not_mix(sense_voice: EngineProcess) -> None:
    pcm, rate = speech_pcm()
    languages = ["ja", "ko", "zh", "yue", "en"] * 2
    async with engine_at(sense_voice) as engine:
        calls = await asyncio.gather(
            *(recognise(engine, pcm, sample_rate=rate, language=language) for language in languages)
        )
    for language, events in zip(languages, calls, strict=True):
        assert {event.segment.language for event in events if isinstance(event, SegmentFound)} == {language}


# --- damaged folders ---------------------------------------------------------------------------------------------


def _rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize(
    ("damage", "names"),
    [
        (lambda p: (p / "cosygate-model.json").unlink(), "cosygate-model.json"),
        (lambda p: (p / "model.onnx").unlink(), "model.onnx"),
        (lambda p: (p / "model.onnx").write_bytes(b""), "model.onnx"),
        (lambda p: _rewrite(p / "model.onnx", lambda whole: whole[: len(whole) // 2]), "model.onnx"),
        (lambda p: tiny_models.sense_voice(p, with_itn=None), "model.onnx"),
        (lambda p: _rewrite(p / "tokens.txt", lambda whole: whole.replace(b" 7\n", b"\n")), "tokens.txt"),
        (lambda p: tiny_models.sense_voice(p, lfr_window_size=5), ""),  # only loading shows it
        (lambda p: tiny_models.whisper(p, all_language_codes="en"), ""),  # and this ends the process that loads it
    ],
)
def test_a_damaged_folder_is_told_and_nothing_is_served(
    damage: Callable[[Path], object], names: str, tmp_path: Path
) -> None:
    folder = tiny_models.sense_voice(tmp_path / "model")
    damage(folder)
    argv = engine_argv(f"unix:{tmp_path}/s", *SHERPA, str(folder))
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert ended.returncode == CANNOT_START
    assert ended.stdout == ""
    said = json.loads(ended.stderr.splitlines()[-1])
    assert said["action"] == "engine.cannot_start"
    assert str(folder / names) in said["detail"]


def test_a_folder_must_be_named(tmp_path: Path) -> None:
    argv = engine_argv(f"unix:{tmp_path}/s", "--recogniser", "sherpa")
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert ended.returncode == CANNOT_START
    assert "--model-dir" in ended.stderr
