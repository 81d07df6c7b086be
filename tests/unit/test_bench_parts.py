"""The benchmark's own instruments: recordings, word error rate, processes surely stopped, memory seen."""

import io
import os
import sys
import time
import wave
from pathlib import Path

import pytest

from bench.memory import watched
from bench.processes import NotServing, free_port, listening, running
from bench.recordings import CHUNK, noise, wav
from bench.wer import clips, error_rate
from bench.works.memory import Large


def test_a_wav_says_what_it_holds() -> None:
    with wave.open(io.BytesIO(wav(5.0))) as found:
        assert (found.getnchannels(), found.getsampwidth(), found.getframerate()) == (1, 2, 16_000)
        assert found.getnframes() == 80_000


def test_noise_is_quiet_and_the_same_again() -> None:
    data = noise(1000)
    assert data == noise(1000) != noise(1000, seed=2)
    assert all(abs(int.from_bytes(data[k : k + 2], "little", signed=True)) <= 256 for k in range(0, 1000, 2))


@pytest.mark.parametrize("total", [44 + 2, 3 * CHUNK, 3 * CHUNK + 1000, 3 * CHUNK - 2])
def test_the_parts_of_a_large_recording_make_one_wav(total: int) -> None:
    recording = Large(total, CHUNK, 16_000, 1)
    parts = sorted(part for first in range(4) for part in recording.parts(first, 4))
    whole = b"".join(data for _, data, _ in parts)
    assert [seq for seq, _, _ in parts] == list(range(len(parts)))
    assert [last for _, _, last in parts] == [False] * (len(parts) - 1) + [True]
    assert len(whole) == total
    with wave.open(io.BytesIO(whole)) as found:
        assert found.getnframes() * 2 == total - 44


def test_words_are_compared_without_case_punctuation_and_remarks() -> None:
    assert error_rate(["Mr. Smith's well-known DOG! [not sure]"], ["mister smith's well known dog"]) == 0.0
    assert error_rate(["one two three four"], ["One, two three."]) == 25.0


def test_only_english_single_channel_clips_with_a_reference_count(tmp_path: Path) -> None:
    rows = [
        "file\tlanguage\tspeakers\treference",
        "a.wav\ten\t1\tgood",
        "b.wav\tde\t1\tgut",
        "c.wav\ten\t2 (one a channel)\tgood",
        "d.wav\ten\t1\t[unverified]",
        "e.wav\ten\t1\t",
    ]
    (tmp_path / "manifest.tsv").write_text("\n".join(rows))
    assert [clip.path.name for clip in clips(tmp_path)] == ["a.wav"]


PARENT = """
import subprocess, sys, time
child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
print("pid", subprocess.Popen([sys.executable, "-c", child]).pid, flush=True)
time.sleep(60)
"""


def test_a_server_and_its_children_are_gone_afterwards(tmp_path: Path) -> None:
    """The child ignores SIGTERM and outlives its parent: the group is killed."""
    server = [sys.executable, "-c", PARENT]
    with running("server", server, lambda out: out.endswith("\n"), tmp_path) as process:
        pid = int((tmp_path / "server.out").read_text().split()[1])
        os.kill(pid, 0)
    assert process.returncode is not None
    deadline = time.monotonic() + 10
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(pid)


def alive(pid: int) -> bool:
    """A killed orphan may stay a zombie where nobody reaps it: that counts as gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_server_that_ends_at_once_says_why(tmp_path: Path) -> None:
    with (
        pytest.raises(NotServing, match=r"(?s)broken ended.*no such option"),
        running("broken", [sys.executable, "-c", "raise SystemExit('no such option')"], lambda _: False, tmp_path),
    ):
        pytest.fail("it is not running")


def test_a_server_that_dies_during_the_run_spoils_it(tmp_path: Path) -> None:
    code = "import time; print('up', flush=True); time.sleep(0.2); raise SystemExit(3)"
    with (
        pytest.raises(NotServing, match=r"ended during the run \(3\)"),
        running("dying", [sys.executable, "-c", code], lambda out: "up" in out, tmp_path) as process,
    ):
        process.wait(10)


def test_a_free_port_is_free() -> None:
    assert not listening(free_port())


GROWING = """
import subprocess, sys, time
before = b"x" * (100 * 1024 * 1024)
del before
print("up", flush=True)
sys.stdin.readline()
block = b"x" * (40 * 1024 * 1024)
del block
child = subprocess.Popen([sys.executable, "-c", "b = b'x' * (20 * 1024 * 1024); import time; time.sleep(1.5)"])
child.wait()
print("done", flush=True)
time.sleep(30)
"""


def test_growth_is_seen_even_when_it_is_given_back_and_in_children_that_come_later(tmp_path: Path) -> None:
    import subprocess

    with subprocess.Popen(
        [sys.executable, "-c", GROWING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout
        try:
            process.stdout.readline()
            with watched(process.pid) as growth:
                process.stdin.write("go\n")
                process.stdin.flush()
                process.stdout.readline()
        finally:
            process.kill()
    (there,), (later,) = growth.there.values(), growth.later.values()
    assert 35 < there < 60
    assert 20 < later < 60
    assert growth.largest == max(there, later)
