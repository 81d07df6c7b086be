"""What users have corrected in transcripts. SQL is the truth, beside the job; it goes with the job.

Every method is one transaction, as in ports/records.py, and raises DatabaseBusy when it cannot be had.
"""

from __future__ import annotations

from typing import Protocol

from cosygate.model.editing import Changes, Version


class Versions(Protocol):
    async def all(self, job_id: str) -> list[Version]:
        """Those that were edited, oldest first: numbers 2, 3, …; empty when there is none."""

    async def changes(self, job_id: str, upto: int) -> list[Changes]:
        """Of versions 2 to `upto`, in order; fewer when there are not so many."""

    async def add(self, job_id: str, version: Version, changes: Changes, size: int) -> None:
        """Writes `version`, whose number is the newest plus one; `size`: bytes of its changes. Raises VersionConflict
        when it is not, TooManyVersions (MOST_VERSIONS, MOST_BYTES), TaskNotFound when the job is gone."""
