"""Real speech in real time through the real recogniser: how soon words are there, and how right they are."""

import asyncio
import itertools
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import av

from bench.client import Client
from bench.contestants import Target, cosygate
from bench.live.serving import LiveConfig
from bench.plan import Contestant, Work
from bench.recordings import wav_header
from bench.stats import Figures, Results, Verdict, middle
from bench.wer import clips, error_rate
from tests.support.live import LiveCaller, Story
from tests.support.live_recordings import LiveRecording

STREAMS = 8
RATE = 16_000
_PAD = RATE // 5  # what the detector adds on both sides of speech (engine/vad.py)
_SILENCE_S = 1.0  # after each recording: so that speech ends by itself, and not because of `end`

ABOUT = f"""
`serve` with its default settings and Moonshine tiny; {STREAMS} streams at once, each playing one recording after the
other in real time (16 kHz s16le, frames of 100 ms, sent when their last sample has been spoken), {{times}} times the
English recordings of the speech folder that have a reference, with {_SILENCE_S:g} s of silence after each. Speech
starts and ends where the detector says it does in the final (`start_sample` and `end_sample`, less its pad of 0.2 s),
and that moment is the sending of the frame with that sample. First words: from there to the first partial, or final, of
that utterance. Final: from the end of speech to its final; the pause of 0.4 s that tells an end from a breath is in it.
Utterances that were cut at the longest length, or by the end of the recording, have no such end and are left out. "From
the microphone" also counts the up to 100 ms that a sample waits for its frame to be full. Word error: the finals of a
session joined, and the text of the same samples sent as a file, both against the reference.
"""


def work(config: LiveConfig) -> Work:
    return Work(
        name="speech",
        title="Real speech in real time",
        about=ABOUT.format(times=config.repeats),
        contestants={"live": Contestant(f"CosyGate, {STREAMS} streams", partial(measure, config))},
        verdicts=_verdicts,
        columns={
            "first_p50_s": "first words p50 s",
            "first_p95_s": "p95 s",
            "final_p50_s": "final p50 s",
            "final_p95_s": "p95 s",
            "first_mic_p95_s": "first, from the microphone, p95 s",
            "final_mic_p95_s": "final, from the microphone, p95 s",
            "wer_live": "live WER %",
            "wer_file": "file WER %",
            "utterances": "utterances",
        },
    )


def measure(config: LiveConfig, folder: Path) -> Figures:
    spoken = clips(config.audio)[: 3 if config.quick else None]
    heard = [LiveRecording(pcm_of(clip.path) + bytes(2 * round(_SILENCE_S * RATE))) for clip in spoken]
    with cosygate(folder, live_sessions_each=STREAMS + 1, open_uploads=1000) as target:
        files = file_texts(target, heard)  # first: so that the engine is warm
        stories = asyncio.run(play(target, heard * config.repeats))
    texts = [" ".join(final["text"] for final in story.finals) for story in stories]
    references = [clip.reference for clip in spoken]
    first, final = [], []
    for story, recording in zip(stories, itertools.cycle(heard), strict=False):
        for spoken_at, words_at, spoken_until, final_at in latencies(story, recording):
            first.append((words_at - spoken_at[0], words_at - spoken_at[1]))
            if spoken_until is not None:
                final.append((final_at - spoken_until[0], final_at - spoken_until[1]))
    return {
        "first_p50_s": _rank(first, 0, 50),
        "first_p95_s": _rank(first, 0, 95),
        "final_p50_s": _rank(final, 0, 50),
        "final_p95_s": _rank(final, 0, 95),
        "first_mic_p95_s": _rank(first, 1, 95),
        "final_mic_p95_s": _rank(final, 1, 95),
        "wer_live": error_rate(references * config.repeats, texts),
        "wer_file": error_rate(references, files),
        "utterances": len(first),
    }


def _rank(values: list[tuple[float, float]], which: int, per_cent: int) -> float:
    ranked = sorted(value[which] for value in values)
    return ranked[min(len(ranked) - 1, len(ranked) * per_cent // 100)]


async def play(target: Target, recordings: list[LiveRecording]) -> list[Story]:
    """STREAMS at once; the stories in the order of the recordings."""
    stories: list[Story | None] = [None] * len(recordings)
    numbers = iter(range(len(recordings)))

    async def speaker(turn: int) -> None:
        await asyncio.sleep(turn * 0.37)  # nobody begins together
        for number in numbers:
            caller = LiveCaller(target.port, target.token, recordings[number], speed=1.0, silence_s=20)
            stories[number] = await caller.run()

    async with asyncio.TaskGroup() as group:
        for turn in range(STREAMS):
            group.create_task(speaker(turn))
    return [story for story in stories if story is not None]


Moment = tuple[float, float]  # when the frame with a sample was sent; when a microphone would have heard the sample


def latencies(story: Story, recording: LiveRecording) -> Iterator[tuple[Moment, float, Moment | None, float]]:
    """Of each final: speech began, its first words came, speech ended (None: it was cut short), it came itself."""
    words = [(at, m) for at, m in story.events if m["type"] in ("partial", "final")]
    for number, (final_at, final) in enumerate(story.of("final")):
        start, end = final["start_sample"], final["end_sample"]
        own = (at for at, m in words if start / RATE - 0.01 <= m["start"] < end / RATE)
        following = story.finals[number + 1]["start_sample"] if number + 1 < len(story.finals) else recording.samples
        ended = None if end >= following else moment(story, recording, end - _PAD)
        yield moment(story, recording, start + _PAD), next(own), ended, final_at


def moment(story: Story, recording: LiveRecording, sample: int) -> Moment:
    behind = min(recording.samples, (sample // recording.frame + 1) * recording.frame)
    return story.sent[behind], story.sent[behind] - (behind - sample) / RATE


def file_texts(target: Target, recordings: list[LiveRecording]) -> list[str]:
    client = Client(target)
    tasks = [
        client.put(f"file-{n}", 0, wav_header(len(r.audio)) + r.audio, True)["task_id"]
        for n, r in enumerate(recordings)
    ]
    return [client.finished(task)["result"]["text"] for task in tasks]


def pcm_of(path: Path) -> bytes:
    """s16le mono at RATE."""
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    with path.open("rb") as file, av.open(file) as container:
        frames = [f for frame in container.decode(audio=0) for f in resampler.resample(frame)]
        frames += resampler.resample(None)
    return b"".join(frame.to_ndarray().tobytes() for frame in frames)


def _verdicts(results: Results) -> list[Verdict]:
    worse = abs(middle(results, "live", "wer_live") - middle(results, "live", "wer_file"))
    return [
        Verdict("first words, p95", middle(results, "live", "first_p95_s"), 1.0, "s", at_least=False),
        Verdict("final, p95", middle(results, "live", "final_p95_s"), 1.2, "s", at_least=False),
        Verdict("word error rate, distance from the file's", worse, 2.0, "points", at_least=False),
    ]
