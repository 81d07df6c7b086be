"""The recogniser contract (engine/recognisers/base.py), run over every recogniser. Add yours to MAKERS."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from cosygate.engine.recognisers.base import (
    RATE,
    CannotStart,
    Hints,
    Recognised,
    Recogniser,
    RecogniserError,
    Samples,
    Stopped,
)
from cosygate.engine.recognisers.catalogue import RECOGNISERS, RecogniserOptions
from cosygate.engine.recognisers.command import OUTPUT_MAX, Command
from cosygate.ports.engine import CAPABILITIES
from tests.support import tiny_models
from tests.support.engine_process import speech_samples
from tests.support.funasr_peer import funasr_peer

ASR = f"""{sys.executable} -c "import sys, wave; print(wave.open(sys.argv[1]).getnframes(), 'samples')" {{wav}}"""
MAKERS: dict[str, RecogniserOptions] = {
    "moonshine": RecogniserOptions(slots=4),
    "command": RecogniserOptions(command=ASR),
    "scripted": RecogniserOptions(),
    "sherpa": RecogniserOptions(slots=4, model_dir=tiny_models.sense_voice(Path(tempfile.mkdtemp()))),
}


@pytest.fixture(scope="module", params=sorted(RECOGNISERS))
def recogniser(request: pytest.FixtureRequest) -> Iterator[Recogniser]:
    with contextlib.ExitStack() as stack:
        if request.param == "funasr":
            options = RecogniserOptions(funasr_url=stack.enter_context(funasr_peer()).url)
        else:
            options = MAKERS[request.param]
        made = RECOGNISERS[request.param](options)
        yield made
        made.close()


def hear(recogniser: Recogniser, samples: Samples, stop: threading.Event | None = None) -> Recognised:
    return recogniser.recognise(samples, Hints(recogniser.models[0].name), stop or threading.Event())


def tone(seconds: float) -> Samples:
    return (0.3 * np.sin(np.arange(round(seconds * RATE)) * 0.2)).astype(np.float32)


def test_says_what_it_is_and_can(recogniser: Recogniser) -> None:
    assert re.fullmatch(r"[a-z][a-z0-9-]*", recogniser.name)
    assert recogniser.version
    assert recogniser.models
    assert len({m.name for m in recogniser.models}) == len(recogniser.models)
    for model in recogniser.models:
        assert model.languages
        assert set(model.capabilities) <= set(CAPABILITIES)
    assert recogniser.cut_s is None or 0 < recogniser.cut_s <= 30
    assert recogniser.limit_s is None or recogniser.limit_s > 0


def test_the_same_piece_gives_the_same_answer_in_one_line(recogniser: Recogniser) -> None:
    piece = speech_samples()[: 4 * RATE]
    first = hear(recogniser, piece)
    assert first.text
    assert first.text == first.text.strip()
    assert "\n" not in first.text
    assert hear(recogniser, piece) == first


def test_tells_only_what_its_model_claims(recogniser: Recogniser) -> None:
    told = hear(recogniser, speech_samples()[: 4 * RATE])
    capabilities = recogniser.models[0].capabilities
    assert bool(told.words) <= ("words" in capabilities)
    assert (told.speaker is not None) <= ("speakers" in capabilities)
    assert (told.emotion is not None) <= ("emotion" in capabilities)
    assert bool(told.events) <= ("events" in capabilities)


def test_several_threads_get_their_own_answers(recogniser: Recogniser) -> None:
    samples = speech_samples()
    pieces = [samples[:end] for end in (3 * RATE, 4 * RATE, 5 * RATE, 6 * RATE)]
    alone = [hear(recogniser, piece) for piece in pieces]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda piece: hear(recogniser, piece), pieces)) == alone


@pytest.mark.parametrize("seconds", [1 / RATE, 0.01, 0.1, 15])
def test_any_length_up_to_the_longest_piece_is_answered(recogniser: Recogniser, seconds: float) -> None:
    assert isinstance(hear(recogniser, tone(seconds)), Recognised)


def test_silence_and_clipping_are_answered(recogniser: Recogniser) -> None:
    for samples in (np.zeros(RATE, np.float32), np.ones(RATE, np.float32), -np.ones(RATE, np.float32)):
        assert isinstance(hear(recogniser, samples), Recognised)


def test_does_not_change_its_input(recogniser: Recogniser) -> None:
    piece = tone(1)
    before = piece.copy()
    hear(recogniser, piece)
    np.testing.assert_array_equal(piece, before)


def script(tmp_path: Path, text: str) -> RecogniserOptions:
    file = tmp_path / "script.json"
    file.write_text(text)
    return RecogniserOptions(script=file)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("command", lambda _: RecogniserOptions(command="sh -c 'sleep 30'")),
        ("scripted", lambda p: script(p, '{"delay_s": 30}')),
        ("scripted", lambda p: script(p, '{"rules": [{"do": "hang"}]}')),
    ],
)
def test_whatever_runs_long_ends_when_the_caller_is_gone(
    name: str, options: Callable[[Path], RecogniserOptions], tmp_path: Path
) -> None:
    recogniser = RECOGNISERS[name](options(tmp_path))
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    started = time.monotonic()
    with pytest.raises(Stopped):
        hear(recogniser, tone(1), stop)
    assert time.monotonic() - started < 1.2


# --- what only the command recogniser promises -------------------------------------------------------------------


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary audio goes."""
    import tempfile

    folder = tmp_path / "temporary files"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def python(code: str) -> str:
    import shlex

    return shlex.join([sys.executable, "-c", code, "{wav}"])


def wait_for(look: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 10
    while not look():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


def processes_with(word: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and word.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return [pid for pid in found if pid != os.getpid()]


def test_the_command_gets_a_wav_of_the_piece(temporary: Path) -> None:
    command = Command(python("import sys, wave; print(wave.open(sys.argv[1]).getparams()[:4])"), timeout_s=10)
    assert hear(command, tone(0.5)).text == "(1, 2, 16000, 8000)"
    assert list(temporary.iterdir()) == []


def test_the_file_is_appended_when_the_template_does_not_name_it(temporary: Path) -> None:
    assert hear(Command("echo -n", timeout_s=10), tone(0.1)).text.endswith("audio.wav")
    assert hear(Command("echo file={wav} end", timeout_s=10), tone(0.1)).text.endswith("audio.wav end")


def test_there_is_no_shell(temporary: Path) -> None:
    assert hear(Command("echo '$HOME' ; id > x {wav}", timeout_s=10), tone(0.1)).text.startswith("$HOME ; id > x /")


def test_text_becomes_one_line_and_bad_bytes_are_replaced(temporary: Path) -> None:
    code = r"import sys; sys.stdout.buffer.write(b'one\n two\t\xff\n')"
    assert hear(Command(python(code), timeout_s=10), tone(0.1)).text == "one two \ufffd"


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("raise SystemExit(3)", "status 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "status 139"),
        (f"print('x' * {OUTPUT_MAX + 1})", "too much"),
        ("import time; print('some text', flush=True); time.sleep(30)", "too long"),
        ("import os, time; os.close(1); time.sleep(30)", "too long"),
    ],
)
def test_what_goes_wrong_is_an_error_and_leaves_nothing_behind(code: str, says: str, temporary: Path) -> None:
    command = Command(python(code), timeout_s=1.0)
    started = time.monotonic()
    with pytest.raises(RecogniserError, match=says):
        hear(command, tone(0.1))
    assert time.monotonic() - started < 5
    assert list(temporary.iterdir()) == []
    wait_for(lambda: not processes_with(str(temporary)), "what was killed to be gone")


def test_what_the_command_started_is_killed_with_it(temporary: Path) -> None:
    marker = f"98{os.getpid()}"
    code = (
        f"import subprocess, time; subprocess.Popen(['sleep', '{marker}']); print('text', flush=True); time.sleep(30)"
    )
    with pytest.raises(RecogniserError):
        hear(Command(python(code), timeout_s=1.0), tone(0.1))
    left = f"import subprocess; subprocess.Popen(['sleep', '{marker}']); print('text')"
    assert hear(Command(python(left), timeout_s=5.0), tone(0.1)).text == "text"
    deadline = time.monotonic() + 2
    while processes_with(marker) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert processes_with(marker) == []


@pytest.mark.parametrize(
    ("template", "says"), [("", "needs a command"), ("/opt/none/asr", "asr is not there"), ("'", "split")]
)
def test_a_command_that_cannot_work_does_not_start(template: str, says: str) -> None:
    with pytest.raises(CannotStart, match=says):
        Command(template, timeout_s=1)
