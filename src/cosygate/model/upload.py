"""An upload: the act of sending a recording as numbered parts, and the rules on its names and order."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from cosygate import errors

_SESSION_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
MISSING_SHOWN = 100  # how many missing seqs an answer lists


class UploadState(StrEnum):
    OPEN = "open"  # parts may come
    COMPLETE = "complete"  # every part is there and its job exists
    ABORTED = "aborted"  # the client gave it up
    EXPIRED = "expired"  # nobody finished it in time


@dataclass(frozen=True, slots=True)
class UploadLimits:
    chunk_bytes: int = 8 * 1024 * 1024
    recording_bytes: int = 2 * 1024**3
    parts: int = 20_000
    open_per_owner: int = 64
    expires_s: float = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class Upload:
    """One row. `id` names the folder of parts and is never reused; `session_id` is the client's name for it."""

    id: str
    owner: str
    session_id: str
    state: UploadState
    created_at: float  # seconds since the epoch
    expires_at: float  # negated once it is given up
    job_id: str | None = None  # once complete

    @property
    def given_up(self) -> bool:
        """It cannot complete any more, and keeps its session_id only until its parts are erased."""
        return self.expires_at < 0


@dataclass(frozen=True, slots=True)
class LastMark:
    """What the chunk with `is_last` said: the highest seq and the options. Stored beside the parts, so that a crash
    before the job is written loses nothing."""

    last_seq: int
    options: str  # JSON, as TranscribeOptions.to_json writes it


@dataclass(frozen=True, slots=True)
class Listing:
    """What is stored of an upload: seq → bytes of each part, and the last mark. The listing is the truth."""

    parts: Mapping[int, int]
    mark: LastMark | None = None

    @property
    def total_bytes(self) -> int:
        return sum(self.parts.values())

    @property
    def complete(self) -> bool:
        # Seqs are unique and never beyond the mark, so counting is enough.
        return self.mark is not None and len(self.parts) == self.mark.last_seq + 1

    def missing(self) -> tuple[list[int], int]:
        """The first MISSING_SHOWN seqs that are not there below the last (or the highest received), and how many."""
        top = self.mark.last_seq if self.mark else max(self.parts, default=-1)
        count = top + 1 - len(self.parts)
        found: list[int] = []
        seq = 0
        while len(found) < min(count, MISSING_SHOWN):
            if seq not in self.parts:
                found.append(seq)
            seq += 1
        return found, count


def check_session_id(session_id: str) -> str:
    """1-128 of `A-Z a-z 0-9 . _ -`, not starting with a dot. Raises SessionIdInvalid."""
    if not _SESSION_ID.fullmatch(session_id):
        raise errors.SessionIdInvalid("session_id is 1-128 of A-Z a-z 0-9 . _ - and does not start with a dot")
    return session_id


def check_seq(seq: str, limits: UploadLimits) -> int:
    """A plain decimal number from 0. Raises SeqInvalid, TooManyParts."""
    if not (seq.isascii() and seq.isdigit()) or len(seq) > 9:
        raise errors.SeqInvalid("seq is a decimal number from 0")
    if int(seq) >= limits.parts:
        raise errors.TooManyParts(f"seq is below {limits.parts}; use larger chunks", limit=limits.parts)
    return int(seq)
