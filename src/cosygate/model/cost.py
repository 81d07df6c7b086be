"""What a recording will cost, before it is decoded: seconds of audio, by its head and size. The queue is bounded, and
turns are given, in these; usage counts what was really decoded."""

from __future__ import annotations

from cosygate import errors
from cosygate.model.audio import AudioLimits, Container, RawFormat
from cosygate.model.wav import parse_wav

# Bytes per second of what people send in each container. Low ones: an estimate that is too long delays its own tenant,
# one that is too short would let the queue grow beyond its bound.
_BYTES_A_SECOND: dict[Container, int] = {
    Container.FLAC: 30_000,
    Container.OGG: 3_000,
    Container.MATROSKA: 3_000,
    Container.MP3: 6_000,
    Container.AAC: 6_000,
    Container.MP4: 8_000,
    Container.AMR: 1_000,
    Container.ASF: 4_000,
}
_PCM = 32_000  # 16 kHz, mono, 16 bit: the plain containers whose head could not be read
_DENSEST = 192_000 * 8 * 8  # bytes per second of the densest PCM there is: a head that claims more is not believed
LEAST_S = 0.25  # opening, decoding and calling an engine take as long as recognising so much, however short it is
_MOST_S = AudioLimits().seconds  # a video would be days of audio, by its size; and a queue full by itself


def cost_s(container: Container, size: int, *, head: bytes = b"", raw: RawFormat | None = None) -> float:
    """Seconds of audio in a recording of `size` bytes that begins with `head`. Exact for PCM, an estimate otherwise;
    LEAST_S at the least, and no longer than a recording may be."""
    if raw is not None:
        told: float | None = size / (2 * raw.rate * raw.channels)
    else:
        told = _wav_s(head, size) if container is Container.WAV else None
    if told is None:
        told = size / _BYTES_A_SECOND.get(container, _PCM)
    return min(max(told, size / _DENSEST, LEAST_S), _MOST_S)


def _wav_s(head: bytes, size: int) -> float | None:
    """By the header alone; None when its samples are compressed, or it cannot be read."""
    try:
        found = parse_wav(lambda at, length: head[at : at + length], size)
    except errors.MediaUndecodable:
        return None
    return found.frames / found.rate if found and found.rate else None
