"""Who speaks, live: from the start message through gateway and engine to finals, captions, transcript and command line;
and that no label ever names two people, whoever dies in the middle."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.support.faults import Victim
from tests.support.flite import RATE, say
from tests.support.live import LiveCaller, LiveRefused, Story
from tests.support.live_recordings import LiveRecording, check_task, read_wav
from tests.support.server import Server

SAMPLES = Path(__file__).parents[2] / "samples"
ASKED = {"diarize": "true"}
DIALOGUE = ["S1", "S2", "S1", "S2", "S1"]
HEARS = {"hear": "digest", "cut": "speech"}  # so that a text is the sound's own
# From the third on nobody is who spoke first: one who begins to count anew names somebody else S1.
TURNS = ("rms", "slt", "kal16", "slt", "kal16", "slt", "kal16", "slt", "rms")
SAID = (
    "The committee met on Tuesday to talk about the new building.",
    "Several people said that the plan was far too expensive for the town.",
    "Others thought that it could be paid for within ten years.",
    "After a long debate nothing was decided, and everybody went home.",
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("data")) as running:
        yield running


def spoken(server: Server, recording: LiveRecording, **options: str) -> Story:
    caller = LiveCaller(server.port, server.token("ann"), replace(recording, options=options), speed=3.0, silence_s=20)
    return asyncio.run(caller.run())


def told(story: Story) -> list[str | None]:
    return [final.get("speaker") for final in story.finals]


def test_the_embedded_model_labels_finals_captions_and_the_transcript(server: Server) -> None:
    recording = read_wav(SAMPLES / "dialogue.wav")
    story = spoken(server, recording, **ASKED)
    assert told(story) == DIALOGUE
    assert not any("words" in final for final in story.finals)
    assert story.done is not None
    task = story.done["task_id"]
    with server.http("ann") as http:
        check_task(http, task, recording, 5)
        shown = http.get(f"/v1/task/{task}/transcript").json()["segments"]
        assert [(s["text"], s["speaker"]) for s in shown] == [(f["text"], f["speaker"]) for f in story.finals]
        assert "S2: " in http.get(f"/v1/task/{task}/transcript", params={"format": "srt"}).text
        events = http.get(f"/v1/live/{task}/events").text.splitlines()
    captions = [json.loads(line.removeprefix("data: ")) for line in events if '"start_sample"' in line]
    assert [caption["speaker"] for caption in captions] == DIALOGUE

    plain = spoken(server, recording)
    assert told(plain) == [None] * 5
    assert [f["text"] for f in plain.finals] == [f["text"] for f in story.finals]


@pytest.mark.parametrize(
    ("options", "labels"),
    [({"max_speakers": "1"}, {"S1"}), ({"num_speakers": "2"}, {"S1", "S2"}), ({"diarize": "auto"}, {"S1", "S2"})],
)
def test_every_way_to_ask(server: Server, options: dict[str, str], labels: set[str]) -> None:
    assert set(told(spoken(server, read_wav(SAMPLES / "dialogue.wav"), **options))) == labels


def test_the_command_line_writes_who_speaks(server: Server) -> None:
    command = [sys.executable, "-m", "cosygate", "live", str(SAMPLES / "dialogue.wav"), "--speed", "3", "--diarize"]
    more = ["--server", server.url, "--token", server.token("ann")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("COSYGATE_")}
    done = subprocess.run([*command, *more], capture_output=True, text=True, timeout=60, check=True, env=clean)
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == DIALOGUE


def test_who_cannot_is_not_asked(data_dir: Path) -> None:
    """A scripted engine that cuts by the clock tells nobody apart."""
    with Victim(data_dir, script={"segment_s": 1.0}) as server:
        recording = read_wav(SAMPLES / "note.wav")
        with pytest.raises(LiveRefused) as refused:
            spoken(server, recording, **ASKED)
        assert refused.value.code == 4400
        assert [(e["code"], e["option"]) for e in refused.value.errors] == [("option_unsupported", "diarize")]
        assert set(told(spoken(server, recording, diarize="auto"))) == {None}


# --- whoever dies ------------------------------------------------------------------------------------------------


def conversation() -> tuple[LiveRecording, list[tuple[int, int, str]]]:
    """One voice after the other, and from which sample to which who speaks."""
    pause = np.zeros(RATE * 7 // 10, np.float32)
    parts, turns, at = [pause], [], len(pause)
    for number, voice in enumerate(TURNS):
        said = say(voice, SAID[number % len(SAID)])[0]
        turns.append((at, at + len(said), voice))
        parts += [said, pause]
        at += len(said) + len(pause)
    pcm = (np.concatenate(parts) * 32767).astype("<i2").tobytes()
    return LiveRecording(pcm, rate=RATE, frame=RATE // 10, options=ASKED), turns


def kill_engine(server: Victim) -> None:
    server.engine(0).kill()


def kill_all(server: Victim) -> None:
    port = server.port
    server.kill()
    server.start(port)


@pytest.mark.needs("flite")
@pytest.mark.parametrize("dies", [kill_engine, kill_all])
async def test_no_label_names_two_people(data_dir: Path, dies: Callable[[Victim], None]) -> None:
    recording, turns = conversation()
    with Victim(data_dir, script=HEARS, engines=1, restart_longest_s=1) as server:
        caller = LiveCaller(server.port, server.token("ann"), recording, speed=2.0, silence_s=20)
        running = asyncio.create_task(caller.run())
        while len(caller.story.finals) < 3 and not running.done():
            await asyncio.sleep(0.02)
        await asyncio.to_thread(dies, server)
        story = await running
        assert story.done is not None
        with server.http("ann") as http:
            kept = http.get(f"/v1/task/{story.done['task_id']}/transcript").json()["segments"]

    people: defaultdict[str, set[str]] = defaultdict(set)
    for final in story.finals:
        people[final["speaker"]] |= {
            who for start, end, who in turns if final["start_sample"] < end and start < final["end_sample"]
        }
    assert len(story.finals) >= len(TURNS)
    assert all(len(who) == 1 for who in people.values()), people
    numbers = [int(final["speaker"][1:]) for final in story.finals]
    assert numbers[:3] == [1, 2, 3]
    assert max(numbers) > 3, "the voices of before are not remembered"
    assert [segment["speaker"] for segment in kept] == [final["speaker"] for final in story.finals]
