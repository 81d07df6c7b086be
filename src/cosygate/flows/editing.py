"""Chapter three, continued: a task's owner corrects its transcript. Every save is a version beside those before; the
recogniser's own stays. Two who edit at the same time do not overwrite each other: the later one is told."""

from __future__ import annotations

import asyncio
import json

from cosygate import errors
from cosygate.flows.tasks import Tasks
from cosygate.kit.clock import Clock
from cosygate.kit.logs import logger
from cosygate.model.editing import FIRST, Changes, Version, changes_dict, replayed, revised
from cosygate.model.principal import Principal
from cosygate.model.transcript import Transcript
from cosygate.ports.versions import Versions

_log = logger()
NEWEST = 1 << 30  # no version has such a number


class Editing:
    def __init__(self, *, tasks: Tasks, versions: Versions, clock: Clock) -> None:
        self._tasks = tasks
        self._versions = versions
        self._clock = clock

    async def transcript(self, caller: Principal, task_id: str, number: int | None = None) -> Transcript:
        """Version `number`, None: the newest. Raises TaskNotFound, TaskUnfinished, VersionNotFound."""
        first = await self._tasks.transcript(caller, task_id)
        if number == FIRST:
            return first
        changes = await self._versions.changes(task_id, NEWEST if number is None else number)
        if number is not None and len(changes) + FIRST != number:
            raise errors.VersionNotFound()
        return await asyncio.to_thread(replayed, first, changes) if changes else first

    async def versions(self, caller: Principal, task_id: str) -> list[Version]:
        """All of them, oldest first. Raises TaskNotFound, TaskUnfinished."""
        job = await self._tasks.finished(caller, task_id)
        return [Version(FIRST, job.finished_at or job.created_at), *await self._versions.all(task_id)]

    async def save(self, caller: Principal, task_id: str, base: int, changes: Changes) -> Version:
        """A new version: `base`, which has to be the newest one, with `changes`. Durable on return. Raises
        TaskNotFound, TaskUnfinished, VersionNotFound, VersionConflict, TooManyVersions, Invalid."""
        before = await self.transcript(caller, task_id, base)
        if changes.restores is None:
            await asyncio.to_thread(revised, before, changes)  # refused now, not when it is read
        elif not FIRST <= changes.restores < base:
            raise errors.Invalid("what is restored is a version before this one")
        size = len(json.dumps(changes_dict(changes), ensure_ascii=False).encode())
        version = Version(base + 1, self._clock.now(), caller.subject, changes.restores)
        await self._versions.add(task_id, version, changes, size)
        _log.info("transcript.edited", task_id=task_id, version=version.number)
        return version
