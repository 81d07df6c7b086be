"""Recordings for tests: good ones in many formats, and hostile ones. Pure Python and PyAV; bytes in, bytes out."""

from __future__ import annotations

import functools
import io
import math
import struct
from fractions import Fraction
from typing import Any

import av
import numpy as np

TAGS = {"pcm": 1, "adpcm": 2, "float": 3, "alaw": 6, "mulaw": 7}


def tone(seconds: float, rate: int = 16_000, hz: float = 440.0, level: float = 0.5) -> Any:
    """One channel of a sine as float64 in [-1, 1]."""
    return level * np.sin(2 * math.pi * hz * np.arange(round(seconds * rate)) / rate)


def s16(samples: Any) -> bytes:
    """(frames,) or (frames, channels) in [-1, 1] → interleaved s16le."""
    return np.clip(np.rint(np.asarray(samples) * 32768), -32768, 32767).astype("<i2").tobytes()


def fmt_chunk(tag: int, channels: int, rate: int, bits: int, *, align: int | None = None, extra: bytes = b"") -> bytes:
    align = channels * ((bits + 7) // 8) if align is None else align
    body = struct.pack("<HHIIHH", tag, channels, rate, rate * align & 0xFFFFFFFF, align & 0xFFFF, bits) + extra
    return b"fmt " + struct.pack("<I", len(body)) + body


def riff(*chunks: bytes, magic: bytes = b"RIFF") -> bytes:
    body = b"WAVE" + b"".join(chunks)
    return magic + struct.pack("<I", len(body) & 0xFFFFFFFF) + body


def data_chunk(data: bytes, claimed: int | None = None) -> bytes:
    return b"data" + struct.pack("<I", len(data) if claimed is None else claimed) + data


def wav(
    data: bytes,
    *,
    rate: int = 16_000,
    channels: int = 1,
    bits: int = 16,
    tag: int = 1,
    align: int | None = None,
    claimed: int | None = None,
) -> bytes:
    """A WAV whose header says just what it is told to."""
    return riff(fmt_chunk(tag, channels, rate, bits, align=align), data_chunk(data, claimed))


def tone_wav(seconds: float = 1.0, rate: int = 16_000, channels: int = 1) -> bytes:
    """A sine in every channel, 16 bit."""
    return wav(s16(np.repeat(tone(seconds, rate)[:, None], channels, axis=1)), rate=rate, channels=channels)


def extensible_wav(data: bytes, *, rate: int, channels: int, bits: int, valid: int, tag: int) -> bytes:
    guid = struct.pack("<H", tag) + bytes.fromhex("000000001000800000aa00389b71")
    extra = struct.pack("<HHI", 22, valid, 0) + guid
    return riff(fmt_chunk(0xFFFE, channels, rate, bits, extra=extra), data_chunk(data))


def rf64_wav(data: bytes, *, rate: int = 16_000, magic: bytes = b"RF64") -> bytes:
    ds64 = b"ds64" + struct.pack("<IQQQI", 28, len(data) + 72, len(data), len(data) // 2, 0)
    return riff(ds64, fmt_chunk(1, 1, rate, 16), data_chunk(data, 0xFFFFFFFF), magic=magic)


# --- made by PyAV ------------------------------------------------------------------------------------------------

# name → (container, codec, rate it encodes at)
ENCODED: dict[str, tuple[str, str, int]] = {
    "flac": ("flac", "flac", 44_100),
    "ogg-opus": ("ogg", "libopus", 48_000),
    "ogg-flac": ("ogg", "flac", 44_100),
    "mp3": ("mp3", "libmp3lame", 44_100),
    "aac": ("adts", "aac", 44_100),
    "m4a": ("mp4", "aac", 44_100),
    "webm": ("webm", "libopus", 48_000),
    "mka": ("matroska", "flac", 48_000),
    "aiff": ("aiff", "pcm_s16be", 44_100),
    "au": ("au", "pcm_s16be", 22_050),
    "caf": ("caf", "pcm_s16le", 44_100),
    "w64": ("w64", "pcm_s16le", 44_100),
    "wma": ("asf", "wmav2", 44_100),
    "amr": ("amr", "libopencore_amrnb", 8_000),
    "wav-adpcm": ("wav", "adpcm_ms", 22_050),
}


def encode(name: str, samples: Any) -> bytes:
    """Samples (frames,) or (frames, channels) at the rate that ENCODED names → a whole file of that kind."""
    container_name, codec, rate = ENCODED[name]
    return encode_as(container_name, codec, rate, samples)


def encode_as(container_name: str, codec: str, rate: int, samples: Any, streams: int = 1) -> bytes:
    array = np.asarray(samples, np.float32)
    array = array[:, None] if array.ndim == 1 else array
    out = io.BytesIO()
    with av.open(out, "w", format=container_name) as container:
        layout = "mono" if array.shape[1] == 1 else "stereo"
        made = [container.add_stream(codec, rate=rate, layout=layout) for _ in range(streams)]
        for stream in made:
            if codec == "wmav2":
                stream.bit_rate = 64_000  # it has no default
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(array.reshape(1, -1)), format="flt", layout=layout)
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), 0
            for packet in stream.encode(frame):
                container.mux(packet)
            for packet in stream.encode(None):
                container.mux(packet)
    return out.getvalue()


def video_only() -> bytes:
    """An MP4 with a picture and no sound."""
    out = io.BytesIO()
    with av.open(out, "w", format="mp4") as container:
        stream: Any = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return out.getvalue()


# --- hostile -----------------------------------------------------------------------------------------------------


@functools.cache
def flac_bomb(minutes: int, rate: int = 48_000) -> bytes:
    """Silence, of which FLAC needs some ten bytes per 4,608 samples: a thousandfold of itself as PCM."""
    out = io.BytesIO()
    with av.open(out, "w", format="flac") as container:
        stream: Any = container.add_stream("flac", rate=rate, layout="mono")
        silence = np.zeros((1, rate * 60), np.int16)
        for minute in range(minutes):
            frame = av.AudioFrame.from_ndarray(silence, format="s16", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = rate, Fraction(1, rate), minute * rate * 60
            for packet in stream.encode(frame):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)
    return out.getvalue()


def _boxes(data: bytes) -> list[tuple[bytes, bytes]]:
    """The boxes of an MP4 or of a box in it: name, body."""
    found, at = [], 0
    while at < len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        found.append((name, data[at + 8 : at + size]))
        at += size
    return found


def _box(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(body), name) + body


def _rebuilt(data: bytes, change: dict[bytes, Any], inside: frozenset[bytes]) -> bytes:
    """The same boxes, `change[name](body)` giving those it names (whole boxes), at any depth below `inside`. Only what
    lies behind mdat may grow: the chunk offsets stay right."""
    out = b""
    for name, body in _boxes(data):
        if name in change:
            out += change[name](body)
        else:
            out += _box(name, _rebuilt(body, change, inside) if name in inside else body)
    return out


def many_streams(count: int) -> bytes:
    """An MP4 with one track, that many times."""
    mp4 = encode_as("mp4", "aac", 16_000, tone(0.1))
    return _rebuilt(mp4, {b"trak": lambda body: _box(b"trak", body) * count}, frozenset({b"moov"}))


def with_external_data(path: str) -> bytes:
    """A MOV whose samples are said to lie in another file: a Macintosh alias in `dref` (QuickTime File Format, "Data
    Reference Atoms"; the layout is what FFmpeg's mov_read_dref takes)."""
    name = path.encode()
    absolute = struct.pack(">HH", 2, len(name)) + name + bytes(len(name) % 2)
    alias = bytes(10) + b"\x01v" + bytes(26) + bytes(12) + b"\x01f" + bytes(62) + bytes(16)
    alias += struct.pack(">HH", 0, 0) + bytes(16) + absolute + struct.pack(">HH", 0xFFFF, 0)
    dref = bytes(4) + struct.pack(">I", 1) + _box(b"alis", bytes(4) + alias)
    mov = encode_as("mov", "pcm_s16le", 16_000, tone(1.0))
    inside = frozenset({b"moov", b"trak", b"mdia", b"minf", b"dinf"})
    return _rebuilt(mov, {b"dref": lambda _: _box(b"dref", dref)}, inside)
