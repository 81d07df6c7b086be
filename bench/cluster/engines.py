"""What a second engine adds with real speech, against what a second bare recogniser process adds."""

from functools import partial
from pathlib import Path
from statistics import median

from bench.cluster.serving import Config, cluster, target
from bench.contestants import REPOSITORY
from bench.plan import Contestant, Work
from bench.stats import Figures, Results, Verdict
from bench.works.speech import CONNECTIONS, bare, recognised

BAR = 0.95

ABOUT = f"""
The English recordings of {{where}} that have a reference, each {{times}} times, through Moonshine tiny with one thread
a process. Bare: `python -m bench.bare`, PyAV, Silero VAD and Moonshine in one process, or in two, timed from when all
have loaded their models. CosyGate: nginx, two gateways, two workers, Postgres, Redis, blobs in a folder of this host;
one engine of one slot, or two; {CONNECTIONS} connections upload through nginx; timed from the first byte sent to the
last result read, the engines being loaded. The rate is seconds of audio per second of wall clock. All share two cores:
two bare processes have them for themselves, two engines leave what all else takes of them. The gain is two against one;
the bar is on the ratio of the gains within a round, the median of the rounds.
"""


def work(config: Config) -> Work:
    audio, times = (REPOSITORY / "samples", 2) if config.quick else (config.audio, 6)
    where = "samples/" if audio == REPOSITORY / "samples" else "the speech folder"
    contestants = {}
    for number, word in ((1, "one"), (2, "two")):
        contestants[f"bare-{number}"] = Contestant(f"bare, {word}", partial(bare, audio, times, number))
        contestants[f"engines-{number}"] = Contestant(f"CosyGate, {word}", partial(_ours, audio, times, number))
    return Work(
        name="engines",
        title="A second engine",
        about=ABOUT.format(where=where, times=times),
        contestants=contestants,
        verdicts=_verdicts,
        columns={"rate": "audio s/s", "wer": "WER %"},
    )


def _ours(audio: Path, times: int, engines: int, folder: Path) -> Figures:
    with cluster(folder, shared=True, engines=engines, slots=1, recogniser="moonshine") as made:
        return recognised(target(made), audio, times, engines)


def gains(results: Results, who: str) -> list[float]:
    """Two against one, of each round."""
    pairs = zip(results[f"{who}-2"], results[f"{who}-1"], strict=True)
    return [two["rate"] / one["rate"] for two, one in pairs]


def _verdicts(results: Results) -> list[Verdict]:
    ours, theirs = gains(results, "engines"), gains(results, "bare")
    kept = median(mine / other for mine, other in zip(ours, theirs, strict=True))
    told = f"gain by a second ({median(ours):.2f} ×), against bare's ({median(theirs):.2f} ×)"
    return [Verdict(told, kept, BAR, "×")]
