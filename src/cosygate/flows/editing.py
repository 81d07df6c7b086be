"""Chapter three, continued: a task's owner reads its transcript, and corrects it. Every save is a version beside those
before; the recogniser's own stays. Two who edit at the same time do not overwrite each other: the later one is told.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from cosygate import errors
from cosygate.flows.tasks import Tasks
from cosygate.kit.clock import Clock
from cosygate.kit.lines import Full, Lines
from cosygate.kit.logs import logger
from cosygate.model.editing import FIRST, Changes, Version, changes_dict, check_size, replayed, revised
from cosygate.model.formats import Format, write
from cosygate.model.job import Job
from cosygate.model.principal import Principal
from cosygate.model.transcript import Transcript, transcript_from_dict
from cosygate.ports.versions import Versions

T = TypeVar("T")
_log = logger()
_NEWEST = 1 << 30  # no version has such a number


class Editing:
    def __init__(self, *, tasks: Tasks, versions: Versions, lines: Lines, clock: Clock) -> None:
        """`lines`: where transcripts are made and written; twelve hours of speech take seconds."""
        self._tasks = tasks
        self._versions = versions
        self._lines = lines
        self._clock = clock

    async def written(self, caller: Principal, task_id: str, fmt: Format, number: int | None = None) -> str:
        """Version `number`, None: the newest. Raises TaskNotFound, TaskUnfinished, VersionNotFound, Unavailable."""
        job = await self._tasks.finished(caller, task_id)
        changes = await self._changes(task_id, number)
        return await self._in_line(caller, job, lambda data: write(_made(data, changes)[1], fmt))

    async def versions(self, caller: Principal, task_id: str) -> list[Version]:
        """All of them, oldest first. Raises TaskNotFound, TaskUnfinished."""
        job = await self._tasks.finished(caller, task_id)
        return [Version(FIRST, job.finished_at or job.created_at), *await self._versions.all(task_id)]

    async def save(self, caller: Principal, task_id: str, base: int, changes: Changes) -> Version:
        """A new version: `base`, which has to be the newest one, with `changes`. Durable on return. Raises
        TaskNotFound, TaskUnfinished, VersionNotFound, VersionConflict, TooManyVersions, Invalid, TooLarge,
        Unavailable."""
        job = await self._tasks.finished(caller, task_id)
        before = await self._changes(task_id, None)
        if (newest := len(before) + FIRST) < base:
            raise errors.VersionNotFound()
        if newest > base:
            raise errors.VersionConflict(version=newest)
        if changes.restores is not None and not FIRST <= changes.restores < base:
            raise errors.Invalid("what is restored is a version before this one")
        size = await self._in_line(caller, job, lambda data: _checked(data, before, changes))
        version = Version(base + 1, self._clock.now(), caller.subject, changes.restores)
        await self._versions.add(task_id, version, changes, size)
        _log.info("transcript.edited", task_id=task_id, version=version.number)
        return version

    async def _changes(self, task_id: str, number: int | None) -> list[Changes]:
        """Of the versions up to `number`. Raises VersionNotFound."""
        if number == FIRST:
            return []
        changes = await self._versions.changes(task_id, _NEWEST if number is None else number)
        if number is not None and len(changes) + FIRST != number:
            raise errors.VersionNotFound()
        return changes

    async def _in_line(self, caller: Principal, job: Job, work: Callable[[bytes], T]) -> T:
        """`work` of what the recogniser told."""

        async def prepare() -> Callable[[], T]:
            return partial(work, await self._tasks.stored_transcript(job))

        try:
            return await self._lines.run(caller.owner, prepare)
        except Full:
            raise errors.Unavailable("too many transcripts wait to be written") from None


def _made(data: bytes, changes: Sequence[Changes]) -> tuple[Transcript, Transcript]:
    """The recogniser's, and the version that `changes` lead to."""
    first = transcript_from_dict(json.loads(data))
    return first, replayed(first, changes) if changes else first


def _checked(data: bytes, before: Sequence[Changes], changes: Changes) -> int:
    """How many bytes of `changes` are kept; what cannot be kept is refused now, not when it is read."""
    if changes.restores is None:
        first, base = _made(data, before)
        after = revised(base, changes)
        if after.segments == base.segments:
            raise errors.Invalid("nothing is corrected: it is so already")
        check_size(first, after)
    return len(json.dumps(changes_dict(changes), ensure_ascii=False).encode())
