"""Real speech through the real engine, against the same models in a bare loop: what the whole house costs."""

import json
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

from bench.client import Client, send_all
from bench.contestants import REPOSITORY, Target, cosygate
from bench.load import BadRun
from bench.plan import Config, Contestant, Work
from bench.stats import Figures, Results, Verdict, middle, ratio
from bench.wer import clips, error_rate

CONNECTIONS = 6
ENGINES, SLOTS = 2, 1  # two processes, as the bare pipeline has
_LONGEST_S = 600.0

ABOUT = f"""
The English clips of the speech folder that have a reference transcript, each {{times}} times. Bare: `python -m
bench.bare`, PyAV, Silero VAD and Moonshine tiny in two processes with one thread each, timed after both have loaded
their models.
CosyGate: `serve` with its default settings and {ENGINES} engines of {SLOTS} slot, {CONNECTIONS} connections
uploading; timed from the first byte sent to the last result read, the engines being loaded. The rate is seconds of
audio per second of wall clock.
Word error rate: over all repeats, both normalised alike.
"""


def bare(folder: Path, times: int, processes: int, _: Path) -> Figures:
    """`folder`: as bench.wer takes clips from it."""
    command = [sys.executable, "-m", "bench.bare", str(folder), "--times", str(times), "--processes", str(processes)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=_LONGEST_S)
    if done.returncode != 0:
        raise BadRun(f"bench.bare: {done.stderr[-2000:]}")
    found = json.loads(done.stdout)
    return _figures(folder, found["texts"], found["audio_s"], found["seconds"])


def _ours(folder: Path, times: int, scratch: Path) -> Figures:
    with cosygate(scratch, engines=ENGINES, engine_slots=SLOTS, open_uploads=1000) as target:
        return recognised(target, folder, times, ENGINES)


def recognised(target: Target, folder: Path, times: int, engines: int) -> Figures:
    """What a server that runs makes of the clips."""
    recordings = [clip.path.read_bytes() for clip in clips(folder)]
    client = Client(target)
    for task in send_all(target, recordings[:2] * engines, 1, "warm", multipart=False):
        client.finished(task)  # every engine has recognised something
    started = time.perf_counter()
    tasks = send_all(target, recordings * times, CONNECTIONS, "main", multipart=False)
    results = [client.finished(task)["result"] for task in tasks]
    seconds = time.perf_counter() - started
    texts = [[r["text"] for r in results[k :: len(recordings)]] for k in range(len(recordings))]
    return _figures(folder, texts, sum(r["duration"] for r in results), seconds)


def _figures(folder: Path, texts: list[list[str]], audio_s: float, seconds: float) -> Figures:
    pairs = [(clip.reference, text) for clip, heard in zip(clips(folder), texts, strict=True) for text in heard]
    return {"rate": audio_s / seconds, "wer": error_rate([r for r, _ in pairs], [t for _, t in pairs])}


def work(config: Config) -> Work:
    times = 1 if config.quick else 10
    folder = config.audio
    found = Work(
        name="speech",
        title="Real speech, against the bare pipeline",
        about=ABOUT.format(times=times),
        contestants={},
        verdicts=_verdicts,
        columns={"rate": "audio s/s", "wer": "WER %"},
        skipped="" if folder else "no speech folder (--audio FOLDER with manifest.tsv and its clips)",
    )
    if folder:
        found.contestants["bare"] = Contestant("bare pipeline, two processes", partial(bare, folder, times, ENGINES))
        found.contestants["cosygate"] = Contestant("CosyGate, two engines", partial(_ours, folder, times))
    return found


def _verdicts(results: Results) -> list[Verdict]:
    worse = abs(middle(results, "cosygate", "wer") - middle(results, "bare", "wer"))
    return [
        Verdict("throughput against the bare pipeline", ratio(results, "cosygate", "bare"), 0.95, "×"),
        Verdict("word error rate, distance from the bare pipeline's", worse, 1.0, "points", at_least=False),
    ]
