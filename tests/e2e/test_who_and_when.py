"""Who spoke, when, in which words: from the request through gateway and engine to transcript and command line, with the
embedded recogniser."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.server import Server

SAMPLES = Path(__file__).parents[2] / "samples"
RECORDINGS = Path(__file__).parents[3] / "shared" / "audio"
DIALOGUE = (SAMPLES / "dialogue.wav").read_bytes()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("data")) as running:
        yield running


def transcript(server: Server, body: bytes, **options: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The task's result, and its transcript."""
    with server.http("who") as http:
        session = f"who-{abs(hash((body, *sorted(options.items()))))}"
        sent = http.put(f"/v1/audio/{session}/0", content=body, params={"is_last": "1", **options})
        assert sent.status_code == 202, sent.text
        task = sent.json()["task_id"]
        with http.stream("GET", f"/v1/task/{task}/events", timeout=60) as events:
            for _ in events.iter_lines():
                pass
        told = http.get(f"/v1/task/{task}").json()
        assert told["state"] == "succeeded", told
        return told["result"], http.get(f"/v1/task/{task}/transcript").json()


def test_the_embedded_model_says_what_it_can(server: Server) -> None:
    with server.http("who") as http:
        [model] = http.get("/v1/models").json()["engines"][0]["models"]
    can = {name for name, value in model.items() if value is True}
    assert can == {"words", "speakers", "punctuation", "live", "live_speakers"}


@pytest.mark.needs("curl", "bash")
def test_the_readme_does_as_it_says(server: Server, tmp_path: Path) -> None:
    section = (
        (SAMPLES.parent / "README.md").read_text().split("## Who spoke, when, in which words\n")[1].split("\n## ")[0]
    )
    script, shown = re.findall(r"^```\w+\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    auth = f"Authorization: Bearer {server.token('me')}"
    (tmp_path / "samples").symlink_to(SAMPLES)
    done = subprocess.run(
        ["bash", "-c", "set -eu -o pipefail\n" + script],
        cwd=tmp_path,
        env={**os.environ, "NO_PROXY": "*", "URL": server.url, "AUTH": auth},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    saved, subtitles = done.stdout.split("\n", 1)
    assert json.loads(saved).keys() == json.loads(shown.split("\n")[0]).keys()

    def said(text: str) -> list[str]:
        return [line for line in text.split("\n") if line and "-->" not in line]

    wanted = said(shown.split("\n", 1)[1].partition("…")[0])
    assert said(subtitles)[: len(wanted)] == wanted


def test_a_conversation_has_two_speakers_and_words_in_order(server: Server) -> None:
    result, told = transcript(server, DIALOGUE, diarize="true")
    assert "flags" not in result and "flags" not in told
    segments = told["segments"]
    assert len(segments) == 5
    assert [s["speaker"] for s in segments] == ["S1", "S2", "S1", "S2", "S1"]
    for segment in segments:
        words = segment["words"]
        assert " ".join(word["text"] for word in words) == segment["text"]
        edges = [edge for word in words for edge in (word["start"], word["end"])]
        assert edges == sorted(edges)
        assert segment["start"] <= edges[0] and edges[-1] <= segment["end"]
    _, plain = transcript(server, DIALOGUE)
    assert [s["text"] for s in plain["segments"]] == [s["text"] for s in segments]
    assert not any("words" in s or "speaker" in s for s in plain["segments"])


@pytest.mark.parametrize(
    "options",
    [
        {"diarize": "true", "num_speakers": "2"},
        {"max_speakers": "1"},
        {"diarize": "auto", "max_speakers": "4"},
        {"channels": "split", "num_speakers": "2"},
        {"channels": "split", "diarize": "true"},
    ],
)
def test_every_way_to_ask_for_speakers(server: Server, options: dict[str, str]) -> None:
    _, told = transcript(server, DIALOGUE, **options)
    speakers = {segment["speaker"] for segment in told["segments"]}
    assert speakers == ({"S1"} if "channels" in options or options.get("max_speakers") == "1" else {"S1", "S2"})


def test_each_channel_of_a_call_is_a_speaker(server: Server, tmp_path: Path) -> None:
    with wave.open(str(SAMPLES / "note.wav")) as note:
        left, rate = note.readframes(note.getnframes()), note.getframerate()
    right = bytes(rate * 2) + left
    left += bytes(len(right) - len(left))
    both = b"".join(left[n : n + 2] + right[n : n + 2] for n in range(0, len(left), 2))
    call = tmp_path / "call.wav"
    with wave.open(str(call), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(both)
    _, told = transcript(server, call.read_bytes(), channels="split")
    assert [(s["speaker"], s["channel"]) for s in told["segments"]] == [("S1", 0), ("S2", 1)] * 2


def test_what_it_cannot_is_refused_by_name(server: Server) -> None:
    with server.http("who") as http:
        for option, value in {"emotion": "true", "itn": "1", "hotwords": "Dashwood"}.items():
            answer = http.put("/v1/audio/refused/0", content=DIALOGUE, params={"is_last": "1", option: value})
            assert (answer.status_code, answer.json()["code"], answer.json()["option"]) == (
                422, "option_unsupported", option,
            )  # fmt: skip


def _noise(kind: str) -> bytes:
    """Ten seconds without speech."""
    count, random = 160_000, np.random.default_rng(7)
    times = np.arange(count) / 16_000
    if kind == "silence":
        sound = np.zeros(count)
    elif kind == "noise":
        sound = 0.1 * random.standard_normal(count)
    else:
        sound = np.zeros(count)
        for step in range(40):
            at = slice(step * 4_000, step * 4_000 + 4_000)
            pitch = 262 * 2 ** (random.integers(13) / 12)
            fading = np.exp(-times[:4_000] * 6)
            sound[at] += fading * sum(0.2 / n * np.sin(2 * np.pi * pitch * n * times[:4_000]) for n in (1, 2, 3))
    return (np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes()


@pytest.mark.parametrize("kind", ["silence", "noise", "music"])
def test_where_nobody_speaks_there_are_no_words(server: Server, kind: str) -> None:
    raw = {"audio_format": "s16le;rate=16000;channels=1"}
    result, told = transcript(server, _noise(kind), **raw)
    assert (result["text"], told["segments"]) == ("", [])
    assert "flags" not in told


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason="../shared/audio is not there")
def test_another_language_is_told_and_not_invented(server: Server) -> None:
    japanese = RECORDINGS / "leopard_ja.wav"
    result, told = transcript(server, japanese.read_bytes())
    assert result["flags"] == told["flags"] == ["language_mismatch"]
    assert (result["text"], told["segments"]) == ("", [])
    _, english = transcript(server, japanese.read_bytes(), language="en")
    assert "flags" not in english and english["segments"]
    command = [sys.executable, "-m", "cosygate", "transcribe", str(japanese), "--server", server.url]
    done = subprocess.run(
        [*command, "--token", server.token("who")], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == ""
    assert "--language" in done.stderr
