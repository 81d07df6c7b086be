"""A live session: one stream of speech over any number of connections, and the rules on what may arrive.

Positions count samples of the incoming rate (bytes, for webm): *index*. A *restart point* is a sample before which
everything is decided (a final, or silence), and where the engine's detector begins afresh, in every run: whoever
continues from one hears the same words (docs/live.md, "Why a replay gives the same words").
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class LiveState(StrEnum):
    OPEN = "open"  # audio may come, or the window runs
    FINISHED = "finished"  # it is a task


class LiveFormat(StrEnum):
    S16LE = "s16le"
    MULAW = "mulaw"  # ITU-T G.711, decoded at the door: stored as s16le
    ALAW = "alaw"
    WEBM_OPUS = "webm-opus"  # stored as it came; positions count bytes

    @property
    def counts_bytes(self) -> bool:
        return self is LiveFormat.WEBM_OPUS

    @property
    def stored_bytes(self) -> int:
        """Of one index, as it is stored."""
        return 1 if self.counts_bytes else 2


@dataclass(frozen=True, slots=True)
class SafeMark:
    """What SQL and the blob store hold of a session: the journal may be lost and nothing is."""

    safe: int = 0  # index: everything before is decided and kept; clients may forget it
    restart: int = 0  # sample (at the rate the engine hears): the last restart point
    kept: int = 0  # bytes of audio stored as parts of the recording
    finals: int = 0  # how many finals are stored


@dataclass(frozen=True, slots=True)
class LiveSession:
    """One row. Its id is also the id of its upload and of the task that it becomes."""

    id: str  # 32 lower-case hex digits
    owner: str
    token_hash: str  # SHA-256 (hex) of the resume token
    format: LiveFormat
    rate: int  # samples per second
    options: str  # JSON of TranscribeOptions
    trace_id: str
    created_at: float  # seconds since the epoch
    state: LiveState
    epoch: int  # number of the latest claim, from 1
    holder: str  # the gateway process (one life of it) that claimed it
    mark: SafeMark = SafeMark()
    span_id: str = ""  # 16 lower-case hex: the span that its engine calls and its task continue; empty: not traced
