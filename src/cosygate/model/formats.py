"""A transcript in each of its formats. Pure text in, text out; subtitles are made in model/subtitles."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import groupby

from cosygate.model import subtitles
from cosygate.model.transcript import Transcript, join_texts, transcript_dict


class Format(StrEnum):
    JSON = "json"
    TXT = "txt"
    SRT = "srt"
    VTT = "vtt"
    VTT_KARAOKE = "vtt-karaoke"
    TTML = "ttml"
    TSV = "tsv"


MEDIA_TYPES: dict[Format, str] = {
    Format.JSON: "application/json",
    Format.TXT: "text/plain; charset=utf-8",
    Format.SRT: "application/x-subrip; charset=utf-8",
    Format.VTT: "text/vtt; charset=utf-8",
    Format.VTT_KARAOKE: "text/vtt; charset=utf-8",
    Format.TTML: "application/ttml+xml; charset=utf-8",
    Format.TSV: "text/tab-separated-values; charset=utf-8",
}


def _json(transcript: Transcript) -> str:
    return json.dumps(transcript_dict(transcript), ensure_ascii=False, separators=(",", ":"))


def _txt(transcript: Transcript) -> str:
    """The recognised text alone; where speakers are known a line for each turn, with the name before it."""
    if not any(segment.speaker for segment in transcript.segments):
        return transcript.text + "\n" if transcript.text else ""
    turns = groupby(_said(transcript), key=lambda said: said[0])
    return "".join((f"{who}: " if who else "") + join_texts(text for _, text in texts) + "\n" for who, texts in turns)


def _said(transcript: Transcript) -> Iterator[tuple[str | None, str]]:
    """Who says what, in order: where several speak in a segment and its words spell its text, by their words."""
    for segment in transcript.segments:
        several = len({word.speaker for word in segment.words} - {None}) > 1
        if several and join_texts(word.text for word in segment.words) == segment.text:
            yield from ((word.speaker or segment.speaker, word.text) for word in segment.words)
        else:
            yield segment.speaker, " ".join(segment.text.split())


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
    Format.SRT: subtitles.srt,
    Format.VTT: subtitles.vtt,
    Format.VTT_KARAOKE: subtitles.karaoke,
    Format.TTML: subtitles.ttml,
    Format.TSV: _tsv,
}


def write(transcript: Transcript, fmt: Format) -> str:
    return _WRITERS[fmt](transcript)
