"""What a recording's bytes are: raw PCM descriptions, sniffing of the first 64 KB, and the limits on decoded audio."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from cosygate import errors

SNIFF_BYTES = 64 * 1024
PCM_RATE = 16_000  # samples per second of everything an engine gets
_RAW = re.compile(r"s16le;rate=(\d{1,6});channels=(\d{1,3})")


@dataclass(frozen=True, slots=True)
class RawFormat:
    """Headerless PCM, signed 16 bit little endian, interleaved."""

    rate: int  # samples per second and channel
    channels: int

    @classmethod
    def parse(cls, text: str) -> RawFormat:
        """`s16le;rate=16000;channels=1`. Raises OptionInvalid."""
        match = _RAW.fullmatch(text.replace(" ", ""))
        if not match:
            raise errors.OptionInvalid("audio_format is s16le;rate=R;channels=C", option="audio_format")
        rate, channels = int(match[1]), int(match[2])
        if not (8_000 <= rate <= 192_000 and 1 <= channels <= 8):
            raise errors.OptionInvalid("audio_format: rate is 8000-192000, channels 1-8", option="audio_format")
        return cls(rate, channels)


@dataclass(frozen=True, slots=True)
class AudioLimits:
    """Bounds on one recording's decoded audio."""

    seconds: float = 12 * 3600.0
    channels: int = 8
    min_rate: int = 4_000
    max_rate: int = 192_000


class Container(StrEnum):
    """What the first bytes say. WAV and RAW may take the fast path; everything else needs the sandbox."""

    RAW = "raw"
    WAV = "wav"
    FLAC = "flac"
    OGG = "ogg"
    MP3 = "mp3"
    AAC = "aac"
    MATROSKA = "matroska"
    MP4 = "mp4"
    AIFF = "aiff"
    AU = "au"
    CAF = "caf"
    AMR = "amr"
    ASF = "asf"
    W64 = "w64"


@dataclass(frozen=True, slots=True)
class MediaInfo:
    """What the decoder found. `duration` is the container's claim in seconds, None when it makes none."""

    container: str
    codec: str
    rate: int
    channels: int
    duration: float | None


# offset, magic → container (ISO base media, RIFF and MPEG frames are told apart below)
_MAGIC: tuple[tuple[int, bytes, Container], ...] = (
    (0, b"fLaC", Container.FLAC),
    (0, b"OggS", Container.OGG),
    (0, b"\x1aE\xdf\xa3", Container.MATROSKA),
    (0, b".snd", Container.AU),
    (0, b"caff\x00\x01", Container.CAF),
    (0, b"#!AMR", Container.AMR),
    (0, b"0&\xb2u\x8ef\xcf\x11", Container.ASF),
    (0, b"riff\x2e\x91\xcf\x11", Container.W64),
)
# The boxes an MP4 or MOV may start with (ISO/IEC 14496-12 §4.2). All but mdat are small: a text like "The free …" has
# a size there that no such box has.
_FIRST_BOXES = (b"ftyp", b"moov", b"wide", b"free", b"skip", b"pnot")
_FIRST_BOX_MAX = 1 << 28


def sniff(head: bytes) -> Container:
    """The container that the first up to SNIFF_BYTES bytes belong to.

    Raises RecordingEmpty for no bytes, UnsupportedMedia for anything that is not known audio (text, playlists, zip,
    random bytes). It looks at magic numbers alone; whether the rest decodes is the decoder's to say.
    """
    if not head:
        raise errors.RecordingEmpty()
    for offset, magic, container in _MAGIC:
        if head.startswith(magic, offset):
            return container
    if head[:4] in (b"RIFF", b"RF64", b"BW64") and head[8:12] == b"WAVE":
        return Container.WAV
    if head[:4] == b"FORM" and head[8:12] in (b"AIFF", b"AIFC"):
        return Container.AIFF
    if _iso_box(head):
        return Container.MP4
    if head[:3] == b"ID3" and head[3:4] in (b"\x02", b"\x03", b"\x04"):
        return Container.MP3
    if _adts(head):
        return Container.AAC
    if _mpeg(head):
        return Container.MP3
    raise errors.UnsupportedMedia("the first bytes are not those of a known audio format")


def _iso_box(head: bytes) -> bool:
    size, name = int.from_bytes(head[:4], "big"), head[4:8]
    return (name in _FIRST_BOXES and 8 <= size < _FIRST_BOX_MAX) or (name == b"mdat" and (size < 2 or size >= 8))


# Bitrates in kbit/s by index, MPEG-1 layer III and MPEG-2/2.5 layer III; sampling rates by version bits and index
# (ISO/IEC 11172-3 §2.4.2.3, ISO/IEC 13818-3 §2.4.2.3).
_KBPS_V1 = (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
_KBPS_V2 = (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
_RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def _mpeg_frame_bytes(head: bytes, at: int) -> int:
    """Length in bytes of the layer III frame that starts at `at`; 0 when none does."""
    if len(head) < at + 4 or head[at] != 0xFF or head[at + 1] & 0xE6 != 0xE2:
        return 0
    version, bitrate, rate = (head[at + 1] >> 3) & 3, head[at + 2] >> 4, (head[at + 2] >> 2) & 3
    if version == 1 or bitrate in (0, 15) or rate == 3:
        return 0
    kbps = (_KBPS_V1 if version == 3 else _KBPS_V2)[bitrate]
    return (144 if version == 3 else 72) * kbps * 1000 // _RATES[version][rate] + ((head[at + 2] >> 1) & 1)


def _mpeg(head: bytes) -> bool:
    """Two frames in a row: a lone sync word is too common in random bytes."""
    first = _mpeg_frame_bytes(head, 0)
    return bool(first) and (len(head) < first + 4 or bool(_mpeg_frame_bytes(head, first)))


def _adts(head: bytes) -> bool:
    """Two ADTS headers in a row (ISO/IEC 13818-7 §6.2)."""

    def frame(at: int) -> int:
        if len(head) < at + 7 or head[at] != 0xFF or head[at + 1] & 0xF6 != 0xF0 or (head[at + 2] >> 2) & 15 > 12:
            return 0
        length = (head[at + 3] & 3) << 11 | head[at + 4] << 3 | head[at + 5] >> 5
        return length if length > 7 else 0

    first = frame(0)
    return bool(first) and (len(head) < first + 7 or bool(frame(first)))
