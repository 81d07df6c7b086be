"""Who is calling, and what they may do."""

from __future__ import annotations

import hashlib
import math
import re
from dataclasses import dataclass
from enum import StrEnum

DEFAULT_TENANT = "default"
LEEWAY_S = 5.0  # between the issuer's clock and ours
NAME = re.compile(r"[^\x00-\x1f\x7f/]{1,128}")  # of a subject, of a tenant
_PLAIN_JTI = re.compile(r"[A-Za-z0-9._-]{1,64}")


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
    expires_at: float = math.inf  # of the credential, seconds since the epoch

    @property
    def owner(self) -> str:
        """The key that everything stored for this caller carries."""
        return f"{self.tenant}/{self.subject}"


def token_credential(jti: str) -> str:
    """What stands for a token with this `jti`, as Principal.credential has it; an odd or long one by its hash."""
    if not _PLAIN_JTI.fullmatch(jti):
        jti = "sha256:" + hashlib.sha256(jti.encode(errors="surrogatepass")).hexdigest()
    return f"jti:{jti}"


def key_credential(key_id: str) -> str:
    """What stands for the API key with this id."""
    return f"key:{key_id}"


def tenant_of(owner: str) -> str:
    """The tenant in an owner's key."""
    return owner.partition("/")[0]
