"""Who spoke when, from the detector's pieces to turns: synthesised conversations, real ones, and the promises."""

from __future__ import annotations

import subprocess
import wave
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cosygate.engine.models import SILERO_VAD, locate
from cosygate.engine.recognisers.base import RATE, Samples
from cosygate.engine.speakers.clustering import MOST_SPEAKERS
from cosygate.engine.speakers.voices import Diariser, Turn, Voices
from cosygate.engine.vad import SpeechCutter
from tests.support.der import Spoken, der, read_rttm
from tests.support.engine_process import speech_samples
from tests.support.flite import MEETING as SAID

AUDIO = Path(__file__).parents[3] / "shared" / "audio"


@pytest.fixture(scope="module")
def diariser() -> Diariser:
    return Diariser.load()


@pytest.fixture(scope="module")
def cutter() -> SpeechCutter:
    return SpeechCutter(locate(SILERO_VAD)["model"])


def heard(diariser: Diariser, cutter: SpeechCutter, samples: Samples) -> Voices:
    voices = diariser.voices()
    cutter.reset()
    for piece in cutter.push(samples) + cutter.finish():
        voices.hear(piece.start, piece.samples)
    return voices


def seconds(turns: list[Turn]) -> list[Spoken]:
    return [(turn.start / RATE, turn.end / RATE, turn.speaker) for turn in turns]


def read_wav(path: Path) -> Samples:
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, RATE)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768


def conversation(folder: Path, who: list[str]) -> tuple[Samples, list[Spoken]]:
    """A sentence by each of flite's voices `who`, in turn, with half a second between; and who spoke when."""
    parts, spoken, at = [np.zeros(RATE // 2, np.float32)], list[Spoken](), RATE // 2
    for index, voice in enumerate(who):
        path = folder / f"{index}.wav"
        subprocess.run(["flite", "-voice", voice, "-t", SAID[index % len(SAID)], "-o", str(path)], check=True)
        said = read_wav(path)
        loud = np.flatnonzero(np.abs(said) > 0.01)  # without the silence around it
        said = said[loud[0] : loud[-1] + 1]
        spoken.append((at / RATE, (at + len(said)) / RATE, voice))
        parts += [said, np.zeros(RATE // 2, np.float32)]
        at += len(said) + RATE // 2
    return np.concatenate(parts), spoken


@pytest.mark.needs("flite")
@pytest.mark.parametrize(
    "who",
    [
        ["slt"] * 6,
        ["slt", "rms", "slt", "rms", "rms", "slt"],
        ["awb", "slt", "rms", "slt", "awb", "rms", "slt", "awb", "rms"],
    ],
)
def test_synthesised_conversations(diariser: Diariser, cutter: SpeechCutter, tmp_path: Path, who: list[str]) -> None:
    samples, spoken = conversation(tmp_path, who)
    voices = heard(diariser, cutter, samples)
    turns = seconds(voices.turns())
    assert len({speaker for _, _, speaker in turns}) == len(set(who))
    assert der(spoken, turns) <= 0.03
    assert der(spoken, seconds(voices.turns(num_speakers=len(set(who))))) <= 0.03


@pytest.mark.parametrize(("name", "speakers"), [("conv_2spk", 2), ("conv_3spk", 3), ("conv_4spk", 4)])
def test_real_conversations(diariser: Diariser, cutter: SpeechCutter, name: str, speakers: int) -> None:
    if not AUDIO.is_dir():
        pytest.skip("the recordings of ../shared/audio are not there")
    spoken = read_rttm(AUDIO / f"{name}.rttm")
    voices = heard(diariser, cutter, read_wav(AUDIO / f"{name}.wav"))
    assert der(spoken, seconds(voices.turns())) <= 0.12
    assert der(spoken, seconds(voices.turns(num_speakers=speakers))) <= 0.08
    assert len({turn.speaker for turn in voices.turns(max_speakers=speakers - 1)}) < speakers


def test_the_same_audio_gives_the_same_turns(diariser: Diariser, cutter: SpeechCutter) -> None:
    samples = speech_samples("dialogue.wav")
    voices = heard(diariser, cutter, samples)
    turns = voices.turns(num_speakers=2)
    assert turns == voices.turns(num_speakers=2), "asking changes nothing"
    assert turns == heard(diariser, cutter, samples).turns(num_speakers=2)
    assert [turn.speaker for turn in turns] == ["S1", "S2", "S1", "S2", "S1"]


@settings(max_examples=30, deadline=None)
@given(
    pieces=st.lists(st.tuples(st.integers(-6_400, 20_000), st.integers(6_500, 60_000)), min_size=1, max_size=5),
    speakers=st.integers(0, 4),
)
def test_turns_are_just_what_was_heard(diariser: Diariser, pieces: list[tuple[int, int]], speakers: int) -> None:
    """In order, no sample twice, none left out, none from elsewhere."""
    speech = speech_samples("dialogue.wav")
    voices, at, expected = diariser.voices(), 0, list[tuple[int, int]]()
    for gap, length in pieces:
        start = max(0, at + gap)
        expected.append((max(start, at), start + length))
        at = start + length
        voices.hear(start, np.resize(speech[start % len(speech) :], length))
    turns = voices.turns(num_speakers=speakers)
    assert all(turn.start < turn.end for turn in turns)
    joined: list[tuple[int, int]] = []
    for turn in turns:
        if joined and joined[-1][1] == turn.start and turn.start not in {start for start, _ in expected}:
            joined[-1] = (joined[-1][0], turn.end)
        else:
            joined.append((turn.start, turn.end))
    assert joined == expected
    names = [turn.speaker for turn in turns]
    assert list(dict.fromkeys(names)) == [f"S{n + 1}" for n in range(len(set(names)))]
    assert len(set(names)) <= (speakers or MOST_SPEAKERS)


def test_a_turn_ends_where_the_voice_changes_inside_a_piece(diariser: Diariser) -> None:
    slt, rms = speech_samples("note.wav")[4_000:44_000], speech_samples("dialogue.wav")[56_000:96_000]
    voices = diariser.voices()
    voices.hear(1_000, np.concatenate([slt, rms, slt]))
    turns = voices.turns()
    assert [turn.speaker for turn in turns] == ["S1", "S2", "S1"]
    assert [turn.end for turn in turns[:2]] == [pytest.approx(at, abs=RATE // 2) for at in (41_000, 81_000)]


def test_nothing_heard_is_no_turns(diariser: Diariser) -> None:
    assert diariser.voices().turns() == []


def test_one_short_piece_is_one_turn(diariser: Diariser) -> None:
    voices = diariser.voices()
    voices.hear(160, speech_samples()[:8_000])
    assert voices.turns() == voices.turns(num_speakers=3) == [Turn(160, 8_160, "S1")]


def test_what_cannot_be_is_refused(diariser: Diariser) -> None:
    voices = diariser.voices()
    samples = speech_samples()
    voices.hear(16_000, samples[:32_000])
    for start, count in [(8_000, 32_000), (20_000, 10_000), (60_000, 0), (-1, 8_000)]:
        with pytest.raises(ValueError, match="cannot follow"):
            voices.hear(start, samples[:count])
    for count in (-1, 51):
        with pytest.raises(ValueError, match="from 0"):
            voices.turns(num_speakers=count)
        with pytest.raises(ValueError, match="from 0"):
            voices.turns(max_speakers=count)


def test_only_some_windows_of_a_long_recording_are_clustered(
    diariser: Diariser, cutter: SpeechCutter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others go to the nearest voice: the same turns, but for where one may end a little sooner or later."""
    voices = heard(diariser, cutter, speech_samples("dialogue.wav"))
    every = seconds(voices.turns(num_speakers=2))
    monkeypatch.setattr("cosygate.engine.speakers.voices._CLUSTERED", 12)
    assert der(every, seconds(voices.turns(num_speakers=2))) <= 0.01
