"""`python -m bench.live.speakers CONVERSATION.wav …` (each with its .rttm beside): who speaks, heard live.

Through a real `cosygate serve`, all of them side by side and in real time, once without speakers and once with. DER is
counted over the finals as they came; CPU is the engine's, for each second of sound; late is how long after a final's
last sample it came: the median; of the 0.4 s of
silence that end an utterance, 0.2 s belong to it.
"""

import argparse
import asyncio
import statistics
import tempfile
from dataclasses import replace
from pathlib import Path

import psutil

from cosygate.evaluate.references import Turn
from cosygate.evaluate.speakers import speaker_errors
from tests.support.der import read_rttm
from tests.support.live import LiveCaller, Story
from tests.support.live_recordings import LiveRecording, read_wav
from tests.support.server import Server


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.live.speakers", description=__doc__)
    parser.add_argument("conversations", nargs="+", type=Path)
    files: list[Path] = parser.parse_args().conversations
    recordings = [read_wav(file) for file in files]
    with tempfile.TemporaryDirectory(prefix="cosygate-live-") as folder, Server(Path(folder), engines=1) as server:
        for diarize in ("false", "true"):
            asked = [replace(recording, options={"diarize": diarize}) for recording in recordings]
            before = _cpu_s(server)
            stories = asyncio.run(_played(server, asked))
            seconds = sum(recording.samples / recording.rate for recording in recordings)
            late = statistics.median(lag for story in stories for lag in _late(story))
            print(f"diarize={diarize}: CPU {(_cpu_s(server) - before) / seconds:.3f}, finals {late:.2f} s late")
    for file, story in zip(files, stories, strict=True):
        heard = [Turn(f["start"], f["end"], f["speaker"]) for f in story.finals]
        errors = speaker_errors([Turn(*turn) for turn in read_rttm(file.with_suffix(".rttm"))], heard)
        right = 1 - (errors.missed + errors.confused) / errors.of
        labels = len({turn.speaker for turn in heard})
        print(f"{file.stem}: DER {100 * errors.count / errors.of:.1f} %, right {100 * right:.1f} %, {labels} labels")
    return 0


async def _played(server: Server, recordings: list[LiveRecording]) -> list[Story]:
    token = server.token("bench")
    callers = [LiveCaller(server.port, token, recording, speed=1.0, silence_s=20) for recording in recordings]
    return list(await asyncio.gather(*(caller.run() for caller in callers)))


def _late(story: Story) -> list[float]:
    """Seconds from when the frame with a final's last sample was sent to the final."""
    frames = sorted(story.sent)
    return [at - story.sent[next(end for end in frames if end >= f["end_sample"])] for at, f in story.of("final")]


def _cpu_s(server: Server) -> float:
    times = [psutil.Process(process.pid).cpu_times() for process in server.find("cosygate.engine")]
    return sum(one.user + one.system for one in times)


if __name__ == "__main__":
    raise SystemExit(main())
