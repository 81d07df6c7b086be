"""Tokens as `cosygate token` prints them, and as the embedded server's own client uses them."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Sequence

from cosygate.model.principal import Scope
from cosygate.settings import Settings

_TTL = re.compile(r"(\d{1,9})([smhd]?)")
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_S = 10 * 365 * 86400


def seconds(ttl: str) -> float:
    """`90s`, `30m`, `1h`, `7d`; a bare number is seconds. Raises ValueError."""
    match = _TTL.fullmatch(ttl.strip())
    value = int(match[1]) * _UNITS[match[2]] if match else 0
    if not 0 < value <= LONGEST_S:
        raise ValueError("--ttl is a number with s, m, h or d, above zero and at most ten years")
    return float(value)


def scopes_from(given: Sequence[str] | None) -> list[Scope] | None:
    """Of options that may have several, separated by spaces or commas; None: none was given. Raises ValueError."""
    names = [name for scope in given or () for name in re.split(r"[\s,]+", scope) if name]
    if unknown := sorted(set(names) - set(Scope)):
        raise ValueError(f"there is no scope {', '.join(unknown)}; there are {', '.join(Scope)}")
    return [Scope(name) for name in names] or None


def issue(
    settings: Settings, sub: str, *, ttl_s: float, tenant: str | None = None, scopes: Sequence[str] | None = None
) -> str:
    """Signed with the secret of `settings`, which is generated in its data folder if there is none yet. Raises
    ValueError for a name, scope or secret that must not be used."""
    from cosygate.wiring import issue_token

    return issue_token(settings, sub, ttl_s=ttl_s, tenant=tenant, scopes=scopes_from(scopes))


def jti_and_expiry(given: str) -> tuple[str, float | None]:
    """A token's `jti`, and its expiry where the token itself was given. Raises ValueError for a token that has none."""
    parts = given.strip().split(".")
    if len(parts) != 3:
        return given, None
    try:
        # Whether it is a true one does not matter: whoever has the data folder may revoke anything.
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        jti, expires_at = claims.get("jti"), float(claims["exp"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return given, None
    if not isinstance(jti, str) or not jti:
        raise ValueError("this token has no jti, so it cannot be revoked alone; --sub revokes all of somebody's")
    return jti, expires_at
