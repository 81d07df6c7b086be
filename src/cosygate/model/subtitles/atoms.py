"""A segment as atoms: the bits of text that are never torn, each with its time. Where the recogniser told words, their
times hold; between those, and where it told none, time passes in proportion to letters."""

from __future__ import annotations

from dataclasses import dataclass

from cosygate.model.subtitles.script import Reading, clean, pieces, reading, width
from cosygate.model.transcript import Segment

_SEEK = 24  # letters that words and text may differ by ("twenty five" and "25") before a word is given up


@dataclass(slots=True)
class Atom:
    text: str
    width: int  # columns
    spaced: bool  # a space stands before it
    start: float  # seconds
    end: float
    told: bool  # its start is that of a word from the recogniser
    speaker: str | None
    language: str | None


def atoms_of(segment: Segment, language: str | None) -> tuple[Reading, list[Atom]]:
    """`language`: of the transcript, where the segment has none of its own. No atoms when there is no text."""
    language = segment.language or language
    text, speaker = clean(segment.text), _known(segment.speaker)
    limits = reading(text, language)
    atoms: list[Atom] = []
    spans: list[tuple[int, int]] = []  # each atom's letters
    letters: list[str] = []
    count = 0
    for token in text.split():
        spaced = True
        for piece in pieces(token, limits.columns // 2, limits.wide):
            kept = _letters(piece)
            spans.append((count, count + len(kept)))
            letters.append(kept)
            count += len(kept)
            columns = width(piece, limits.wide)
            atoms.append(Atom(piece, columns, spaced, 0.0, 0.0, False, speaker, language))
            spaced = False
    _time(segment, atoms, spans, "".join(letters))
    return limits, atoms


def _known(speaker: str | None) -> str | None:
    return clean(speaker or "") or None


def _letters(text: str) -> str:
    """What words and text are compared by."""
    return text.lower() if text.isalnum() else "".join(filter(str.isalnum, text.lower()))


def _time(segment: Segment, atoms: list[Atom], spans: list[tuple[int, int]], letters: str) -> None:
    start = max(0.0, segment.start)
    last = max(start, segment.end)
    anchors = [(0, start)]  # letters before it, seconds; both never fall
    speakers: list[tuple[int, str | None]] = []  # from that letter on
    starts = {low for low, high in spans if low < high}
    told: set[int] = set()
    at = 0
    for word in segment.words:
        kept = _letters(word.text)
        found = letters.find(kept, at, at + len(kept) + _SEEK) if kept else -1
        if found < 0 or (found > at and found not in starts):
            continue
        begin = min(max(anchors[-1][1], word.start), last)
        at = found + len(kept)
        anchors += [(found, begin), (at, min(max(begin, word.end), last))]
        told.add(found)
        speakers.append((found, _known(word.speaker) or _known(segment.speaker)))
    anchors.append((len(letters), last))

    n = spoken = 0
    for atom, (low, high) in zip(atoms, spans, strict=True):
        while n + 1 < len(anchors) and anchors[n + 1][0] < low:
            n += 1
        atom.start = _between(anchors, n, low) if low < high else _until(anchors, n, low)
        atom.end = max(atom.start, _until(anchors, n, high))
        atom.told = low in told and low < high  # what has no letters belongs to the word before
        while spoken + 1 < len(speakers) and speakers[spoken + 1][0] < high:
            spoken += 1
        if speakers:
            atom.speaker = speakers[spoken][1]


def _between(anchors: list[tuple[int, float]], n: int, letter: int) -> float:
    """When a letter begins: after a pause that stands before it."""
    while n + 1 < len(anchors) and anchors[n + 1][0] <= letter:
        n += 1
    return _line(anchors, n, letter)


def _until(anchors: list[tuple[int, float]], n: int, letter: int) -> float:
    """When what is before a letter ends: before such a pause."""
    while anchors[n][0] < letter and anchors[n + 1][0] < letter:
        n += 1
    return anchors[n][1] if anchors[n][0] >= letter else _line(anchors, n, letter)


def _line(anchors: list[tuple[int, float]], n: int, letter: int) -> float:
    low, begin = anchors[n]
    if n + 1 == len(anchors) or anchors[n + 1][0] == low:
        return begin
    high, end = anchors[n + 1]
    return begin + (end - begin) * (letter - low) / (high - low)
