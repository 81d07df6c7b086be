"""A transcript written as json, txt, srt, vtt or tsv. Pure text in, text out."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from enum import StrEnum

from cosygate.model.transcript import Segment, Transcript, transcript_dict


class Format(StrEnum):
    JSON = "json"
    TXT = "txt"
    SRT = "srt"
    VTT = "vtt"
    TSV = "tsv"


MEDIA_TYPES: dict[Format, str] = {
    Format.JSON: "application/json",
    Format.TXT: "text/plain; charset=utf-8",
    Format.SRT: "application/x-subrip; charset=utf-8",
    Format.VTT: "text/vtt; charset=utf-8",
    Format.TSV: "text/tab-separated-values; charset=utf-8",
}


def _stamp(seconds: float, mark: str) -> str:
    """`hh:mm:ss` + mark + milliseconds."""
    millis = round(seconds * 1000)
    hours, millis = divmod(millis, 3_600_000)
    minutes, millis = divmod(millis, 60_000)
    return f"{hours:02d}:{minutes:02d}:{millis // 1000:02d}{mark}{millis % 1000:03d}"


def _cue_text(text: str) -> str:
    """One line: a blank line would end the cue, and `-->` may not stand in its text."""
    return " ".join(text.split()).replace("-->", "→")


def _spoken(segment: Segment) -> str:
    text = _cue_text(segment.text)
    return f"{segment.speaker}: {text}" if segment.speaker else text


def _json(transcript: Transcript) -> str:
    return json.dumps(transcript_dict(transcript), ensure_ascii=False, separators=(",", ":"))


def _txt(transcript: Transcript) -> str:
    """The recognised text alone."""
    return transcript.text + "\n" if transcript.text else ""


def _srt(transcript: Transcript) -> str:
    """SubRip as players read it: a counter from 1, comma before the milliseconds, CRLF-free."""
    cues = (
        f"{n}\n{_stamp(s.start, ',')} --> {_stamp(s.end, ',')}\n{_spoken(s)}\n"
        for n, s in enumerate(transcript.segments, start=1)
    )
    return "\n".join(cues)


def _vtt(transcript: Transcript) -> str:
    """WebVTT (W3C, https://www.w3.org/TR/webvtt1/): `&`, `<` and `>` are escaped, speakers become voices."""

    def body(s: Segment) -> str:
        text = html.escape(_cue_text(s.text), quote=False)
        return f"<v {html.escape(s.speaker, quote=False)}>{text}" if s.speaker else text

    cues = (f"{_stamp(s.start, '.')} --> {_stamp(s.end, '.')}\n{body(s)}\n" for s in transcript.segments)
    return "\n".join(["WEBVTT\n", *cues])


def _tsv(transcript: Transcript) -> str:
    """start, end (milliseconds), speaker when any is known, text; tabs and newlines in the text become spaces."""
    speakers = any(s.speaker for s in transcript.segments)
    lines = ["start\tend\t" + ("speaker\t" if speakers else "") + "text"]
    for s in transcript.segments:
        who = f"{s.speaker or ''}\t" if speakers else ""
        lines.append(f"{round(s.start * 1000)}\t{round(s.end * 1000)}\t{who}{' '.join(s.text.split())}")
    return "\n".join(lines) + "\n"


_WRITERS: dict[Format, Callable[[Transcript], str]] = {
    Format.JSON: _json,
    Format.TXT: _txt,
    Format.SRT: _srt,
    Format.VTT: _vtt,
    Format.TSV: _tsv,
}


def write(transcript: Transcript, fmt: Format) -> str:
    return _WRITERS[fmt](transcript)
