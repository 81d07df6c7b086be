"""What the clients of a run will do, from its seed alone: recordings, live sessions, and the text that each must give.

The scripted recogniser hears digests (SCRIPT): the text of every half second of sound is the beginning of its SHA-256.
So a recording that was swapped, truncated, or put together in the wrong order has a wrong text.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

from tests.support import media
from tests.support.live_recordings import LiveRecording

RATE = 16_000
PIECE = RATE // 2  # samples that are one piece of text
SCRIPT = {"hear": "digest", "segment_s": PIECE / RATE, "delay_s": 0.05}
DIGITS = 12
TENANTS = {"acme": ("ann", "bob", "cy"), "birch": ("dee", "eve"), "cedar": ("finn",)}
PRINCIPALS = tuple(f"{tenant}/{sub}" for tenant, subs in TENANTS.items() for sub in subs)
FATES = {"keep": 80, "cancel": 6, "delete": 5, "abort": 4, "lose": 5}  # in a hundred
FOLLOWS = {"events": 35, "poll": 45, "leave": 20}


@dataclass(frozen=True, slots=True)
class Chunk:
    seq: int
    start: int  # bytes of the recording
    end: int
    form: bool  # multipart, else a raw body


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording's client."""

    who: str
    principal: str
    session: str
    seconds: float
    at_s: float  # when it begins, from the run's start
    chunks: tuple[Chunk, ...]  # in the order they are sent
    library: bool  # sent by cosygate.client, in chunks of `chunk_bytes`
    chunk_bytes: int
    parallel: bool
    low: bool  # priority
    webhook: bool
    fate: str
    follow: str

    @property
    def last(self) -> int:
        return max(chunk.seq for chunk in self.chunks)

    def sound(self) -> bytes:
        """A WAV of noise: no two recordings sound alike."""
        return media.wav(_noise(self.who, self.session, round(self.seconds * RATE)), rate=RATE)

    def texts(self) -> list[str]:
        return texts(_noise(self.who, self.session, round(self.seconds * RATE)))


@dataclass(frozen=True, slots=True)
class Speech:
    """One live session's client."""

    who: str
    principal: str
    at_s: float
    speed: float  # times real time
    recording: LiveRecording
    webhook: bool

    def finals(self) -> list[tuple[int, int, str]]:
        """(first sample, sample behind the last, text) of each: cut every PIECE, and where the client finalizes."""
        found, at, kept = [], 0, self.recording.kept()
        marks = [*self.recording.finalizes, self.recording.samples]
        while at < self.recording.samples:
            end = min(at + PIECE, next(mark for mark in marks if mark > at))
            found.append((at, end, digest(kept[2 * at : 2 * end])))
            at = end
        return found


def recordings(seed: int, count: int, seconds: float) -> list[Recording]:
    """`count` of them, whose beginnings are spread over `seconds`."""
    return [_recording(random.Random(f"{seed} r{n}"), seed, n, seconds * n / max(1, count)) for n in range(count)]


def speeches(seed: int, count: int, seconds: float, longest_s: float = 16.0) -> list[Speech]:
    """Their beginnings are spread so that the last one can end in `seconds`."""
    room = max(0.0, seconds - longest_s / 2)
    return [_speech(random.Random(f"{seed} l{n}"), seed, n, room * n / max(1, count), longest_s) for n in range(count)]


def _recording(rng: random.Random, seed: int, number: int, at_s: float) -> Recording:
    fate = _chosen(rng, FATES)
    seconds = round(rng.uniform(0.4, 2.4), 3)
    size = 44 + 2 * round(seconds * RATE)
    count = max(2, rng.randint(1, 6)) if fate in ("abort", "lose") else rng.randint(1, 6)
    bounds = [0, *sorted(rng.sample(range(1, size), count - 1)), size]
    chunks = [Chunk(seq, bounds[seq], bounds[seq + 1], rng.random() < 0.4) for seq in range(count)]
    if rng.random() < 0.5:
        rng.shuffle(chunks)
    return Recording(
        who=f"r{number}",
        principal=rng.choice(PRINCIPALS),
        session=f"chaos-{seed}-{number}",
        seconds=seconds,
        at_s=at_s,
        chunks=tuple(chunks),
        library=fate in ("keep", "delete") and rng.random() < 0.25,
        chunk_bytes=rng.choice((8_000, 20_000, 100_000)),
        parallel=rng.random() < 0.15,
        low=rng.random() < 0.2,
        webhook=rng.random() < 0.2,
        fate=fate,
        follow=_chosen(rng, FOLLOWS),
    )


def _speech(rng: random.Random, seed: int, number: int, at_s: float, longest_s: float) -> Speech:
    kind = rng.choice(("s16le", "s16le", "mulaw", "alaw"))
    samples = round(rng.uniform(longest_s / 3, longest_s) * RATE)
    marks = tuple(sorted(rng.sample(range(RATE // 4, samples - RATE // 4), rng.choice((0, 0, 1, 3)))))
    sound = _noise(f"l{number}", f"live-{seed}", samples)[: samples * (2 if kind == "s16le" else 1)]
    return Speech(
        who=f"l{number}",
        principal=rng.choice(PRINCIPALS),
        at_s=at_s,
        speed=rng.uniform(0.9, 1.5),
        recording=LiveRecording(sound, kind, RATE, RATE // 10, marks),
        webhook=rng.random() < 0.2,
    )


def _chosen(rng: random.Random, shares: dict[str, int]) -> str:
    return rng.choices(list(shares), list(shares.values()))[0]


def _noise(who: str, name: str, samples: int) -> bytes:
    return random.Random(f"noise {who} {name}").randbytes(2 * samples)


def digest(pcm: bytes) -> str:
    """What the scripted recogniser hears in s16le."""
    return hashlib.sha256(pcm).hexdigest()[:DIGITS]


def texts(pcm: bytes) -> list[str]:
    return [digest(pcm[at : at + 2 * PIECE]) for at in range(0, len(pcm), 2 * PIECE)]
