"""Live sessions to write, for the tests of ports/live.py."""

from __future__ import annotations

from typing import Any

from cosygate.model.job import NewJob
from cosygate.model.live import LiveFormat, LiveSession, LiveState, SafeMark
from tests.support.records import OWNER

RESULT = {"text": "hello", "duration": 1.5, "language": "en", "segments": 1}


def session_id(number: int) -> str:
    return f"{number:032x}"


def new_session(number: int, *, owner: str = OWNER, holder: str = "g1") -> LiveSession:
    return LiveSession(
        id=session_id(number),
        owner=owner,
        token_hash=f"{number + 1:064x}",
        format=LiveFormat.MULAW,
        rate=8_000,
        options='{"language":"auto"}',
        trace_id="0af7651916cd43dd8448eb211c80319c",
        created_at=1_000.5 + number,
        state=LiveState.OPEN,
        epoch=1,
        holder=holder,
    )


def live_job(number: int, *, owner: str = OWNER, name: str | None = None) -> NewJob:
    """The job that session `number` becomes."""
    return NewJob(
        id=session_id(number),
        upload_id=session_id(number),
        owner=owner,
        session_id=name or f"live-{session_id(number)}",
        options='{"language":"auto"}',
        container="wav",
        size=160_044,
        created_at=1_000.5 + number,
        trace_id="0af7651916cd43dd8448eb211c80319c",
    )


def segment(number: int) -> dict[str, Any]:
    """What a task's events and transcript show of a final."""
    return {"id": number, "start": number * 1.0, "end": number + 0.5, "text": f"words {number} – ça va"}


def final(number: int) -> dict[str, Any]:
    return segment(number) | {"type": "final", "start_sample": number * 8_000, "end_sample": number * 8_000 + 4_000}


def mark(finals: int) -> SafeMark:
    """As it is when so many finals are stored."""
    return SafeMark(safe=finals * 8_000, restart=finals * 16_000, kept=finals * 16_000, finals=finals)
