"""What a WAV header says, checked: RIFF, RF64 and BW64 with plain samples (Microsoft RIFF 1991 and
WAVEFORMATEXTENSIBLE, EBU Tech 3306, ITU-R BS.2088). Nothing in a header is believed that the file contradicts.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from cosygate import errors

MAX_CHUNKS = 256  # looked at before the samples; real files have a handful
_UNKNOWN_SIZE = 0xFFFF_FFFF  # a streaming writer's, or "see ds64"
_EXTENSIBLE = 0xFFFE
_SUBFORMAT_TAIL = bytes.fromhex("000000001000800000aa00389b71")  # KSDATAFORMAT_SUBTYPE_*: the tag, then this

Reader = Callable[[int, int], bytes]  # (offset, length) → at most that many bytes, fewer at the end of the file


class Encoding(StrEnum):
    """How one sample is stored, little endian. Its width in bytes is WavFormat.width."""

    UNSIGNED = "u8"
    SIGNED = "int"  # 16, 24 or 32 bit; 24 of 32 bits are the upper ones
    FLOAT = "float"  # 32 or 64 bit
    ALAW = "alaw"
    MULAW = "mulaw"


# fmt tag → encoding by bytes per sample
_PLAIN: dict[int, dict[int, Encoding]] = {
    1: {1: Encoding.UNSIGNED, 2: Encoding.SIGNED, 3: Encoding.SIGNED, 4: Encoding.SIGNED},
    3: {4: Encoding.FLOAT, 8: Encoding.FLOAT},
    6: {1: Encoding.ALAW},
    7: {1: Encoding.MULAW},
}


@dataclass(frozen=True, slots=True)
class WavFormat:
    """Plain samples, interleaved. `data_size` lies within the file and holds whole frames."""

    encoding: Encoding
    width: int  # bytes of one sample of one channel
    channels: int
    rate: int  # frames per second
    data_start: int  # bytes from the start of the file
    data_size: int

    @property
    def frame_bytes(self) -> int:
        return self.width * self.channels

    @property
    def frames(self) -> int:
        return self.data_size // self.frame_bytes

    @property
    def codec(self) -> str:
        """As FFmpeg calls it."""
        bits = 8 * self.width
        match self.encoding:
            case Encoding.UNSIGNED:
                return "pcm_u8"
            case Encoding.SIGNED:
                return f"pcm_s{bits}le"
            case Encoding.FLOAT:
                return f"pcm_f{bits}le"
            case _:
                return f"pcm_{self.encoding}"


def wav_header(rate: int, data_size: int) -> bytes:
    """The 44 bytes before `data_size` bytes of s16le mono (RIFF 1991). Beyond what 32 bits hold the sizes say that they
    are unknown, which readers, ours included, take for "to the end of the file"."""
    riff = min(36 + data_size, _UNKNOWN_SIZE)
    data = data_size if riff != _UNKNOWN_SIZE else _UNKNOWN_SIZE
    fmt = struct.pack("<HHIIHH", 1, 1, rate, 2 * rate, 2, 16)
    return b"RIFF" + struct.pack("<I", riff) + b"WAVEfmt \x10\0\0\0" + fmt + b"data" + struct.pack("<I", data)


def parse_wav(read: Reader, size: int) -> WavFormat | None:
    """The format of a WAV of `size` bytes; None when its samples are compressed or of a kind unknown here (a decoder
    may know it). Zero and absurd rates and channel counts are reported, not judged.

    Raises MediaUndecodable when there is no usable header or no samples.
    """
    fmt: bytes | None = None
    data64: int | None = None
    at = 12
    for _ in range(MAX_CHUNKS):
        header = read(at, 8)
        if len(header) < 8:
            break
        name, length = header[:4], int.from_bytes(header[4:], "little")
        at += 8
        if name == b"data":
            return _describe(fmt, at, _data_size(read, size, at, length, data64))
        if name == b"fmt ":
            fmt = read(at, min(length, 40))
        elif name == b"ds64":
            data64 = int.from_bytes(read(at + 8, 8), "little")
        at += length + (length & 1)
    raise errors.MediaUndecodable("the WAV file has no data chunk")


def _data_size(read: Reader, size: int, start: int, claimed: int, data64: int | None) -> int:
    """Bytes of samples. A claim is believed when the file is long enough and what follows looks like a chunk;
    otherwise the samples go on to the real end (writers that died, or never knew, leave 0 or 2³²-1)."""
    rest = max(0, size - start)
    if claimed == _UNKNOWN_SIZE and data64 is not None:
        claimed = data64
    if claimed >= rest:
        return rest
    after = read(start + claimed + (claimed & 1), 8)
    chunk_follows = (
        len(after) == 8
        and all(0x20 <= byte < 0x7F for byte in after[:4])
        and int.from_bytes(after[4:], "little") <= rest - claimed - 8
    )
    return claimed if chunk_follows or len(after) < 8 else rest


def _describe(fmt: bytes | None, data_start: int, data_size: int) -> WavFormat | None:
    if fmt is None or len(fmt) < 16:
        raise errors.MediaUndecodable("the WAV file has no format chunk before its samples")
    tag, channels, rate, _, align, bits = struct.unpack_from("<HHIIHH", fmt)
    if tag == _EXTENSIBLE and len(fmt) >= 40 and fmt[26:40] == _SUBFORMAT_TAIL:
        tag = int.from_bytes(fmt[24:26], "little")
    width = (bits + 7) // 8
    if tag == 1 and width == 3 and align == 4 * channels:
        width = 4
    encoding = _PLAIN.get(tag, {}).get(width)
    if encoding is None:
        return None
    if channels and align not in (0, channels * width):
        raise errors.MediaUndecodable("the WAV header contradicts itself: block align, channels and bits do not agree")
    frame = max(1, channels * width)
    return WavFormat(encoding, width, channels, rate, data_start, data_size - data_size % frame)
