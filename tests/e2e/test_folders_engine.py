"""What an engine tells beside its recogniser by the models of folders: speakers and punctuation, in real processes."""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import wave
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from cosygate.engine.__main__ import CANNOT_START
from cosygate.ports.engine import Done, FinalFound, Progress, SegmentFound, SpeakersFound
from cosygate.proto import speech_engine_pb2 as pb
from cosygate.proto import speech_engine_pb2_grpc as pb_grpc
from tests.support import tiny_extras, tiny_models
from tests.support.engine_process import EngineProcess, engine_argv, engine_process, recognise, speech_pcm
from tests.support.listening import engine_at, frames, in_order, listen
from tests.support.server import Server

_MARKS = set("，。？、,.?")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {
        "model": tiny_models.paraformer(tmp_path_factory.mktemp("model")),
        "speakers": tiny_extras.diarization(tmp_path_factory.mktemp("speakers")),
        "punctuation": tiny_extras.punctuation(tmp_path_factory.mktemp("punctuation")),
    }


@pytest.fixture(scope="module")
def engine(folders: dict[str, Path]) -> Iterator[EngineProcess]:
    options = [part for what, folder in folders.items() for part in (f"--{what}-dir", str(folder))]
    with engine_process("--recogniser", "sherpa", *options, "--slots", "2", "--num-threads", "2") as running:
        yield running


@pytest.fixture
def own_engine(folders: dict[str, Path]) -> Iterator[EngineProcess]:
    """For a test alone, with speakers and nothing else."""
    options = ["--model-dir", str(folders["model"]), "--speakers-dir", str(folders["speakers"])]
    with engine_process("--recogniser", "sherpa", *options) as running:
        yield running


async def test_it_can_tell_speakers(engine: EngineProcess) -> None:
    async with grpc.aio.insecure_channel(engine.address) as channel:
        told = await pb_grpc.SpeechEngineStub(channel).Describe(pb.DescribeRequest())
    assert {"words", "speakers", "live"} <= set(told.models[0].capabilities)


@pytest.mark.parametrize(("wanted", "names"), [({}, {"S1"}), ({"num_speakers": 2}, {"S1", "S2"})])
async def test_a_recording_gets_speakers_and_punctuation_from_the_folders(
    engine: EngineProcess, wanted: dict[str, Any], names: set[str]
) -> None:
    """The engine's own diariser hears two people in it (test_who_and_when.py); this model knows of tones alone."""
    pcm, rate = speech_pcm("dialogue.wav")
    async with engine_at(engine) as port:
        events = await recognise(port, pcm, sample_rate=rate, features=("words", "speakers"), **wanted)
    segments = [event.segment for event in events if isinstance(event, SegmentFound)]
    [speakers] = [event for event in events if isinstance(event, SpeakersFound)]
    assert isinstance(events[-1], Done)
    assert {turn.speaker for turn in speakers.turns} == names
    assert speakers.turns[0].speaker == "S1"
    edges = [edge for turn in speakers.turns for edge in (turn.start, turn.end)]
    assert edges == sorted(edges)
    for turn in speakers.turns:
        assert any(s.start <= turn.start < turn.end <= s.end for s in segments), "only where somebody was heard"
    assert len(segments) > 2
    for segment in segments:
        assert segment.text[-1] in _MARKS
        assert "".join(word.text for word in segment.words) == "".join(segment.text.split())
        assert all(a.end <= b.start for a, b in itertools.pairwise(segment.words))
    assert any(mark in segment.text[:-1] for segment in segments for mark in "。.")
    assert not any("failed" in line["action"] for line in engine.log_lines())


async def test_recordings_at_once_get_each_their_own(engine: EngineProcess) -> None:
    pcm, rate = speech_pcm("dialogue.wav")
    many: dict[str, Any] = {"sample_rate": rate, "features": ("speakers",)}
    async with engine_at(engine) as port:
        calls = await asyncio.gather(*(recognise(port, pcm, **many, num_speakers=1 + n % 2) for n in range(4)))
    told = [{turn.speaker for e in events if isinstance(e, SpeakersFound) for turn in e.turns} for events in calls]
    assert told == [{"S1"}, {"S1", "S2"}] * 2


async def test_live_finals_are_punctuated(engine: EngineProcess) -> None:
    pcm, rate = speech_pcm()
    async with engine_at(engine) as port:
        events = await listen(port, frames(pcm), every_s=0.02, sample_rate=rate)
    in_order(events)
    told = [event.segment for event in events if isinstance(event, FinalFound)]
    assert told and all(segment.text[-1] in _MARKS for segment in told)


async def test_a_caller_sees_signs_of_life_while_speakers_are_told_apart(own_engine: EngineProcess) -> None:
    pcm, rate = speech_pcm("dialogue.wav")
    async with engine_at(own_engine) as port:
        await recognise(port, pcm, sample_rate=rate, features=("speakers",))
        [child] = psutil.Process(own_engine.pid).children()
        child.suspend()
        call = asyncio.create_task(recognise(port, pcm, sample_rate=rate, features=("speakers",)))
        await asyncio.sleep(4.0)
        child.resume()
        events = await call
    last = max(at for at, event in enumerate(events) if isinstance(event, SegmentFound))
    assert sum(isinstance(event, Progress) for event in events[last:]) >= 3
    assert any(event.turns for event in events if isinstance(event, SpeakersFound))


async def test_children_die_with_the_engine(own_engine: EngineProcess) -> None:
    pcm, rate = speech_pcm("dialogue.wav")
    async with engine_at(own_engine) as port:
        await recognise(port, pcm, sample_rate=rate, features=("speakers",))
    [child] = psutil.Process(own_engine.pid).children()
    own_engine.process.kill()
    assert psutil.wait_procs([child], timeout=5)[1] == []


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    ("option", "damage", "names"),
    [
        ("--speakers-dir", lambda p: (p / "cosygate-model.json").unlink(), "cosygate-model.json"),
        ("--speakers-dir", lambda p: (p / "embedding.onnx").unlink(), "embedding.onnx"),
        ("--speakers-dir", lambda p: _cut(p / "segmentation.onnx"), "segmentation.onnx"),
        ("--speakers-dir", lambda p: tiny_extras.diarization(p, num_speakers=None), "segmentation.onnx"),
        ("--speakers-dir", lambda p: tiny_extras.diarization(p, embedding={"framework": "nemo"}), ""),  # ends the trial
        ("--speakers-dir", tiny_extras.punctuation, ""),
        ("--punctuation-dir", lambda p: (p / "model.onnx").unlink(), "model.onnx"),
        ("--punctuation-dir", lambda p: tiny_extras.punctuation(p, vocab_size=3), "model.onnx"),
        ("--punctuation-dir", tiny_extras.diarization, ""),
    ],
)
def test_a_damaged_folder_is_told_and_nothing_is_served(
    option: str, damage: Callable[[Path], object], names: str, tmp_path: Path
) -> None:
    folder = (tiny_extras.diarization if option == "--speakers-dir" else tiny_extras.punctuation)(tmp_path / "model")
    damage(folder)
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"texts": ["one"], "cut": "speech"}))
    argv = engine_argv(f"unix:{tmp_path}/s", "--recogniser", "scripted", "--script", str(script), option, str(folder))
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert ended.returncode == CANNOT_START
    assert ended.stdout == ""
    said = json.loads(ended.stderr.splitlines()[-1])
    assert said["action"] == "engine.cannot_start"
    assert str(folder / names) in said["detail"]


def test_who_does_not_cut_at_pauses_has_no_pieces_of_speech(folders: dict[str, Path], tmp_path: Path) -> None:
    argv = engine_argv(f"unix:{tmp_path}/s", "--recogniser", "scripted", "--speakers-dir", str(folders["speakers"]))
    ended = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert ended.returncode == CANNOT_START
    assert "does not cut at pauses" in ended.stderr


def test_they_are_settings_of_the_server(folders: dict[str, Path], tmp_path: Path) -> None:
    settings = {f"{what}_dir": folder for what, folder in folders.items()}
    pcm, rate = speech_pcm("dialogue.wav")
    recording = BytesIO()
    with wave.open(recording, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(pcm)
    with Server(tmp_path, recogniser="sherpa", **settings) as server, server.http("who") as http:
        [model] = http.get("/v1/models").json()["engines"][0]["models"]
        assert model["speakers"]
        options = {"is_last": "1", "diarize": "true"}
        sent = http.put("/v1/audio/folders/0", content=recording.getvalue(), params=options)
        assert sent.status_code == 202, sent.text
        task = sent.json()["task_id"]
        with http.stream("GET", f"/v1/task/{task}/events", timeout=60) as events:
            for _ in events.iter_lines():
                pass
        segments = http.get(f"/v1/task/{task}/transcript").json()["segments"]
    assert {segment["speaker"] for segment in segments} == {"S1"}, "the engine's own would hear two"
    assert all(segment["text"][-1] in _MARKS for segment in segments)
