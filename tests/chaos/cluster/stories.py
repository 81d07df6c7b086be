"""The checker's view of the journal: what each client was told, in order. Of the standard library alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.cluster.journal import Line

ENDS = {"done": "succeeded", "failed": "failed", "cancelled": "cancelled"}  # last event → state
TERMINAL = frozenset(ENDS.values())
DYING_S = 10.0  # from a fault's beginning until its gateway is gone: one that is stopped drains first


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept. `rule` is one of RULES (docs/chaos.md)."""

    rule: str
    about: str  # the client: r… or l…
    detail: str
    lines: tuple[Line, ...] = ()  # of the journal, that show it


@dataclass(slots=True)
class Story:
    """One client's lines."""

    who: str
    lines: list[Line] = field(default_factory=list)
    struck: list[float] = field(default_factory=list)  # when a gateway was killed or stopped; the same list for all

    def of(self, *kinds: str) -> list[Line]:
        return [line for line in self.lines if line.kind in kinds]

    @property
    def asked(self) -> Line:
        return self.of("asked", "live_asked")[0]

    @property
    def principal(self) -> str:
        return str(self.asked.data["principal"])

    @property
    def tenant(self) -> str:
        return self.principal.partition("/")[0]

    def never_there(self, began: Line, told: Line) -> bool:
        """A deletion's first request, and nobody else's, was answered 404. A balancer may pass on a request whose
        gateway died with it, which the client sees as one: then nobody knows."""
        passed_on = any(began.at - DYING_S <= at <= told.at for at in self.struck)
        return told.data["status"] == 404 and told.data["tries"] == 1 and not passed_on

    def tasks(self) -> dict[str, Line]:
        """Every task that it was told of → where first."""
        found: dict[str, Line] = {}
        for line in self.lines:
            task = told_task(line)
            if task:
                found.setdefault(task, line)
        return found


def told_task(line: Line) -> str | None:
    """The task that the line gives a client: by which a recording is acknowledged."""
    if line.kind in ("chunk", "accepted"):
        return line.data.get("task")
    if line.kind in ("listing", "live_done"):
        return line.data.get("task_id")
    return None


def stories(lines: Iterable[Line]) -> dict[str, Story]:
    """Of those that asked for something."""
    found: dict[str, Story] = {}
    struck: list[float] = []
    for line in lines:
        if line.kind == "fault" and line.data["part"].startswith("gateway") and line.data["do"] != "pause":
            struck.append(line.at)
        if line.kind in ("asked", "live_asked"):
            found[line.who] = Story(line.who, struck=struck)
        if line.who in found:
            found[line.who].lines.append(line)
    return found


@dataclass(frozen=True, slots=True)
class Deletion:
    """What a client knows of the task that it gave up."""

    line: Line
    must_be_gone: bool
    must_be_cancelled: bool  # (or, when an unanswered request came after, gone)
    perhaps: bool  # nobody knows how far it came
    missing: bool = False  # it was not there to be deleted

    @classmethod
    def of(cls, story: Story) -> Deletion | None:
        asked = story.of("deleting")
        if not asked:
            return None
        told = story.of("deleted")
        if not told:
            return cls(asked[0], False, False, True)
        if story.never_there(asked[0], told[-1]):
            return cls(told[-1], False, False, True, missing=True)
        status, state = told[-1].data["status"], told[-1].data.get("state")
        cancelled = status == 200 and state == "cancelled"
        gone = status in (204, 404)
        return cls(told[-1], gone, cancelled, cancelled and told[-1].data["tries"] > 1)


def readings(story: Story) -> Iterator[tuple[Line, str, Any]]:
    """(line, state, text) of each time that the client read its task."""
    for line in story.of("result"):
        yield line, line.data["state"], line.data.get("text")
