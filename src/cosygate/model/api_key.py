"""API keys: `csg_ID_SECRET`, for clients that cannot make tokens. What is stored is the SHA-256 of the whole text:
nobody finds 256 random bits by trying, so a slow hash would only slow us."""

from __future__ import annotations

import hashlib
import re
import zlib
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field

from cosygate.kit.clock import Randomness

PREFIX = "csg_"
_ID_BYTES, _SECRET_BYTES = 8, 32
# id, 43 characters of base64url, and a check digit (CRC-32, hex) by which slips of the hand are told without a database
_SHAPE = re.compile(r"csg_([0-9a-f]{16})_[A-Za-z0-9_-]{43}[0-9a-f]{8}")
_CHECK_CHARS = 8


@dataclass(frozen=True, slots=True)
class ApiKey:
    """What is known of a key; the key itself is not."""

    id: str
    hash: str = field(repr=False)  # SHA-256 (hex) of the whole key
    name: str  # for people: which machine, which program
    tenant: str
    subject: str
    scopes: frozenset[str]
    created_at: float  # seconds since the epoch
    expires_at: float | None = None  # None: it does not
    used_at: float | None = None  # to the minute
    revoked_at: float | None = None


def new_key(randomness: Randomness) -> str:
    text = f"{PREFIX}{randomness.token(_ID_BYTES).hex()}_"
    text += urlsafe_b64encode(randomness.token(_SECRET_BYTES)).rstrip(b"=").decode()
    return text + _check(text)


def id_of(key: str) -> str | None:
    """The id that a key names; None for what cannot be a key."""
    match = _SHAPE.fullmatch(key)
    if match is None or _check(key[:-_CHECK_CHARS]) != key[-_CHECK_CHARS:]:
        return None
    return match[1]


def hash_of(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _check(text: str) -> str:
    return f"{zlib.crc32(text.encode()):08x}"
