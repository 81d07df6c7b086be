"""The state of a live session, as a pure machine: what has arrived, what was decided, what comes next.

    received ──► the next index that is expected; grows by frames and gaps
    restart  ──► the last restart point; grows by finals and decisions
    marks    ──► samples where the client asked for an end of utterance, or lost audio: restart points to be

Everything that changes it is an event in the journal or audio beside it, so whoever claims a session rebuilds the same
state: `apply` takes the events in their order, `snapshot` is what a compaction leaves of them.
"""

from __future__ import annotations

import re
from bisect import insort
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cosygate import errors

MARKS_MAX = 1000  # that are not decided yet
GAPS_MAX = 100
LABELS_MAX = 1_000_000  # speakers: nobody is that many people
_LABEL = re.compile(r"S([1-9][0-9]{0,6})")


@dataclass(slots=True)
class Timeline:
    """Indexes count samples, or bytes when a session counts bytes: then there are no marks and gaps, and `restart` and
    the finals count samples of the decoded sound all the same."""

    received: int = 0
    restart: int = 0
    finals: int = 0  # how many there are; the next one's id
    speakers: int = 0  # the highest number of a speaker's label (S1, S2, …) that a final has had
    last_end: int = 0  # sample where the last final ended
    marks: list[int] = field(default_factory=list)  # of finalize, beyond `restart`, rising
    gaps: list[tuple[int, int]] = field(default_factory=list)  # [from, to), ending beyond `restart`, rising
    ended: int | None = None  # how many there are in all, once that is known
    closed: bool = False  # the server ended it: what its client still says comes too late, and is no fault

    # --- what the client says ----------------------------------------------------------------------------------------

    def frame(self, index: int, count: int) -> int:
        """How many of a frame's first samples are known already (all: `count`). Raises LiveGap when some are missing
        before it, LiveProtocol after the end."""
        if self.closed:
            return count
        if index > self.received:
            raise errors.LiveGap(f"audio from {self.received} on is missing", expected=self.received)
        new = index + count - self.received
        if new <= 0:
            return count
        if self.ended is not None:
            raise errors.LiveProtocol("there is audio after the end")
        return count - new

    def finalize(self, at: int | None, fed: int) -> int | None:
        """Where the mark belongs; None when it is there already, or decided long since. One that comes late (the engine
        has been `fed` the sound behind it) marks what has arrived. Raises LiveGap when the audio before it has not."""
        at = self.received if at is None else at
        if self.closed:
            return None
        if at > self.received:
            raise errors.LiveGap(f"audio from {self.received} on is missing", expected=self.received)
        if at <= self.restart or at in self.marks:
            return None
        if len(self.marks) >= MARKS_MAX:
            raise errors.LiveProtocol("too many ends of utterances wait for the engine")
        at = at if at >= fed else self.received
        return None if at in self.marks else at

    def gap(self, start: int, end: int, longest: int) -> tuple[int, int] | None:
        """The part of a told gap that is not known already. Raises LiveGap when it begins later than what has arrived,
        LiveProtocol when it is longer than `longest`, or after the end."""
        if self.closed or end <= self.received:
            return None
        if start > self.received:
            raise errors.LiveGap(f"audio from {self.received} on is missing", expected=self.received)
        if len(self.gaps) >= GAPS_MAX:
            raise errors.LiveProtocol("too many gaps wait for the engine")
        if self.ended is not None:
            raise errors.LiveProtocol("there is audio after the end")
        if end - self.received > longest:
            raise errors.LiveProtocol("the gap is longer than a session may be away")
        return self.received, end

    def end(self, samples: int) -> bool:
        """Whether the end is news. Raises LiveGap when audio before it has not arrived, LiveProtocol when more has."""
        if self.ended == samples or self.closed:
            return False
        if samples > self.received:
            raise errors.LiveGap(f"audio from {self.received} on is missing", expected=self.received)
        if samples < self.received or self.ended is not None:
            raise errors.LiveProtocol(f"{self.ended or self.received} samples have arrived")
        return True

    # --- what the engine says ----------------------------------------------------------------------------------------

    def accepts(self, start: int, end: int) -> bool:
        """Whether a final is new: a replay gives those before the restart point again, if it gives them at all."""
        return start >= self.last_end and end > self.restart

    def known_to_client(self, finals: int) -> None:
        """A client has so many. Of those that were lost with the journal nobody here knows the labels: each may have
        brought one, and none of these may name somebody else."""
        if finals > self.finals:
            self.speakers = max(self.speakers, min(finals, LABELS_MAX))

    # --- events ------------------------------------------------------------------------------------------------------

    def apply(self, event: Mapping[str, Any]) -> None:
        """One event, as the journal keeps it; others than these change nothing."""
        match event["type"]:
            case "final":
                self.finals = event["id"] + 1
                self.speakers = max(self.speakers, label_number(event))
                self.last_end = event["end_sample"]
                self.decide(event["end_sample"])
            case "decided":
                self.decide(event["sample"])
            case "finalize":
                insort(self.marks, event["samples"])
            case "gap":
                self.gaps.append((event["from"], event["to"]))
                self.received = max(self.received, event["to"])
            case "end":
                self.ended = event["samples"]
                self.closed = bool(event.get("closed"))

    def decide(self, sample: int) -> None:
        """A restart point. Never goes back."""
        self.restart = max(self.restart, sample)
        while self.marks and self.marks[0] <= self.restart:
            del self.marks[0]
        while self.gaps and self.gaps[0][1] <= self.restart:
            del self.gaps[0]

    def next_break(self, after: int) -> tuple[int, int | None] | None:
        """The first place where an utterance has to end: (it, None) for a mark beyond `after`, (it, the sample behind
        the gap) for a gap at or beyond it."""
        mark = next((m for m in self.marks if m > after), None)
        gap = next((g for g in self.gaps if g[0] >= after), None)
        if gap is not None and (mark is None or gap[0] <= mark):
            return gap
        return None if mark is None else (mark, None)

    def gap_at_restart(self) -> int | None:
        """The sample behind the gap that the restart point lies in, or before: nothing is there to be heard."""
        return next((end for start, end in self.gaps if start <= self.restart), None)

    # --- compaction --------------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        return {
            "type": "snapshot",
            "restart": self.restart,
            "finals": self.finals,
            "speakers": self.speakers,
            "last_end": self.last_end,
            "marks": list(self.marks),
            "gaps": [list(g) for g in self.gaps],
            "ended": self.ended,
            "received": self.received,
            "closed": self.closed,
        }

    @classmethod
    def restored(cls, snapshot: Mapping[str, Any]) -> Timeline:
        return cls(
            received=snapshot["received"],
            restart=snapshot["restart"],
            finals=snapshot["finals"],
            speakers=snapshot.get("speakers", 0),  # none in those of versions before
            last_end=snapshot["last_end"],
            marks=list(snapshot["marks"]),
            gaps=[(g[0], g[1]) for g in snapshot["gaps"]],
            ended=snapshot["ended"],
            closed=snapshot["closed"],
        )


def label_number(final: Mapping[str, Any]) -> int:
    """Of its speaker's label; 0 when it has none, or one that engines do not count."""
    counted = _LABEL.fullmatch(str(final.get("speaker", "")))
    return min(int(counted[1]), LABELS_MAX) if counted else 0
