"""Cuts, killed engines, a killed gateway: as in tests/chaos/test_live_*.py, with the large numbers."""

import asyncio
import sys
from functools import partial
from pathlib import Path

from bench.contestants import REPOSITORY
from bench.live.serving import LiveConfig
from bench.plan import Contestant, Work
from bench.stats import Figures, Results, Verdict, middle
from tests.support import live_runs
from tests.support.faults import Victim
from tests.support.live_recordings import LiveRecording, read_wav

STREAMS = 50
_SPEECH_SHARE = 10  # one cut of so many is made in real speech
_KILL_EVERY_S = (9.0, 14.0)  # `serve` starts at once again whoever lived for ten seconds

CUTS = """
Sessions, eight at once, over two gateway processes, at 6 to 25 times real time and as fast as it goes; each connection
is cut until all of its session's 4 to 14 cuts are used up: by the client after a random number of frames, or by a proxy
at a random byte of either direction (closed, reset, half-open, or swallowed from there on), a third of them within the
first 900 bytes. Every {low:g} to {high:g} s a random gateway is killed (kill -9). "All formats": noise of 6 s in s16le
of 16, 24, 44.1 and 48 kHz, μ-law and A-law, with utterances ended by `finalize` at random samples; "real speech":
samples/ with the real detector. The scripted recogniser answers with a hash of the samples it heard, so equal
transcripts have heard equal audio. Each session's finals must equal its undisturbed run's in every member, with ids
without gap or repeat, and the task's stored sound what was sent, byte for byte. The first difference ends the work as
failed. Seed {seed}.
"""
KILLS = """
Four sessions at once at twice real time over two engines; in turn, one of the engines is killed (kill -9) or stopped
(SIGSTOP) in the middle of it. The client's connection must not notice, and transcripts and sound must be as above.
"""
RESTART = f"""
{STREAMS} streams in real time; the only gateway is killed (kill -9), and `serve` starts another. Down: from the kill
until /readyz says yes. Resumed: from then until the last of the streams was told `ready` for its resume. Transcripts
and sound must be as above.
"""


def cuts(config: LiveConfig) -> Work:
    low, high = _KILL_EVERY_S
    speech = max(1, config.cuts // _SPEECH_SHARE)
    return Work(
        name="cuts",
        title="Cut connections",
        about=CUTS.format(low=low, high=high, seed=config.seed),
        contestants={
            "formats": Contestant("all formats", partial(_cut_formats, config.cuts - speech, config)),
            "speech": Contestant("real speech", partial(_cut_speech, speech, config)),
        },
        verdicts=partial(_cut_verdicts, config.cuts),
        columns={
            "cuts": "cuts",
            "sessions": "sessions",
            "connections": "connections",
            "kills": "gateways killed",
            "finals": "finals compared",
            "seconds": "s",
        },
        listed="how many",
    )


def _cut_formats(count: int, config: LiveConfig, folder: Path) -> Figures:
    return _cut(count, config, folder, live_runs.SCRIPT, live_runs.recordings(config.seed, 12))


def _cut_speech(count: int, config: LiveConfig, folder: Path) -> Figures:
    recordings: list[LiveRecording] = [read_wav(path) for path in sorted((REPOSITORY / "samples").glob("*.wav"))]
    return _cut(count, config, folder, {"hear": "digest", "cut": "speech"}, recordings)


def _cut(
    count: int, config: LiveConfig, folder: Path, script: dict[str, object], library: list[LiveRecording]
) -> Figures:
    async def run(server: Victim) -> live_runs.CutReport:
        played = await live_runs.rehearse(server, library)
        return await live_runs.cut_run(
            server, played, count, config.seed, lanes=8, kill_every_s=_KILL_EVERY_S, kills=1000, tell=_progress
        )

    with Victim(folder / "data", script=script, workers=2, **live_runs.SETTINGS) as server:
        report = asyncio.run(run(server))
    return _figures(report) | {"cuts": report.cuts.total()} | dict(report.cuts)


def _progress(report: live_runs.CutReport) -> None:
    if sys.stderr.isatty():
        print(f"\r{report.cuts.total()} cuts, {report.sessions} sessions ", end="", file=sys.stderr, flush=True)


def _figures(report: live_runs.CutReport) -> dict[str, float]:
    return {
        "sessions": report.sessions,
        "connections": report.connections,
        "kills": report.kills.total(),
        "finals": report.finals,
        "seconds": report.seconds,
    }


def _cut_verdicts(wanted: int, results: Results) -> list[Verdict]:
    return [
        Verdict("cuts, nothing different", sum(middle(results, key, "cuts") for key in results), wanted),
    ]


def engine_kills(config: LiveConfig) -> Work:
    def run(folder: Path) -> Figures:
        async def play(server: Victim) -> live_runs.CutReport:
            played = await live_runs.rehearse(server, live_runs.recordings(config.seed, 6))
            return await live_runs.engine_kill_run(server, played, config.kills, config.seed)

        settings = live_runs.SETTINGS | {"engines": 2, "engine_idle_s": 2.0, "live_engine_idle_s": 2.0}
        script = {"hear": "digest", "segment_s": 1.0, "delay_s": 0.05}
        with Victim(folder / "data", script=script, **settings) as server:
            report = asyncio.run(play(server))
        return _figures(report) | {"SIGKILL": report.kills["SIGKILL"], "SIGSTOP": report.kills["SIGSTOP"]}

    def verdicts(results: Results) -> list[Verdict]:
        return [
            Verdict("engines lost, nothing different", middle(results, "engines", "kills"), config.kills),
        ]

    return Work(
        name="engine_kills",
        title="Engines killed in mid-utterance",
        about=KILLS,
        contestants={"engines": Contestant("two engines", run)},
        verdicts=verdicts,
        columns={
            "kills": "engines lost",
            "SIGKILL": "SIGKILL",
            "SIGSTOP": "SIGSTOP",
            "sessions": "sessions",
            "finals": "finals compared",
            "seconds": "s",
        },
    )


def restart(config: LiveConfig) -> Work:
    def run(durability: str, folder: Path) -> Figures:
        async def play(server: Victim) -> live_runs.Restart:
            played = await live_runs.rehearse(server, live_runs.recordings(config.seed, 6, seconds=10.0))
            return await live_runs.restart_run(server, played, STREAMS)

        with Victim(folder / "data", script=live_runs.SCRIPT, durability=durability, **live_runs.SETTINGS) as server:
            found = asyncio.run(play(server))
        late = sorted(found.resumed_s)
        return {"last_s": late[-1], "middle_s": late[len(late) // 2], "down_s": found.down_s, "streams": found.streams}

    def verdicts(results: Results) -> list[Verdict]:
        return [
            Verdict(f"the last of {STREAMS} resumed, `{key}`", middle(results, key, "last_s"), 2.0, "s", at_least=False)
            for key in results
        ]

    return Work(
        name="restart",
        title="A gateway killed under fifty streams",
        about=RESTART,
        contestants={key: Contestant(f"{STREAMS} streams, {key}", partial(run, key)) for key in ("process", "disk")},
        verdicts=verdicts,
        columns={"last_s": "last resumed s", "middle_s": "median s", "down_s": "down s", "streams": "streams"},
    )
