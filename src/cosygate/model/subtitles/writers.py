"""Cues as files. What is spoken never becomes markup: each format escapes it, or, where it knows no escape, shows
characters that look alike."""

from __future__ import annotations

import html

from cosygate.model.subtitles.script import clean
from cosygate.model.subtitles.timing import DASH, Cue, Line, cues
from cosygate.model.transcript import Transcript


def _stamp(millis: int, mark: str = ".") -> str:
    """`hh:mm:ss` + mark + milliseconds."""
    seconds, millis = divmod(millis, 1000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}{mark}{millis:03d}"


# SubRip has no escapes: players take these for tags and positions.
_ALIKE = str.maketrans({"<": "‹", ">": "›", "{": "(", "}": ")"})


def srt(transcript: Transcript) -> str:
    """SubRip as players read it: a counter from 1, comma before the milliseconds, CRLF-free. A speaker is named where
    another one spoke before, and on both lines of a dialogue."""
    blocks: list[str] = []
    shown: str | None = None
    for number, cue in enumerate(cues(transcript, named=True), start=1):
        lines = []
        for n, line in enumerate(cue.lines):
            name = line.label if cue.dialogue or (n == 0 and line.speaker != shown) else ""
            lines.append((name or (DASH if cue.dialogue else "")) + line.text)
            shown = line.speaker
        text = "\n".join(lines).translate(_ALIKE)
        blocks.append(f"{number}\n{_stamp(cue.start, ',')} --> {_stamp(cue.end, ',')}\n{text}\n")
    return "\n".join(blocks)


def vtt(transcript: Transcript) -> str:
    """WebVTT (W3C, https://www.w3.org/TR/webvtt1/): `&`, `<` and `>` are escaped, speakers become voices."""
    return _vtt(transcript, karaoke=False)


def karaoke(transcript: Transcript) -> str:
    """WebVTT with a time before each word whose time the recogniser told, so that a player shows how far the speech is.
    Cues without such words are as in `vtt`."""
    return _vtt(transcript, karaoke=True)


def _vtt(transcript: Transcript, karaoke: bool) -> str:
    blocks = ["WEBVTT\n"]
    for cue in cues(transcript):
        lines = []
        reached = cue.start
        for line in cue.lines:
            text = ""
            for atom in line.atoms:
                at = round(atom.start * 1000)
                stamp = ""
                if karaoke and atom.told and reached < at < cue.end:  # they must rise, and lie inside the cue
                    reached, stamp = at, f"<{_stamp(at)}>"
                text += f"{' ' if atom.spaced and text else ''}{stamp}{_escaped(atom.text)}"
            lines.append(text)
        blocks.append(f"{_stamp(cue.start)} --> {_stamp(cue.end)}\n{_voices(cue, lines)}\n")
    return "\n".join(blocks)


def _voices(cue: Cue, lines: list[str]) -> str:
    if cue.dialogue:
        pairs = zip(cue.lines, lines, strict=True)
        return "\n".join(f"{_voice(line)}{DASH}{text}{'</v>' if _voice(line) else ''}" for line, text in pairs)
    return _voice(cue.lines[0]) + "\n".join(lines)


def _voice(line: Line) -> str:
    return f"<v {_escaped(line.speaker)}>" if line.speaker else ""


def _escaped(text: str) -> str:
    return html.escape(text, quote=False)


def ttml(transcript: Transcript) -> str:
    """TTML of the text profile IMSC 1.0.1 (W3C, https://www.w3.org/TR/ttml-imsc1.0.1/): white with a dark outline, at
    the bottom; speakers are `ttm:agent`s."""
    shown = cues(transcript)
    names = dict.fromkeys(line.speaker for cue in shown for line in cue.lines if line.speaker)
    speakers = {name: f"speaker{n}" for n, name in enumerate(names, start=1)}

    def agent(line: Line) -> str:
        return f' ttm:agent="{speakers[line.speaker]}"' if line.speaker else ""

    def paragraph(cue: Cue) -> str:
        if cue.dialogue:
            body = "<br/>".join(f"<span{agent(line)}>{DASH}{_escaped(line.text)}</span>" for line in cue.lines)
        else:
            body = "<br/>".join(_escaped(line.text) for line in cue.lines)
        who = "" if cue.dialogue else agent(cue.lines[0])
        return f'      <p begin="{_stamp(cue.start)}" end="{_stamp(cue.end)}"{who}>{body}</p>\n'

    agents = "".join(
        f'      <ttm:agent xml:id="{at}" type="other"><ttm:name type="alias">{_escaped(name)}</ttm:name></ttm:agent>\n'
        for name, at in speakers.items()
    )
    return _TTML.format(
        language=html.escape(clean(transcript.language or "")),
        metadata=f"    <metadata>\n{agents}    </metadata>\n" if agents else "",
        cues="".join(map(paragraph, shown)),
    )


_TTML = """<?xml version="1.0" encoding="UTF-8"?>
<tt xmlns="http://www.w3.org/ns/ttml" xmlns:ttm="http://www.w3.org/ns/ttml#metadata"
    xmlns:ttp="http://www.w3.org/ns/ttml#parameter" xmlns:tts="http://www.w3.org/ns/ttml#styling"
    ttp:profile="http://www.w3.org/ns/ttml/profile/imsc1/text" ttp:timeBase="media" xml:lang="{language}">
  <head>
{metadata}    <styling>
      <style xml:id="bright" tts:color="white" tts:textOutline="black 5%" tts:textAlign="center"/>
    </styling>
    <layout>
      <region xml:id="bottom" style="bright" tts:origin="5% 75%" tts:extent="90% 20%" tts:displayAlign="after"/>
    </layout>
  </head>
  <body region="bottom">
    <div>
{cues}    </div>
  </body>
</tt>
"""
