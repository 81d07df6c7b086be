"""Speakers by a folder's models, over the real child processes: what is promised of turns, and whatever children do.

The models hear who speaks at two pitches (tests/support/tiny_extras.py), so people are tones here.
"""

from __future__ import annotations

import itertools
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from structlog.testing import capture_logs

from cosygate.engine.peers import Peers
from cosygate.engine.recognisers.base import RATE, Samples, Stopped
from cosygate.engine.speakers.sherpa import diariser as module
from cosygate.engine.speakers.sherpa.diariser import FolderDiariser, FolderVoices, TooSlow
from cosygate.engine.speakers.voices import Turn
from tests.support import tiny_extras

LOW, HIGH = tiny_extras.BANDS
NEVER = threading.Event()
Line = tuple[float, float, int]  # start, seconds, pitch


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_extras.diarization(tmp_path_factory.mktemp("speakers"))


@pytest.fixture(scope="module")
def diariser(folder: Path) -> Iterator[FolderDiariser]:
    diariser = FolderDiariser(folder, slots=1)
    yield diariser
    diariser.close()


def tone(seconds: float, *pitches: int) -> Samples:
    times = np.arange(round(seconds * RATE)) / RATE
    return np.asarray(sum(0.2 * np.sin(2 * np.pi * pitch * times) for pitch in pitches), np.float32)


def heard(diariser: FolderDiariser, lines: list[Line], stop: threading.Event = NEVER) -> FolderVoices:
    voices = diariser.voices(stop)
    for start, seconds, pitch in lines:
        voices.catch_up()
        voices.hear(round(start * RATE), tone(seconds, pitch))
    return voices


def talk(lines: int, seconds: float = 8.0, pause: float = 2.0) -> list[Line]:
    """Two people in turn."""
    return [(n * (seconds + pause), seconds, (LOW, HIGH)[n % 2]) for n in range(lines)]


def children() -> list[psutil.Process]:
    return [p for p in psutil.Process().children() if "cosygate.engine.speakers.sherpa.child" in p.cmdline()]


def check(turns: list[Turn], lines: list[Line], names: list[str]) -> None:
    """Each line is its speaker's, to a tenth of a second, and nothing lies between them."""
    assert [turn.speaker for turn in turns] == names
    for turn, (start, seconds, _) in zip(turns, lines, strict=True):
        assert round(start * RATE) <= turn.start < turn.end <= round((start + seconds) * RATE)
        assert turn.start / RATE == pytest.approx(start, abs=0.1)
        assert turn.end / RATE == pytest.approx(start + seconds, abs=0.1)
    assert all(a.end <= b.start for a, b in itertools.pairwise(turns))


@pytest.mark.parametrize("lines", [1, 2, 5, 20])
def test_who_speaks_is_found_again_in_every_chunk(diariser: FolderDiariser, lines: int) -> None:
    check(heard(diariser, talk(lines)).turns(), talk(lines), (["S1", "S2"] * lines)[:lines])


def test_names_are_given_in_the_order_of_first_appearance(diariser: FolderDiariser) -> None:
    lines = [(0.0, 70.0, HIGH), (80.0, 5.0, LOW), (90.0, 50.0, HIGH), (150.0, 5.0, LOW)]
    turns = heard(diariser, lines).turns()
    assert list(dict.fromkeys(turn.speaker for turn in turns)) == ["S1", "S2"]
    check(turns, lines, ["S1", "S2", "S1", "S2"])


@pytest.mark.parametrize("lines", [4, 20])
@pytest.mark.parametrize(("num", "most", "names"), [(1, 0, 1), (0, 1, 1), (2, 0, 2), (0, 2, 2), (0, 30, 2)])
def test_as_many_as_were_asked_for(diariser: FolderDiariser, lines: int, num: int, most: int, names: int) -> None:
    assert len({turn.speaker for turn in heard(diariser, talk(lines)).turns(num, most)}) == names


def test_pieces_that_share_their_pads(diariser: FolderDiariser) -> None:
    voices = diariser.voices(NEVER)
    both = np.concatenate([tone(5, LOW), tone(5, HIGH)])
    voices.hear(0, both[: round(5.1 * RATE)])
    voices.hear(round(4.9 * RATE), both[round(4.9 * RATE) :])
    first, *between, last = voices.turns()
    assert (first.speaker, last.speaker) == ("S1", "S2")
    assert all(a.end <= b.start for a, b in itertools.pairwise([first, *between, last]))
    assert first.end / RATE == pytest.approx(5, abs=0.2)


def test_where_nobody_speaks_there_is_no_turn(diariser: FolderDiariser) -> None:
    assert diariser.voices(NEVER).turns() == []
    voices = diariser.voices(NEVER)
    voices.hear(0, np.zeros(3 * RATE, np.float32))
    assert voices.turns(2) == []
    voices = diariser.voices(NEVER)
    voices.hear(0, tone(0.05, LOW))
    assert voices.turns() == []


def test_what_cannot_be_is_refused(diariser: FolderDiariser) -> None:
    voices = heard(diariser, [(1.0, 1.0, LOW)])
    for start, seconds in ((0.5, 5.0), (1.5, 0.4)):
        with pytest.raises(ValueError, match="cannot follow"):
            voices.hear(round(start * RATE), tone(seconds, LOW))
    for wrong in ((-1, 0), (51, 0), (0, 51)):
        with pytest.raises(ValueError, match="a number of speakers"):
            voices.turns(*wrong)


def test_a_child_that_dies_is_replaced_and_nothing_is_lost(diariser: FolderDiariser) -> None:
    heard(diariser, talk(1)).turns()
    voices = heard(diariser, talk(6))
    [child] = children()
    child.kill()
    with capture_logs() as logs:
        for start, seconds, pitch in talk(12)[6:]:
            voices.hear(round(start * RATE), tone(seconds, pitch))
        check(voices.turns(), talk(12), ["S1", "S2"] * 6)
    assert "speakers.child_lost" in [line["event"] for line in logs]


def test_this_process_goes_on_meanwhile(diariser: FolderDiariser) -> None:
    """sherpa-onnx holds Python's lock while it works: half a second for these."""
    voices = heard(diariser, [(0.0, 59.0, LOW)])
    diariser.ask(voices._chunk, 0, NEVER).result()  # the child is there
    longest, before = 0.0, time.monotonic()
    work = diariser.ask(voices._chunk, 0, NEVER)
    while not work.done():
        time.sleep(0.001)
        longest, before = max(longest, time.monotonic() - before), time.monotonic()
    assert work.result()[1]
    assert longest < 0.2


def test_who_does_not_want_it_any_more_is_let_go_at_once(diariser: FolderDiariser) -> None:
    heard(diariser, talk(1)).turns()
    [child] = children()
    child.suspend()  # it would take for ever
    stop = threading.Event()
    voices = heard(diariser, talk(1), stop)
    threading.Timer(0.2, stop.set).start()
    started = time.monotonic()
    with pytest.raises(Stopped):
        voices.turns()
    assert time.monotonic() - started < 2
    assert child not in children() or child.status() == psutil.STATUS_ZOMBIE
    check(heard(diariser, talk(2)).turns(), talk(2), ["S1", "S2"])


def test_a_child_that_hangs_costs_the_recording_its_speakers_and_no_other(
    diariser: FolderDiariser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_TRIES", 1)
    monkeypatch.setattr(module, "_LIMIT_S", 0.5)
    monkeypatch.setattr(module, "_LIMIT_PER_S", 0.0)
    heard(diariser, []).turns()
    with capture_logs() as logs:
        monkeypatch.setattr(module, "_LIMIT_S", 20.0)
        heard(diariser, talk(1)).turns()
        [child] = children()
        child.send_signal(signal.SIGSTOP)
        monkeypatch.setattr(module, "_LIMIT_S", 0.5)
        with pytest.raises(OSError, match="took too long"):
            heard(diariser, talk(1)).turns()
    assert [line["event"] for line in logs] == ["speakers.child_lost"]
    monkeypatch.setattr(module, "_LIMIT_S", 20.0)
    check(heard(diariser, talk(2)).turns(), talk(2), ["S1", "S2"])


def test_a_machine_that_is_too_slow_is_told_and_waited_for_no_longer(
    diariser: FolderDiariser, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard(diariser, talk(1)).turns()
    [child] = children()
    child.suspend()
    stop = threading.Event()
    for name in ("_CATCH_UP_S", "_PATIENCE_S"):
        monkeypatch.setattr(module, name, 0.1)
    voices = heard(diariser, talk(2), stop)
    voices.catch_up()
    with pytest.raises(TooSlow, match="not looked at in time"):
        voices.turns()
    with pytest.raises(TooSlow, match="wait to be looked at"):
        heard(diariser, talk(60), stop)
    stop.set()


def test_audio_waits_for_the_models(diariser: FolderDiariser, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no more than two chunks wait, however fast audio comes."""
    voices = diariser.voices(NEVER)
    most = 0
    for start, seconds, pitch in talk(60):
        voices.catch_up()
        voices.hear(round(start * RATE), tone(seconds, pitch))
        most = max(most, len(voices._waiting))
        assert len(voices._chunk) <= 60 * RATE
    assert most == 1
    assert len(voices.turns()) == 60


NONSENSE = ["turns", "voices", "short", "long", "backwards", "beyond", "whose", "seconds", "nan", "loud", "noise"]


@pytest.mark.parametrize("kind", [*NONSENSE, "more"])
def test_a_child_that_answers_nonsense_costs_one_recording_and_not_the_next(
    kind: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first answer is nonsense, all later ones are right, in whichever process: so what was said in vain shows."""
    monkeypatch.setattr(module, "_TRIES", 1)
    monkeypatch.setattr(module, "_LIMIT_S", 15.0)
    monkeypatch.setattr(module, "_LIMIT_PER_S", 0.0)
    diariser = FolderDiariser(folder, slots=1)
    diariser._peers = Peers(
        "tests.support.babbling_child", (kind, str(tmp_path / "babbled"), str(folder)), count=1, name="babbling"
    )
    try:
        started = time.monotonic()
        if kind == "more":  # right, and then something that nobody asked for
            check(heard(diariser, talk(2)).turns(), talk(2), ["S1", "S2"])
        else:
            with capture_logs() as logs, pytest.raises(OSError, match="the child answered"):
                heard(diariser, talk(2)).turns()
            assert [line["event"] for line in logs] == ["speakers.child_lost"]
        assert time.monotonic() - started < 12
        assert (tmp_path / "babbled").exists()
        for _ in range(2):
            check(heard(diariser, talk(2)).turns(), talk(2), ["S1", "S2"])
    finally:
        diariser.close()


def test_children_end_with_it(folder: Path) -> None:
    before = set(children())
    diariser = FolderDiariser(folder, slots=1)
    heard(diariser, talk(1)).turns()
    [child] = set(children()) - before
    diariser.close()
    assert child.wait(5) is not None or not child.is_running()
