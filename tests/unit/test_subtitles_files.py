"""Subtitles as files, read back by parsers of other people."""

from __future__ import annotations

import html
import io
import re
from xml.etree import ElementTree

import pytest
import webvtt
from hypothesis import given

from cosygate.model.formats import MEDIA_TYPES, Format, write
from cosygate.model.subtitles import cues
from cosygate.model.subtitles.timing import DASH, Cue
from cosygate.model.transcript import Segment, Transcript, Word
from tests.support.transcripts import spoken, transcript, transcripts

TT = "{http://www.w3.org/ns/ttml}"
TTM = "{http://www.w3.org/ns/ttml#metadata}"
PARAMETER = "{http://www.w3.org/ns/ttml#parameter}"
XML = "{http://www.w3.org/XML/1998/namespace}"

HOSTILE = transcript(
    Segment(0, 0.0, 2.0, "Tom & <Ann>\n\n00:00:09.000 --> 00:00:10.000", speaker="A & <B>\n-->"),
    Segment(1, 5.0, 7.0, "{\\an8}<i>top</i>\x00 NOTE", speaker="C"),
    Segment(2, 9.0, 10.0, " \n "),
)
DIALOGUE = transcript(spoken("Really?", 0.0, 0.4, "A"), spoken("Yes.", 0.5, 0.8, "B"), spoken("Oh no.", 5.0, 6.0, "B"))


def seconds(stamp: str) -> int:
    """In milliseconds."""
    hours, minutes, rest = stamp.split(":")
    return round((int(hours) * 60 + int(minutes)) * 60_000 + float(rest) * 1000)


def shown(cue: Cue) -> list[str]:
    return [DASH * cue.dialogue + line.text for line in cue.lines]


def read_vtt(text: str) -> list[webvtt.Caption]:
    return webvtt.WebVTT.from_string(text, strict=True).captions


def test_srt() -> None:
    assert write(HOSTILE, Format.SRT) == (
        "1\n00:00:00,000 --> 00:00:02,000\nA & ‹B› →: Tom & ‹Ann› 00:00:09.000\n→ 00:00:10.000\n\n"
        "2\n00:00:05,000 --> 00:00:07,000\nC: (\\an8)‹i›top‹/i› NOTE\n"
    )
    assert write(DIALOGUE, Format.SRT) == (
        "1\n00:00:00,000 --> 00:00:02,000\nA: Really?\nB: Yes.\n\n2\n00:00:05,000 --> 00:00:06,000\nOh no.\n"
    )


def test_vtt() -> None:
    assert write(HOSTILE, Format.VTT) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\n"
        "<v A &amp; &lt;B&gt; →>Tom &amp; &lt;Ann&gt; 00:00:09.000 → 00:00:10.000\n\n"
        "00:00:05.000 --> 00:00:07.000\n<v C>{\\an8}&lt;i&gt;top&lt;/i&gt; NOTE\n"
    )
    assert write(DIALOGUE, Format.VTT) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:02.000\n<v A>- Really?</v>\n<v B>- Yes.</v>\n\n"
        "00:00:05.000 --> 00:00:06.000\n<v B>Oh no.\n"
    )


def test_karaoke_tells_the_words_times() -> None:
    words = (Word("one", 1.0, 1.4), Word("two", 1.5, 1.9), Word("three", 2.0, 2.4))
    sung = transcript(Segment(0, 0.8, 3.0, "One & two, three!", words=words), Segment(1, 60.0, 62.0, "Without words."))
    assert write(sung, Format.VTT_KARAOKE) == (
        "WEBVTT\n\n00:00:01.000 --> 00:00:02.400\nOne &amp; <00:00:01.500>two, <00:00:02.000>three!\n\n"
        "00:01:00.000 --> 00:01:02.000\nWithout words.\n"
    )


def test_ttml() -> None:
    root = ElementTree.fromstring(write(HOSTILE, Format.TTML))
    assert root.tag == f"{TT}tt"
    assert root.get(f"{PARAMETER}profile") == "http://www.w3.org/ns/ttml/profile/imsc1/text"
    assert root.get(f"{XML}lang") == "en"
    assert [a.get(f"{XML}id") for a in root.iter(f"{TTM}agent")] == ["speaker1", "speaker2"]
    assert [n.text for n in root.iter(f"{TTM}name")] == ["A & <B> →", "C"]
    first, second = root.iter(f"{TT}p")
    assert [first.get(name) for name in ("begin", "end", f"{TTM}agent")] == ["00:00:00.000", "00:00:02.000", "speaker1"]
    assert "".join(second.itertext()) == "{\\an8}<i>top</i> NOTE"
    [both, alone] = ElementTree.fromstring(write(DIALOGUE, Format.TTML)).iter(f"{TT}p")
    assert [(span.get(f"{TTM}agent"), span.text) for span in both.iter(f"{TT}span")] == [
        ("speaker1", "- Really?"), ("speaker2", "- Yes."),
    ]  # fmt: skip
    assert (both.get(f"{TTM}agent"), alone.get(f"{TTM}agent"), alone.text) == (None, "speaker2", "Oh no.")
    [region] = root.iter(f"{TT}region")
    [body] = root.iter(f"{TT}body")
    [style] = root.iter(f"{TT}style")
    assert body.get("region") == region.get(f"{XML}id") and region.get("style") == style.get(f"{XML}id")


@given(transcripts())
def test_a_parser_reads_the_same_cues_from_srt(told: Transcript) -> None:
    text = write(told, Format.SRT)
    wanted = cues(told, named=True)
    read = webvtt.WebVTT.from_buffer(io.StringIO(text), format="srt").captions if wanted else []
    assert [(seconds(c.start), seconds(c.end)) for c in read] == [(c.start, c.end) for c in wanted]
    alike = str.maketrans("<>{}", "‹›()")
    for caption, cue in zip(read, wanted, strict=True):
        for got, line in zip(caption.lines, cue.lines, strict=True):
            either = [(line.label or DASH) + line.text] if cue.dialogue else [line.label + line.text, line.text]
            assert got in [text.translate(alike) for text in either]
    assert not re.search(r"[<>{}]", text.replace(" --> ", ""))


@given(transcripts())
def test_a_parser_reads_the_same_cues_from_vtt(told: Transcript) -> None:
    wanted = cues(told)
    for fmt in (Format.VTT, Format.VTT_KARAOKE):
        read = read_vtt(write(told, fmt))
        assert [(seconds(c.start), seconds(c.end)) for c in read] == [(c.start, c.end) for c in wanted]
        assert [html.unescape(c.text).split("\n") for c in read] == [shown(c) for c in wanted]
        voices = [html.unescape(c.voice) if c.voice else None for c in read]
        assert voices == [c.lines[0].speaker for c in wanted]
    for caption in read:
        marks = [caption.start, *re.findall(r"<([\d:.]+)>", caption.raw_text), caption.end]
        assert marks == sorted(set(marks))


@given(transcripts())
def test_a_parser_reads_the_same_cues_from_ttml(told: Transcript) -> None:
    root = ElementTree.fromstring(write(told, Format.TTML).encode())
    names = {a.get(f"{XML}id"): n.text for a in root.iter(f"{TTM}agent") for n in a}
    wanted = cues(told)
    read = list(root.iter(f"{TT}p"))
    times = [(seconds(p.get("begin", "")), seconds(p.get("end", ""))) for p in read]
    assert times == [(c.start, c.end) for c in wanted]
    for p, cue in zip(read, wanted, strict=True):
        lines = list(p) if cue.dialogue else [p]
        assert [names.get(e.get(f"{TTM}agent")) for e in lines if e.tag != f"{TT}br"] == (
            [line.speaker for line in cue.lines] if cue.dialogue else [cue.lines[0].speaker]
        )
        assert "".join(p.itertext()) == "".join(shown(cue))


@pytest.mark.parametrize("fmt", [Format.SRT, Format.VTT, Format.VTT_KARAOKE, Format.TTML])
def test_nothing_said_is_a_file_without_cues(fmt: Format) -> None:
    for told in (transcript(), transcript(Segment(0, 0.0, 2.0, " \n"))):
        text = write(told, fmt)
        assert "-->" not in text and "<p" not in text
        if fmt is Format.TTML:
            ElementTree.fromstring(text)
        elif fmt is not Format.SRT:
            assert read_vtt(text) == []


def test_media_types() -> None:
    assert set(MEDIA_TYPES) == set(Format)
    assert MEDIA_TYPES[Format.TTML].startswith("application/ttml+xml")
