"""Where a speaker's words are cut into cues and lines: of all ways to cut them the one with the least cost, found by
dynamic programming over the atoms as Knuth and Plass break paragraphs ("Breaking Paragraphs into Lines", 1981), in time
linear in their number: a cue reaches back no further than two lines are wide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from cosygate.model.subtitles.atoms import Atom
from cosygate.model.subtitles.grammar import break_cost
from cosygate.model.subtitles.script import Reading, width

SHORTEST_S, LONGEST_S = 1.0, 7.0
GAP_S = 2 / 24  # two frames

# Costs, in the unit of grammar.py's breaks; those per second or column are for each that is too much or too little.
_CUE = 6.0
_CUT = 2.0  # how much worse a break between cues is than one between lines
_SENTENCE_INSIDE = 2.0
_PAUSE, _PAUSE_FREE_S = 12.0, 0.3
_TOO_LONG, _TOO_SHORT, _TOO_FAST = 40.0, 30.0, 3.0
_FEW, _FEW_COLUMNS = 1.5, 12
_UNEVEN, _TOP_HEAVY = 10.0, 6.0
_ORPHAN, _SHORT_LINE = 25.0, 6  # columns


@dataclass(frozen=True, slots=True)
class Run:
    """What one speaker says without a long pause."""

    atoms: Sequence[Atom]
    reading: Reading
    until: float  # seconds: when what is said next begins
    label: str  # each cue's first line keeps room for it


@dataclass(frozen=True, slots=True)
class _Measured:
    """Of a run of n atoms."""

    breaks: list[float]  # n + 1: cost of a break before an atom
    inside: list[float]  # n + 1: what pauses and ends of sentences before it cost the cues that hold them, added up
    begins: list[int]  # n: columns before it, a space included
    ends: list[int]  # n + 1: columns to the end of the one before
    columns: int
    first_columns: int  # behind the label


def cut(run: Run) -> list[tuple[int, int, int]]:
    """(first, second line's first, behind the last) atom of each cue; the second is the first's where there is one
    line. Every atom must fit a line behind the label."""
    measured, speed = _measured(run), run.reading.speed
    begins, ends, inside = measured.begins, measured.ends, measured.inside
    starts = [*(a.start for a in run.atoms), max(run.until, run.atoms[-1].end)]
    n = len(run.atoms)
    best = [0.0] + [float("inf")] * n
    came = [(0, 0)] * (n + 1)
    for b in range(1, n + 1):
        cut_cost = _CUE + (_CUT * measured.breaks[b] if b < n else 0.0)
        end, stop, least = run.atoms[b - 1].end, starts[b] - GAP_S, best[b]
        for a in range(b - 1, -1, -1):
            used = ends[b] - begins[a]
            if used > measured.columns + measured.first_columns + 1:
                break
            cost = best[a] + cut_cost + inside[b] - inside[a + 1]
            if cost >= least:
                continue
            start = starts[a]
            if end - start > LONGEST_S:
                cost += _TOO_LONG * (end - start - LONGEST_S)
            shown = stop - start
            if shown < SHORTEST_S:
                cost += _TOO_SHORT * (SHORTEST_S - shown)
            if used > speed * shown:
                cost += _TOO_FAST * (used / speed - shown)
            if used < _FEW_COLUMNS:
                cost += _FEW * (_FEW_COLUMNS - used)
            second = a
            if used > measured.first_columns:
                more, second = _two_lines(measured, a, b, least - cost)
                cost += more
            if cost < least:
                least, came[b] = cost, (a, second)
        best[b] = least
    found = []
    while n:
        a, second = came[n]
        found.append((a, second, n))
        n = a
    return found[::-1]


def _measured(run: Run) -> _Measured:
    atoms, limits = run.atoms, run.reading
    between = [break_cost(a.text, b.text, b.spaced, b.language) for a, b in pairwise(atoms)]
    costs = (
        _PAUSE * max(0.0, b.start - a.end - _PAUSE_FREE_S) + (0.0 if cost else _SENTENCE_INSIDE)
        for (a, b), cost in zip(pairwise(atoms), between, strict=True)
    )
    ends = [0, *accumulate(a.spaced + a.width for a in atoms)]
    return _Measured(
        breaks=[0.0, *between, 0.0],
        inside=[0.0, 0.0, *accumulate(costs)],
        begins=[at + a.spaced for at, a in zip(ends, atoms, strict=False)],
        ends=ends,
        columns=limits.columns,
        first_columns=limits.columns - width(run.label, limits.wide),
    )


def _two_lines(run: _Measured, a: int, b: int, least: float) -> tuple[float, int]:
    """The cost of the best second line's start, and it; infinite where atoms a to b fit no two lines for less than
    `least`."""
    where, begin, end = a, run.begins[a], run.ends[b]
    for m in range(b - 1, a, -1):
        below = end - run.begins[m]
        if below > run.columns:
            break
        above = run.ends[m] - begin
        if above > run.first_columns or run.breaks[m] >= least:
            continue
        cost = run.breaks[m] + _UNEVEN * abs(above - below) / run.columns
        if above > below:
            cost += _TOP_HEAVY * (above - below) / run.columns
        if below < _SHORT_LINE or above < _SHORT_LINE:
            cost += _ORPHAN
        if cost < least:
            least, where = cost, m
    return least if where > a else float("inf"), where
