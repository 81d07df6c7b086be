"""Live streams cut at random frames and bytes, in either direction, while gateways are killed: every transcript, and
every stored sound, is what it would have been. `make bench-live` does a thousand of these."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.engine_process import speech_pcm
from tests.support.faults import Victim
from tests.support.live_recordings import LiveRecording
from tests.support.live_runs import SCRIPT, SETTINGS, CutReport, cut_run, one_session, recordings, rehearse
from tests.support.proxy import Fault, Kind, Way

SEED = 3


def victim(data_dir: Path, script: dict[str, object] | None = None, **settings: object) -> Victim:
    return Victim(data_dir, script=script or SCRIPT, **(SETTINGS | {"workers": 2, "restart_longest_s": 1} | settings))


@pytest.mark.slow
async def test_fifty_cuts_and_the_transcripts_are_as_if_nothing_had_happened(data_dir: Path) -> None:
    with victim(data_dir) as server:
        library = await rehearse(server, recordings(SEED, 6, seconds=4.0))
        report: CutReport = await cut_run(server, library, 50, SEED, kill_every_s=(1.0, 3.0), kills=3)
    assert report.cuts.total() >= 50
    assert report.connections > report.sessions + 40
    assert report.kills["gateway"] >= 1
    assert len(report.cuts) >= 4, report.cuts  # of several kinds


async def test_cuts_in_real_speech(data_dir: Path) -> None:
    """Where the detector decides what an utterance is: it has to decide the same after each of them."""
    pcm, rate = speech_pcm("dialogue.wav")
    whole = LiveRecording(pcm, rate=rate, frame=rate // 10)
    marked = replace(whole, finalizes=(whole.samples // 3, whole.samples // 2))
    with victim(data_dir, {"hear": "digest", "cut": "speech"}) as server:
        library = await rehearse(server, [whole, marked])
        assert len(library[0].finals) > 3
        report = await cut_run(server, library, 14, SEED, lanes=4)
    assert report.cuts.total() >= 14


@pytest.mark.parametrize("way", list(Way))
@pytest.mark.parametrize("kind", [Kind.CUT, Kind.RESET, Kind.SWALLOW])
async def test_a_connection_that_ends_before_it_began(data_dir: Path, kind: Kind, way: Way) -> None:
    """In the handshake, in start or its answer, in resume or its answer: at every few bytes of them."""
    with victim(data_dir, workers=1) as server:
        [played] = await rehearse(server, recordings(SEED, 1, seconds=2.0))
        step = 300 if kind is Kind.SWALLOW else 40
        faults = [Fault(kind, way, at) for at in range(1, 900, step)]
        _, struck = await one_session(server, played, faults, "early", speed=None)
    assert struck.total() >= 3


async def test_a_cut_between_the_end_and_the_news_of_it(data_dir: Path) -> None:
    """The client has said end, and hears nothing more: a finished session can be resumed like any other."""
    with victim(data_dir, workers=1) as server:
        [played] = await rehearse(server, recordings(SEED, 1, seconds=2.0))
        size = len(played.recording.audio) + played.recording.samples // played.recording.frame * 16
        faults = [Fault(Kind.CUT, Way.UP, size + 400), *(Fault(Kind.CUT, Way.DOWN, at) for at in range(250, 1500, 150))]
        story, struck = await one_session(server, played, faults, "late", speed=None)
    assert story.done is not None
    assert struck.total() >= 2
