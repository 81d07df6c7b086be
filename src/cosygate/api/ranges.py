"""Byte ranges of a recording (RFC 9110 §14): one range; a client that asks for several gets the whole."""

from __future__ import annotations

import re

from cosygate import errors
from cosygate.model.audio import Container

_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
MEDIA_TYPES = {
    Container.WAV: "audio/wav",
    Container.FLAC: "audio/flac",
    Container.OGG: "audio/ogg",
    Container.MP3: "audio/mpeg",
    Container.AAC: "audio/aac",
    Container.MATROSKA: "audio/webm",
    Container.MP4: "audio/mp4",
    Container.AIFF: "audio/aiff",
}
ANY_MEDIA_TYPE = "application/octet-stream"


def media_type(container: str) -> str:
    return MEDIA_TYPES.get(Container(container), ANY_MEDIA_TYPE)


def parse(header: str | None, total: int) -> tuple[int, int] | None:
    """(first byte, length) of the wanted range, None for the whole. Raises RangeInvalid when nothing lies in it."""
    if header is None or not (match := _RANGE.fullmatch(header.strip())) or match[0] == "bytes=-":
        return None
    first, last = match[1], match[2]
    if first:
        start, end = int(first), min(int(last), total - 1) if last else total - 1
        if last and int(last) < int(first):
            return None  # RFC 9110 §14.1.1: invalid, so ignored
    else:
        start, end = max(0, total - int(last)), total - 1
    if start > end:
        raise errors.RangeInvalid(f"the recording has {total} bytes")
    return start, end - start + 1


def headers(span: tuple[int, int] | None, total: int) -> dict[str, str]:
    if span is None:
        return {"Accept-Ranges": "bytes", "Content-Length": str(total)}
    start, length = span
    return {
        "Accept-Ranges": "bytes",
        "Content-Length": str(length),
        "Content-Range": f"bytes {start}-{start + length - 1}/{total}",
    }
