"""Resident memory while 2 GiB come in, and while ten hours are transcribed."""

import itertools
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from bench.client import Client, Unexpected
from bench.contestants import Target, cosygate
from bench.memory import watched
from bench.plan import Config, Contestant, Work
from bench.recordings import CHUNK, noise, wav_header
from bench.stats import Figures, Results, Verdict, middle

WORKERS = 2
CONNECTIONS = 4
LIMIT_MIB = 64.0
_MIB = 1024 * 1024

ABOUT = f"""
One run each, `serve` with {WORKERS} workers, default settings and a scripted engine, warmed by a recording of a
minute. "Large": a WAV of {{large}} MiB at 48 kHz stereo in raw chunks of 8 MiB. "Long": {{hours:g}} h at 16 kHz in
multipart chunks of {CHUNK // 1024} KiB. {CONNECTIONS} connections upload; the data is made on the fly; both run until
their task has succeeded. For each process that was
there before: peak resident memory (the kernel's VmHWM) less resident memory before; for one that came later: its
private memory at the largest. The figure is that of the process with the largest growth.
"""


@dataclass(frozen=True, slots=True)
class Large:
    """A WAV of `total` bytes in parts of `size`, of which only one block of noise is ever in memory."""

    total: int
    size: int
    rate: int
    channels: int

    def parts(self, first: int, step: int) -> Iterator[tuple[int, bytes, bool]]:
        """(seq, bytes, is_last) of every `step`-th part."""
        block, header = noise(self.size), wav_header(self.total - 44, self.rate, self.channels)
        last = (self.total - 1) // self.size
        for seq in range(first, last + 1, step):
            part = block if seq else header + block[44:]
            yield seq, part if seq < last else part[: self.total - last * self.size], seq == last


def _transcribe(target: Target, session: str, recording: Large, *, multipart: bool) -> None:
    """Uploads over a few connections and waits until the task has succeeded."""

    def share(first: int) -> list[str]:
        client = Client(target)
        send = client.post if multipart else client.put
        answers = (send(session, *part) for part in recording.parts(first, CONNECTIONS))
        return [answer["task_id"] for answer in answers if "task_id" in answer]

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        tasks = list(itertools.chain.from_iterable(pool.map(share, range(CONNECTIONS))))
    if len(tasks) != 1:
        raise Unexpected(f"{len(tasks)} answers named a task")
    Client(target).finished(tasks[0])


def _run(recording: Large, multipart: bool, folder: Path) -> Figures:
    with cosygate(folder, workers=WORKERS, recogniser="scripted") as target:
        minute = replace(recording, total=44 + 60 * recording.rate * recording.channels * 2)
        _transcribe(target, "warm", minute, multipart=multipart)
        with watched(target.pid) as growth:
            _transcribe(target, "main", recording, multipart=multipart)
        return {"growth": growth.largest, **growth.there, **growth.later}


def work(config: Config) -> Work:
    large, hours = (128, 0.5) if config.quick else (2048, 10.0)
    seconds = int(hours * 3600)
    return Work(
        name="memory",
        title="Resident memory",
        about=ABOUT.format(large=large, hours=hours),
        contestants={
            "large": Contestant(f"{large} MiB upload", partial(_run, Large(large * _MIB, 8 * _MIB, 48_000, 2), False)),
            "long": Contestant(
                f"{hours:g} h recording", partial(_run, Large(44 + seconds * 32_000, CHUNK, 16_000, 1), True)
            ),
        },
        verdicts=_verdicts,
        columns={"growth": "largest growth MiB"},
        listed="growth MiB",
        runs=1,
    )


def _verdicts(results: Results) -> list[Verdict]:
    return [
        Verdict("large upload", middle(results, "large", "growth"), LIMIT_MIB, "MiB", at_least=False),
        Verdict("long recording", middle(results, "long", "growth"), LIMIT_MIB, "MiB", at_least=False),
    ]
