"""`cosygate live` without a server: what is printed where, where the sound comes from, what is refused."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from cosygate.cli.captions import Captions
from cosygate.cli.live_audio import SoundFailed, microphone, paced, pipe, recording
from cosygate.client import Disconnected, Done, Final, Gap, Partial, Reconnected, SpeechStarted
from tests.support.media import encode_as, s16, tone, tone_wav, video_only, wav

CLEAR = "\r\x1b[K"
STORY = [
    SpeechStarted(0.1),
    Partial(0.1, 0.5, "Good"),
    Partial(0.1, 0.9, "Good morning"),
    Final(0, 0.1, 1.4, "Good morning.", 0, 0),
    Partial(62.0, 62.5, "How"),
    Disconnected("cut"),
    Reconnected(3.0),
    Final(1, 62.0, 63.0, "How\nare\x1b[2J you?", 0, 0),
    Final(2, 3_700.0, 3_701.0, "", 0, 0),
    Final(3, 3_700.0, 3_702.0, "Fine.", 0, 0),
    Done("t", 4, 0),
]


def shown(*events: object, terminal: bool, columns: int = 80, partials: bool = True) -> tuple[str, str]:
    out, err = io.StringIO(), io.StringIO()
    captions = Captions(out, err, terminal=terminal, columns=lambda: columns, partials=partials)
    for event in events:
        captions.show(event)  # type: ignore[arg-type]
    captions.close()
    return out.getvalue(), err.getvalue()


def screen(written: str) -> list[str]:
    """What a terminal shows after that: lines, of which only the last can be overwritten."""
    return [line.rsplit(CLEAR, 1)[-1] for line in written.split("\n")]


def test_in_a_pipe_there_are_finals_one_a_line_and_nothing_else() -> None:
    assert shown(*STORY, terminal=False) == ("Good morning.\nHow are [2J you?\nFine.\n", "")


def test_on_a_terminal_finals_stay_and_partials_are_overwritten() -> None:
    out, err = shown(*STORY, terminal=True)
    assert screen(out) == ["00:00  Good morning.", "01:02  How are [2J you?", "1:01:40  Fine.", ""]
    assert "\x1b[2m00:00  Good\x1b[22m" in out
    assert "connecting again" in out
    assert err == ""
    quiet, _ = shown(*STORY, terminal=True, partials=False)
    assert "\x1b[2m00:00" not in quiet
    assert screen(quiet) == screen(out)


def test_a_partial_never_takes_more_than_a_line() -> None:
    for columns in (11, 20, 40):
        for text in ("word " * 30, "这是一段很长的话" * 10, "a" * 500):
            out, _ = shown(Partial(0, 1, text), terminal=True, columns=columns)
            pale = out.split("\x1b[2m")[1].split("\x1b[22m")[0]
            width = sum(2 if ord(c) > 0x2E80 else 1 for c in pale)
            assert columns - 3 <= width <= columns - 1
            assert pale.startswith("…")
            assert pale.endswith(text.strip()[-1])
    assert "word" not in shown(Partial(0, 1, "word"), terminal=True, columns=9)[0]


def test_a_partial_of_a_later_utterance_survives_a_final() -> None:
    out, _ = shown(Partial(5.0, 6.0, "later"), Final(0, 1.0, 2.0, "Earlier.", 0, 0), terminal=True)
    assert out.rindex("later") > out.rindex("Earlier.")
    out, _ = shown(Partial(1.5, 1.9, "replaced"), Final(0, 1.0, 2.0, "Said.", 0, 0), terminal=True)
    assert out.rindex("Said.") > out.rindex("replaced")


def test_who_speaks_stands_before_what_is_said() -> None:
    story = [
        Final(0, 0.0, 1.0, "Good morning.", 0, 0, speaker="S1"),
        Final(1, 1.0, 2.0, "And to you.", 0, 0, speaker="S\x1b[2J2"),
        Final(2, 2.0, 3.0, "", 0, 0, speaker="S1"),
    ]
    assert shown(*story, terminal=False)[0].splitlines() == ["S1: Good morning.", "S [2J2: And to you."]
    assert screen(shown(*story, terminal=True)[0])[:2] == ["00:00  S1: Good morning.", "00:01  S [2J2: And to you."]


@pytest.mark.parametrize("terminal", [True, False])
def test_lost_sound_is_told_beside_the_captions(terminal: bool) -> None:
    out, err = shown(Gap(61.0, 63.5), Gap(1.0, 2.0, "engine_failed"), terminal=terminal)
    assert err.splitlines() == [
        "cosygate: 2.5 s of sound from 01:01 on are lost",
        "cosygate: 1.0 s of sound from 00:01 on are lost (engine_failed)",
    ]
    assert "lost" not in out


# --- sound -------------------------------------------------------------------------------------------------------


def played(path: Path) -> tuple[int, np.ndarray]:  # type: ignore[type-arg]
    sound = recording(path, float("inf"), threading.Event())
    assert (sound.format, sound.can_wait, sound.name) == ("s16le", True, path.name)
    pieces = list(sound.pieces)
    assert all(len(piece) == 2 * round(sound.rate / 10) for piece in pieces[:-1])
    return sound.rate, np.frombuffer(b"".join(pieces), "<i2")


@pytest.mark.parametrize(("own", "sent"), [(8_000, 8_000), (44_100, 44_100), (96_000, 16_000), (32_000, 32_000)])
def test_a_file_is_sent_at_its_own_rate_if_that_is_taken(tmp_path: Path, own: int, sent: int) -> None:
    path = tmp_path / "tone.wav"
    path.write_bytes(tone_wav(1.25, own))
    rate, samples = played(path)
    assert rate == sent
    assert abs(len(samples) - 1.25 * sent) <= 2
    expected = np.frombuffer(s16(tone(1.25, sent)), "<i2")[: len(samples)]
    apart = np.abs(samples[: len(expected)].astype(int) - expected)
    assert (apart.max() if own == sent else np.median(apart)) <= 3


def test_channels_are_mixed_and_other_formats_decoded(tmp_path: Path) -> None:
    left, right = tone(1.0, level=0.2), tone(1.0, level=0.6)
    stereo = tmp_path / "stereo.wav"
    stereo.write_bytes(wav(s16(np.stack([left, right], axis=1)), channels=2))
    rate, samples = played(stereo)
    assert np.abs(samples - np.frombuffer(s16((left + right) / 2), "<i2").astype(int)).max() <= 2
    for container, codec in (("flac", "flac"), ("ogg", "libopus"), ("wav", "pcm_mulaw"), ("wav", "pcm_u8")):
        path = tmp_path / f"{codec}.{container}"
        own = 48_000 if codec == "libopus" else 16_000
        path.write_bytes(encode_as(container, codec, own, tone(1.0, own)))
        rate, samples = played(path)
        assert abs(len(samples) / rate - 1.0) < 0.05
        loud = np.sqrt(np.mean((samples / 32768.0) ** 2))
        assert loud == pytest.approx(0.5 / 2**0.5, rel=0.1)


@pytest.mark.parametrize("content", [b"", b"Dear listener, this is not sound.", b"#EXTM3U\nfile:///etc/hosts\n", None])
def test_a_file_that_has_no_sound(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "x.wav"
    path.write_bytes(video_only() if content is None else content)
    with pytest.raises(SoundFailed):
        recording(path, 1.0, threading.Event())


def test_pace() -> None:
    """Each piece comes when it has been spoken, at that speed; stopping ends it at once."""
    for speed in (1.0, 4.0, float("inf")):
        now, waits = [100.0], []

        def wait(stop: threading.Event, seconds: float, now: list[float] = now, waits: list[float] = waits) -> None:
            waits.append(seconds)
            now[0] += seconds

        pieces = [bytes(3_200)] * 10
        came = list(paced(iter(pieces), 16_000, speed, threading.Event(), lambda now=now: now[0], wait))
        assert came == pieces
        assert now[0] - 100 == pytest.approx(1.0 / speed)
    stop = threading.Event()
    rest = paced(iter(pieces), 16_000, 0.001, stop)
    stop.set()
    assert list(rest) == []


def test_a_pipe_gives_whole_samples_and_can_be_left() -> None:
    reading, writing = os.pipe()
    stop = threading.Event()
    sound = pipe(reading, 16_000, "s16le", stop)
    os.write(writing, b"abc")
    assert next(sound.pieces) == b"ab"
    os.write(writing, b"de")
    assert next(sound.pieces) == b"cd"
    stop.set()
    assert list(sound.pieces) == []
    os.close(writing)
    os.close(reading)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is the whole PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    return folder


def recorder(folder: Path, name: str, code: str) -> None:
    program = folder / name
    program.write_text(f"#!{sys.executable}\nimport os, signal, sys, time\n{code}")
    program.chmod(0o755)


def test_a_microphone_without_a_recorder(programs: Path) -> None:
    with pytest.raises(SoundFailed, match="arecord, parec, ffmpeg"):
        microphone(threading.Event())


def test_a_recorder_is_told_to_stop_and_what_it_has_is_kept(programs: Path) -> None:
    code = """
def last(*_):
    os.write(1, b"zz" * 10)
    sys.exit(0)
signal.signal(signal.SIGTERM, last)
assert sys.argv[1:] == ["--raw", "--format=s16le", "--rate=16000", "--channels=1", "--latency-msec=50"]
while True:
    os.write(1, b"ab" * 100)
    time.sleep(0.01)
"""
    recorder(programs, "parec", code)
    stop = threading.Event()
    sound = microphone(stop)
    assert (sound.rate, sound.format, sound.can_wait) == (16_000, "s16le", False)
    heard = next(sound.pieces)
    stop.set()
    heard += b"".join(sound.pieces)
    assert heard.startswith(b"abab")
    assert heard.endswith(b"zz" * 10)


def test_a_recorder_that_fails_says_why(programs: Path) -> None:
    recorder(programs, "arecord", 'sys.exit("arecord: main: audio open error: No such device")')
    with pytest.raises(SoundFailed, match=r"arecord ended with status 1: .* No such device"):
        list(microphone(threading.Event()).pieces)


def test_a_recorder_that_does_not_stop_is_stopped(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cosygate.cli.live_audio.STOP_S", 0.1)
    recorder(programs, "arecord", "signal.signal(15, signal.SIG_IGN)\nwhile True: os.write(1, b'ab'), time.sleep(0.01)")
    stop = threading.Event()
    pieces = microphone(stop).pieces
    next(pieces)
    stop.set()
    began = time.monotonic()
    list(pieces)
    assert time.monotonic() - began < 5


# --- commands that mean nothing ----------------------------------------------------------------------------------


def cosygate(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("COSYGATE_")}
    return subprocess.run(
        [sys.executable, "-m", "cosygate", "live", *arguments],
        env={**clean, **{f"COSYGATE_{k.upper()}": v for k, v in settings.items()}},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "one of them"),
        (["a.wav", "--mic"], "one of them"),
        (["a.wav", "--speed", "0"], "--speed"),
        (["a.wav", "--speed", "fast"], "--speed"),
        (["-", "--speed", "2"], "--speed is for recordings"),
        (["--mic", "--speed", "max"], "--speed is for recordings"),
        (["-", "--rate", "16001"], "--rate is one of"),
        (["-", "--format", "mp3"], "--format"),
        (["a.wav", "--output-format", "srt"], "needs --out"),
        (["a.wav", "--out", "no/such/folder/x.srt"], "no folder"),
        (["a.wav", "--server", "http://x"], "needs a --token"),
    ],
)
def test_what_is_refused(arguments: list[str], says: str) -> None:
    answer = cosygate(*arguments)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert says in answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_file_that_cannot_be_played_is_told_before_a_server_is_started(tmp_path: Path) -> None:
    missing = cosygate(str(tmp_path / "none.wav"), data_dir=str(tmp_path / "data"))
    assert (missing.returncode, missing.stderr) == (
        1,
        f"cosygate: {tmp_path / 'none.wav'}: No such file or directory\n",
    )
    text = tmp_path / "letter.txt"
    text.write_text("Dear listener")
    assert "not a recording" in cosygate(str(text), data_dir=str(tmp_path / "data")).stderr
    assert not (tmp_path / "data").exists()
