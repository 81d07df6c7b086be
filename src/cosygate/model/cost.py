"""What a recording will cost, before it is decoded: seconds of audio, by its head and size. The queue is bounded, and
turns are given, in these; turns are corrected by what was really decoded (model/turns.py), and usage counts that."""

from __future__ import annotations

from cosygate import errors
from cosygate.model.audio import AudioLimits, Container, RawFormat
from cosygate.model.wav import MAX_CHUNKS, parse_wav

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
_SPARSEST = 1_000  # bytes per second of the sparsest speech: what a head claims beyond is not believed
_STREAMINFO = (34).to_bytes(3, "big")  # the length of the block that every FLAC file begins with (RFC 9639 §8.2)
_DENSEST = 192_000 * 8 * 8  # bytes per second of the densest PCM there is: a head that claims more is not believed
LEAST_S = 0.25  # opening, decoding and calling an engine take as long as recognising so much, however short it is
_MOST_S = AudioLimits().seconds  # a video would be days of audio, by its size; and a queue full by itself


def cost_s(container: Container, size: int, *, head: bytes = b"", raw: RawFormat | None = None) -> float:
    """Seconds of audio in a recording of `size` bytes that begins with `head`. Exact for PCM, an estimate otherwise.
    The head of compressed audio may only raise that, and not beyond belief: it is a stranger's word. LEAST_S at the
    least, and no longer than a recording may be."""
    if raw is not None:
        told: float | None = size / (2 * raw.rate * raw.channels)
    else:
        told = _wav_s(head, size) if container is Container.WAV else None
    if told is None:
        usual = size / _BYTES_A_SECOND.get(container, _PCM)
        told = min(max(_claimed_s(container, head, size), usual), size / _SPARSEST)
    return min(max(told, size / _DENSEST, LEAST_S), _MOST_S)


def _wav_s(head: bytes, size: int) -> float | None:
    """By the header alone; None when its samples are compressed, or it cannot be read."""
    try:
        found = parse_wav(lambda at, length: head[at : at + length], size)
    except errors.MediaUndecodable:
        return None
    return found.frames / found.rate if found and found.rate else None


def _claimed_s(container: Container, head: bytes, size: int) -> float:
    """What the head says of compressed audio; 0.0 when that is nothing."""
    if container is Container.WAV:
        bytes_a_second = _wav_bytes_a_second(head)
        return size / bytes_a_second if bytes_a_second else 0.0
    if container is Container.FLAC and head[5:8] == _STREAMINFO:
        told = int.from_bytes(head[18:26], "big")  # 20 bits of rate, 3 of channels, 5 of width, 36 of samples
        rate, samples = told >> 44, told & (1 << 36) - 1
        return samples / rate if rate else 0.0
    return 0.0


def _wav_bytes_a_second(head: bytes) -> int:
    """nAvgBytesPerSec, which writers of compressed samples have to tell (Microsoft RIFF 1991); 0 without it."""
    at = 12
    for _ in range(MAX_CHUNKS):
        if head[at : at + 4] == b"fmt ":
            return int.from_bytes(head[at + 16 : at + 20], "little")
        length = int.from_bytes(head[at + 4 : at + 8], "little")
        at += 8 + length + (length & 1)
    return 0
