"""Who is calling, and what they may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

DEFAULT_TENANT = "default"


class Scope(StrEnum):
    AUDIO_WRITE = "audio:write"  # send recordings, cancel and erase one's own
    TASK_READ = "task:read"  # read tasks, events, transcripts, sound
    LIVE = "live"  # open live sessions
    ADMIN = "admin"  # the operator's view


# What a token without a `scope` claim may do (wire.md: the first three).
DEFAULT_SCOPES = frozenset({Scope.AUDIO_WRITE, Scope.TASK_READ, Scope.LIVE})


@dataclass(frozen=True, slots=True)
class Principal:
    """An authenticated caller. `subject` and `tenant` are free text of 1-128 characters without `/` or control ones."""

    subject: str
    tenant: str = DEFAULT_TENANT
    scopes: frozenset[str] = DEFAULT_SCOPES
    credential: str = ""  # what can be revoked: `key:ID` of an API key, `jti:VALUE` of a token; empty for others
    issued_at: float = 0.0  # of a token, seconds since the epoch (`iat`; 0 when it says none)

    @property
    def owner(self) -> str:
        """The key that everything stored for this caller carries."""
        return f"{self.tenant}/{self.subject}"


def tenant_of(owner: str) -> str:
    """The tenant in an owner's key."""
    return owner.partition("/")[0]
