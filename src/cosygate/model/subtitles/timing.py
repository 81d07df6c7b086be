"""Cues on the screen: one at a time, each long enough to be read where what follows leaves the time, none before what
it shows is said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from math import ceil

from cosygate.model.subtitles.atoms import Atom, atoms_of
from cosygate.model.subtitles.cutting import GAP_S, LONGEST_S, SHORTEST_S, Run, cut
from cosygate.model.subtitles.script import ALPHABETIC, Reading, width
from cosygate.model.transcript import Transcript, join_texts

_RUN_PAUSE_S = 2.0  # after a longer silence the same speaker begins anew
_CLOSED = 500  # milliseconds: a shorter gap between cues flickers, so the first stays until two frames before the next
DASH = "- "


@dataclass(frozen=True, slots=True)
class Line:
    """Of one speaker."""

    speaker: str | None
    label: str  # `Name: `, where a format shows it
    atoms: Sequence[Atom]

    @property
    def text(self) -> str:
        first, *others = self.atoms
        return first.text + "".join(f" {a.text}" if a.spaced else a.text for a in others)


@dataclass(frozen=True, slots=True)
class Cue:
    """One or two lines, of one speaker, or one line each of two."""

    start: int  # milliseconds from the recording's start
    end: int
    lines: tuple[Line, ...]

    @property
    def dialogue(self) -> bool:
        return self.lines[0].speaker != self.lines[-1].speaker


@dataclass(slots=True)
class _Draft:
    lines: tuple[Line, ...]
    limits: Reading
    start: float  # seconds: when it is said
    end: float
    needs: float  # seconds that reading it takes


def cues(transcript: Transcript, named: bool = False) -> list[Cue]:
    """In the order in which what they show begins to be said, none overlapping another. Each stays for 1 to 7 s, and
    its lines fit the limit of their script, with `named` behind a label with their speaker's name."""
    drafts = [draft for run in _runs(transcript, named) for draft in _drafts(run)]
    drafts.sort(key=lambda draft: draft.start)
    return list(_timed(list(_dialogues(drafts))))


def _label(name: str | None, limits: Reading) -> str:
    """`Name: `, shortened to half a line; empty when nobody knows it."""
    if not name:
        return ""
    room = limits.columns // 2 - len(": ")
    if width(name, limits.wide) > room:
        name = name[:room]
        while width(f"{name}…", limits.wide) > room:
            name = name[:-1]
        name = f"{name.rstrip()}…"
    return f"{name}: "


def _runs(transcript: Transcript, named: bool) -> Iterator[Run]:
    atoms: list[Atom] = []
    limits, channel = ALPHABETIC, None
    for segment in transcript.segments:
        its, more = atoms_of(segment, transcript.language)
        for n, atom in enumerate(more):
            if atoms:
                last = atoms[-1]
                apart = (limits, channel, last.speaker) != (its, segment.channel, atom.speaker)
                if apart or atom.start > last.end + _RUN_PAUSE_S:
                    yield _run(atoms, limits, atom.start, named)
                    atoms = []
                else:
                    atom.start, atom.end = max(atom.start, last.start), max(atom.end, last.end)
                    atom.spaced = atom.spaced and (n > 0 or " " in join_texts((last.text, atom.text)))
            atoms.append(atom)
            limits, channel = its, segment.channel
    if atoms:
        yield _run(atoms, limits, float("inf"), named)


def _run(atoms: list[Atom], limits: Reading, until: float, named: bool) -> Run:
    return Run(atoms, limits, until, _label(atoms[0].speaker, limits) if named else "")


def _drafts(run: Run) -> Iterator[_Draft]:
    atoms, limits = run.atoms, run.reading
    for first, second, end in cut(run):
        lines = [Line(atoms[a].speaker, run.label, atoms[a:b]) for a, b in ((first, second), (second, end)) if a < b]
        needs = min(LONGEST_S, max(SHORTEST_S, sum(_columns(line, limits) for line in lines) / limits.speed))
        yield _Draft(tuple(lines), limits, atoms[first].start, atoms[end - 1].end, needs)


def _columns(line: Line, limits: Reading) -> int:
    return width(line.text, limits.wide)


def _dialogues(drafts: list[_Draft]) -> Iterator[_Draft]:
    """Two speakers share a cue, a line each, when the first would have to leave before it can be read."""
    held: _Draft | None = None
    for draft in drafts:
        if held is not None:
            if both := _dialogue(held, draft):
                yield both
                held = None
                continue
            yield held
        held = draft
    if held is not None:
        yield held


def _dialogue(a: _Draft, b: _Draft) -> _Draft | None:
    if len(a.lines) + len(b.lines) > 2 or a.limits != b.limits or a.lines[0].speaker == b.lines[0].speaker:
        return None
    if b.start >= a.start + a.needs + GAP_S or b.end - a.start > LONGEST_S:
        return None
    lines = (*a.lines, *b.lines)
    if any(width(line.label or DASH, a.limits.wide) + _columns(line, a.limits) > a.limits.columns for line in lines):
        return None
    return _Draft(lines, a.limits, a.start, max(a.end, b.end), min(LONGEST_S, a.needs + b.needs))


def _timed(drafts: list[_Draft]) -> Iterator[Cue]:
    free = 0  # milliseconds: when the screen is
    for draft, after in zip_longest(drafts, drafts[1:]):
        start = max(_millis(draft.start), free)
        stop = max(_millis(draft.end), start + _millis(draft.needs))
        if after:
            room = _millis(after.start) - _GAP
            stop = room if room - stop < _CLOSED else stop
        stop = min(max(stop, start + _SHORTEST), start + _LONGEST)
        yield Cue(start, stop, draft.lines)
        free = stop + _GAP


def _millis(seconds: float) -> int:
    return round(seconds * 1000)


_GAP, _SHORTEST, _LONGEST = ceil(GAP_S * 1000), _millis(SHORTEST_S), _millis(LONGEST_S)
