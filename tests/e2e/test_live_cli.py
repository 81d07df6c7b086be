"""`cosygate live` against real servers: in a pipe, on a terminal, cut off, interrupted, with a server of its own."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from fcntl import ioctl
from pathlib import Path

import numpy as np
import pytest

from tests.support.media import encode_as
from tests.support.proxy import Fault, FaultProxy, Kind, Way
from tests.support.server import Server

SAMPLES = Path(__file__).parent.parent.parent / "samples"
DIALOGUE = SAMPLES / "dialogue.wav"
PCM = DIALOGUE.read_bytes()[44:]  # 16 kHz
# A shell that runs tests in the background makes its children ignore SIGINT; a terminal does not.
MAIN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from cosygate.cli import main; main()"


def environment(**settings: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("COSYGATE_")}
    return clean | {f"COSYGATE_{k.upper()}": v for k, v in settings.items()}


def begin(*arguments: str | Path, **settings: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", MAIN, "live", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment(**settings), stdin=pipe, stdout=pipe, stderr=pipe)


def live(*arguments: str | Path, heard: bytes = b"", **settings: str) -> tuple[int, str, str]:
    """Exit status, stdout, stderr."""
    process = begin(*arguments, **settings)
    out, err = process.communicate(heard, timeout=90)
    return process.returncode, out.decode(), err.decode()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """It hears the digest of each second, so that captions are equal exactly when the sound was."""
    folder = tmp_path_factory.mktemp("data")
    script = folder / "script.json"
    script.write_text(json.dumps({"hear": "digest", "segment_s": 1.0}))
    with Server(folder, recogniser="scripted", script=script) as running:
        yield running


@pytest.fixture(scope="module")
def given(server: Server) -> list[str]:
    return ["--server", server.url, "--token", server.token("cli")]


@pytest.fixture(scope="module")
def captions(given: list[str]) -> str:
    """What an undisturbed run prints."""
    status, out, err = live(DIALOGUE, "--speed", "max", *given)
    assert (status, err) == (0, "")
    assert len(out.splitlines()) == len(PCM) // 32_000 + 1
    assert all(re.fullmatch(r"[0-9a-f]{12}", line) for line in out.splitlines())
    return out


# --- in a pipe ---------------------------------------------------------------------------------------------------


def test_a_file_becomes_a_task_like_any_other(server: Server) -> None:
    token = server.token("file")
    status, out, _ = live(DIALOGUE, "--speed", "max", server=server.url, token=token)
    assert status == 0
    with server.http("file") as http:
        [task] = http.get("/v1/tasks").json()["tasks"]
        assert (task["state"], task["file"]) == ("succeeded", "dialogue.wav")
        transcript = http.get(f"/v1/task/{task['task_id']}/transcript?format=json").json()
    assert [segment["text"] for segment in transcript["segments"]] == out.splitlines()
    assert transcript["duration"] == pytest.approx(len(PCM) / 32_000, abs=0.001)


def test_raw_pcm_from_a_pipe(given: list[str], captions: str) -> None:
    assert live("-", *given, heard=PCM) == (0, captions, "")


@pytest.mark.parametrize("fmt", ["mulaw", "alaw"])
def test_telephone_sound_from_a_pipe(given: list[str], captions: str, fmt: str) -> None:
    samples = np.frombuffer(PCM, "<i2").reshape(-1, 2).mean(axis=1) / 32768  # 8 kHz
    coded = encode_as("wav", f"pcm_{fmt}", 8_000, samples)
    coded = coded[coded.index(b"data") + 8 :]
    status, out, err = live("-", "--rate", "8000", "--format", fmt, *given, heard=coded)
    assert (status, err) == (0, "")
    assert out.count("\n") == captions.count("\n")


def test_captions_come_while_it_is_spoken(given: list[str]) -> None:
    """The first line is there long before the sound ends, though stdout is a pipe."""
    process = begin("-", *given)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(PCM[: 32_000 * 4])
        process.stdin.flush()
        assert select.select([process.stdout], [], [], 30)[0], "nothing while the pipe is open"
        assert process.stdout.readline()
        assert process.poll() is None
    finally:
        rest, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert rest


def test_a_file_takes_as_long_as_it_is(given: list[str]) -> None:
    seconds = (SAMPLES / "note.wav").stat().st_size / 32_000
    began = time.monotonic()
    assert live(SAMPLES / "note.wav", "--speed", "2", *given)[0] == 0
    assert time.monotonic() - began >= seconds / 2


@pytest.mark.parametrize("fmt", ["txt", "json", "srt", "vtt", "tsv"])
def test_the_transcript_is_written_too(given: list[str], captions: str, tmp_path: Path, fmt: str) -> None:
    by_name, by_option = tmp_path / f"x.{fmt}", tmp_path / "x.captions"
    assert live("-", *given, "--out", by_name, heard=PCM) == (0, captions, "")
    assert live("-", *given, "--out", by_option, "--output-format", fmt, heard=PCM)[0] == 0
    first = captions.splitlines()[0]
    for written in (by_name.read_text(), by_option.read_text()):
        assert first in (json.loads(written)["text"] if fmt == "json" else written)
    assert len(list(tmp_path.iterdir())) == 2


def test_nothing_said_is_no_error(given: list[str]) -> None:
    assert live("-", *given, heard=b"") == (0, "", "")


def test_what_the_server_refuses(server: Server, given: list[str]) -> None:
    status, out, err = live("-", "--server", server.url, "--token", "nonsense", heard=PCM)
    assert (status, out) == (1, "")
    assert re.fullmatch(r"cosygate: -: token_invalid: .+\n", err)
    status, _, err = live("-", *given, "--model", "no-such-model", heard=PCM)
    assert (status, err.split(": ")[2]) == (1, "option_unsupported")
    reader = server.token("reader", scopes=["task:read"])
    assert "scope_missing" in live("-", "--server", server.url, "--token", reader)[2]


def test_a_reader_that_leaves(given: list[str]) -> None:
    """`cosygate live - | head -1`"""
    process = begin("-", *given)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    writer = threading.Thread(target=_write_all, args=(process,))
    writer.start()
    assert process.stdout.readline()
    process.stdout.close()
    process.wait(30)
    writer.join(10)
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()


def _write_all(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    try:
        for at in range(0, len(PCM), 32_000):
            process.stdin.write(PCM[at : at + 32_000])
            process.stdin.flush()
            time.sleep(0.1)
        process.stdin.close()
    except BrokenPipeError:
        process.stdin.close()


# --- cut off -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_cuts_change_nothing(server: Server, given: list[str], captions: str, seed: int) -> None:
    dice = np.random.default_rng(seed)
    with FaultProxy(server.port) as proxy:
        for _ in range(5):
            kind, way = dice.choice([Kind.CUT, Kind.RESET]), dice.choice([Way.UP, Way.DOWN])
            proxy.arm(Fault(Kind(kind), Way(way), at=int(dice.integers(1_000, 120_000 if way == Way.UP else 3_000))))
        url = f"http://127.0.0.1:{proxy.port}"
        assert live(DIALOGUE, "--speed", "8", "--server", url, *given[2:]) == (0, captions, "")
        assert len(proxy.links()) >= 4


# --- Ctrl-C ------------------------------------------------------------------------------------------------------


def interrupted_at(process: subprocess.Popen[bytes], first_line: bytes) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == first_line
    process.send_signal(signal.SIGINT)


def test_ctrl_c_ends_the_session_and_waits_for_its_last_words(server: Server, captions: str) -> None:
    token = server.token("stopper")
    process = begin(DIALOGUE, "--server", server.url, "--token", token)
    interrupted_at(process, captions.splitlines(keepends=True)[0].encode())
    began = time.monotonic()
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert time.monotonic() - began < 5
    with server.http("stopper") as http:
        [task] = http.get("/v1/tasks").json()["tasks"]
    assert task["state"] == "succeeded"
    assert 1 <= task["result"]["duration"] < len(PCM) / 32_000 - 1


def test_ctrl_c_at_a_pipe_that_stays_open_and_silent(given: list[str]) -> None:
    process = begin("-", *given)
    assert process.stdin is not None
    process.stdin.write(PCM[: 32_000 * 4])
    process.stdin.flush()
    assert process.stdout is not None
    assert process.stdout.readline()
    process.send_signal(signal.SIGINT)
    status = process.wait(15)  # its stdin is still open
    process.communicate()
    assert status == 0


def test_a_second_ctrl_c_does_not_wait(server: Server, given: list[str]) -> None:
    """The server is gone, so the first would wait for a long time."""
    with FaultProxy(server.port) as proxy:
        process = begin("-", "--server", f"http://127.0.0.1:{proxy.port}", *given[2:])
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(PCM[: 32_000 * 4])
        process.stdin.flush()
        assert process.stdout.readline()
        proxy.refuse()
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        _, err = process.communicate()
    assert err.decode().endswith("cosygate: interrupted\n")
    assert b"Traceback" not in err


# --- on a terminal -----------------------------------------------------------------------------------------------


def on_a_terminal(columns: int, *arguments: str | Path) -> tuple[int, str]:
    command = [sys.executable, "-c", MAIN, "live", *map(str, arguments)]
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    env = environment() | {"TERM": "xterm"}
    process = subprocess.Popen(command, env=env, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    written = b"".join(_until_closed(ours))
    os.close(ours)
    return process.wait(10), written.decode()


def _until_closed(fd: int) -> Iterator[bytes]:
    try:
        while data := os.read(fd, 4_096):
            yield data
    except OSError:  # EIO: the other end is closed
        return


def test_on_a_terminal_partials_are_overwritten(given: list[str], captions: str) -> None:
    status, written = on_a_terminal(30, DIALOGUE, "--speed", "4", *given)
    assert status == 0
    lines = [line.rsplit("\r\x1b[K", 1)[-1] for line in written.split("\r\n")]
    assert [re.sub(r"^\d\d:\d\d  ", "", line) for line in lines[:-1]] == captions.splitlines()
    assert lines[-1] == ""
    pale = re.findall(r"\x1b\[2m(.*?)\x1b\[22m", written)
    assert pale
    assert max(map(len, pale)) < 30
    status, written = on_a_terminal(30, DIALOGUE, "--speed", "max", "--no-partials", *given)
    assert status == 0
    assert "\x1b[2m" not in written


# --- with a server of its own ------------------------------------------------------------------------------------


def test_embedded_with_real_speech_leaves_nothing_behind(data_dir: Path) -> None:
    status, out, err = live(SAMPLES / "note.wav", "--speed", "max", data_dir=str(data_dir))
    assert (status, err) == (0, "")
    words = re.findall(r"[a-z]+", out.lower())
    assert {"short", "note", "meeting", "friday", "office", "lunch"} <= set(words)
    sound = (SAMPLES / "note.wav").read_bytes()[50_000:50_064]
    for path in data_dir.rglob("*"):
        if path.is_file():
            kept = path.read_bytes()
            assert sound not in kept, path
            assert b"lunch" not in kept, path
