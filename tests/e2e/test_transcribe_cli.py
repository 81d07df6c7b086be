"""`cosygate transcribe` against real servers: one that runs, and the one that it brings itself."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.media import tone_wav, wav
from tests.support.server import Server

SAMPLES = Path(__file__).parent.parent.parent / "samples"
SAID = "The first words of the script."  # what the scripted recogniser hears in anything short
# A shell that runs tests in the background makes its children ignore SIGINT; a terminal does not.
MAIN = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from cosygate.cli import main; main()"


def environment(**settings: str) -> dict[str, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("COSYGATE_")}
    return clean | {f"COSYGATE_{k.upper()}": v for k, v in settings.items()}


def begin(*arguments: str | Path, **settings: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", MAIN, "transcribe", *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment(**settings), stdout=pipe, stderr=pipe, text=True)


def transcribe(*arguments: str | Path, **settings: str) -> tuple[int, str, str]:
    """Exit status, stdout, stderr."""
    process = begin(*arguments, **settings)
    out, err = process.communicate(timeout=90)
    return process.returncode, out, err


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "note.wav"
    path.write_bytes(tone_wav(2.0))
    return path


@pytest.fixture(scope="module")
def given(server: Server) -> list[str]:
    """The running server, and one token for all (making one costs a second)."""
    return ["--server", server.url, "--token", server.token("cli")]


# --- with a server that runs -------------------------------------------------------------------------------------


def test_in_a_pipe_there_is_the_transcript_and_nothing_else(given: list[str], recording: Path) -> None:
    assert transcribe(recording, *given) == (0, SAID + "\n", "")
    status, out, _ = transcribe(recording, "--format", "json", server=given[1], token=given[3])
    transcript = json.loads(out)
    assert (status, transcript["text"], out.count("\n")) == (0, SAID, 1)
    assert transcript["duration"] == 2.0


def test_repeating_a_command_sends_nothing_again(server: Server, recording: Path) -> None:
    arguments = ["--server", server.url, "--token", server.token("repeat")]
    transcribe(recording, *arguments)
    before = len(puts(server))
    copy = recording.with_name("copy.wav")
    copy.write_bytes(recording.read_bytes())
    assert transcribe(copy, *arguments)[0] == 0
    assert len(puts(server)) == before
    with server.http("repeat") as http:
        assert len(http.get("/v1/tasks").json()["tasks"]) == 1


@pytest.mark.parametrize("fmt", ["txt", "json", "srt", "vtt", "tsv"])
def test_every_format_into_a_folder(given: list[str], recording: Path, tmp_path: Path, fmt: str) -> None:
    out = tmp_path / "out"
    assert transcribe(recording, *given, "--out", out, "--format", fmt) == (0, "", "")
    [written] = out.iterdir()
    assert written.name == f"note.{fmt}"
    assert SAID in written.read_text()


def test_one_bad_recording_does_not_stop_the_others(server: Server, recording: Path, tmp_path: Path) -> None:
    text = tmp_path / "letter.txt"
    text.write_text("Dear listener, this is not sound.")
    missing = tmp_path / "missing.wav"
    arguments = ["--server", server.url, "--token", server.token("several")]
    status, out, err = transcribe(text, recording, missing, recording, *arguments)
    assert status == 1
    assert out == f"{SAID}\n{SAID}\n"
    first, second = err.splitlines()
    assert first.startswith(f"cosygate: {text}: media_unsupported: ")
    assert second == f"cosygate: {missing}: No such file or directory"
    with server.http("several") as http:  # what was refused does not stay behind as an open upload
        assert [t["file"] for t in http.get("/v1/tasks").json()["tasks"]] == ["note.wav"]


def test_a_recording_that_fails_to_decode_is_told_by_its_code(given: list[str], tmp_path: Path) -> None:
    bad = tmp_path / "bad.flac"
    bad.write_bytes(b"fLaC" + bytes(range(256)) * 8)
    status, out, err = transcribe(bad, *given)
    assert (status, out) == (1, "")
    assert re.fullmatch(rf"cosygate: {re.escape(str(bad))}: media_[a-z_]+: .+\n", err)


def test_options_reach_the_server_or_are_refused_by_name(given: list[str], tmp_path: Path) -> None:
    stereo = tmp_path / "call.wav"
    stereo.write_bytes(tone_wav(1.0, channels=2))
    status, out, _ = transcribe(stereo, *given, "--channels", "split", "--format", "json")
    assert status == 0
    assert {segment["channel"] for segment in json.loads(out)["segments"]} == {0, 1}
    status, _, err = transcribe(stereo, *given, "--model", "no-such-model")
    assert status == 1
    assert "option_unsupported" in err


def test_a_bad_token_stops_at_once(server: Server, recording: Path) -> None:
    status, out, err = transcribe(recording, recording, "--server", server.url, "--token", "nonsense")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert "token_invalid" in err


def puts(server: Server) -> list[dict[str, Any]]:
    """The chunks that the server answered, from its log."""
    lines = (json.loads(line) for line in server.log().splitlines() if line.startswith("{"))
    return [line for line in lines if line.get("action") == "http.request" and line.get("method") == "PUT"]


def test_ctrl_c_is_a_pause(server: Server, given: list[str], tmp_path: Path) -> None:
    """48 parts; interrupted after a few, the second run sends the others only."""
    count = 48
    recording = tmp_path / "long.wav"
    recording.write_bytes(wav(random.Random(7).randbytes(count * 1024 * 1024 - 44)))
    before = len(puts(server))
    process = begin(recording, *given)
    deadline = time.monotonic() + 30
    while len(puts(server)) < before + 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    started = time.monotonic()
    out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err == "cosygate: interrupted; the same command continues where this one stopped\n"
    assert time.monotonic() - started < 5
    first = len(puts(server)) - before
    assert 5 <= first < count
    status, out, err = transcribe(recording, *given)
    assert (status, err) == (0, "")
    assert SAID in out
    # Each part once; those that were under way at the interrupt may have been cut, and are sent again.
    assert count <= len(puts(server)) - before <= count + 3


# --- with a server of its own ------------------------------------------------------------------------------------


def running(data_dir: Path) -> list[psutil.Process]:
    """Processes that were started for that data folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("COSYGATE_DATA_DIR", "").startswith(str(data_dir)):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return [p for p in found if p.status() != psutil.STATUS_ZOMBIE]


def test_embedded_with_real_speech_leaves_nothing_behind(data_dir: Path) -> None:
    status, out, err = transcribe(SAMPLES / "note.wav", data_dir=str(data_dir))
    assert err == ""
    assert status == 0
    words = re.findall(r"[a-z]+", out.lower())
    assert {"short", "note", "meeting", "friday", "office", "lunch"} <= set(words)
    assert running(data_dir) == []
    sound = (SAMPLES / "note.wav").read_bytes()[50_000:50_064]
    for path in data_dir.rglob("*"):
        if path.is_file():
            kept = path.read_bytes()
            assert sound not in kept, path
            assert b"lunch" not in kept, path


def test_an_engine_that_cannot_start_is_told_at_once(data_dir: Path, recording: Path, tmp_path: Path) -> None:
    none = tmp_path / "none"
    status, out, err = transcribe(recording, data_dir=str(data_dir), recogniser="sherpa", model_dir=str(none))
    assert (status, out) == (1, "")
    assert err.startswith("cosygate: the engine cannot start:") and str(none) in err and "server.log" in err
    assert running(data_dir) == []


def test_two_embedded_commands_at_once(data_dir: Path, recording: Path) -> None:
    both = [begin(recording, data_dir=str(data_dir), recogniser="scripted") for _ in range(2)]
    answers = [process.communicate(timeout=90) for process in both]
    assert answers == [(SAID + "\n", "")] * 2
    assert {p.name for p in data_dir.iterdir()} == {"embedded", "embedded-2"}


def test_an_embedded_server_dies_with_its_command_and_the_next_one_continues(
    data_dir: Path, recording: Path, tmp_path: Path
) -> None:
    """kill -9 while the engine hangs; afterwards, with an engine that works, the same task is finished."""
    script = tmp_path / "script.json"
    script.write_text(json.dumps({"rules": [{"do": "hang"}]}))
    process = begin(recording, data_dir=str(data_dir), recogniser="scripted", script=str(script))
    log = data_dir / "embedded" / "server.log"
    deadline = time.monotonic() + 60
    while not (log.exists() and "task.started" in log.read_text()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while running(data_dir):
        assert time.monotonic() < deadline, running(data_dir)
        time.sleep(0.05)
    assert transcribe(recording, data_dir=str(data_dir), recogniser="scripted") == (0, SAID + "\n", "")
    assert '"method":"PUT"' not in log.read_text()  # the log is the second server's: everything was there
