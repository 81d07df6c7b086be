"""What a check says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from cosygate.settings import Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `advice` says what to do, when there is something to do."""

    name: str
    ok: bool
    detail: str
    advice: str = ""


Check = Callable[[Settings], Awaitable[Finding]]
