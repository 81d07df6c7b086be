"""Errors of transcripts that are edited."""

from __future__ import annotations

from cosygate.errors.families import Conflict, NotFound


class VersionNotFound(NotFound):
    code, title = "version_not_found", "The transcript has no such version"


class VersionConflict(Conflict):
    """`version`: the newest one."""

    code, title = "version_conflict", "Somebody has saved a newer version of the transcript"


class TooManyVersions(Conflict):
    code, title = "too_many_versions", "The transcript has as many versions, or changes, as are kept"
