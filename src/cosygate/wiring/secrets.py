"""The secret that signs tokens, and tokens made with it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence

from cosygate.adapters.callers_jwt import check_secret, issue
from cosygate.kit.clock import SystemClock, SystemRandomness
from cosygate.settings import Settings


def jwt_secret(settings: Settings) -> str:
    """The secret that signs tokens: the setting, else the one in the data folder, made (mode 0600) when there is none.
    Raises ValueError for one that must not be used."""
    if settings.jwt_secret:
        return check_secret(settings.jwt_secret)
    if settings.shared:
        raise ValueError("COSYGATE_JWT_SECRET has to be set, the same everywhere, where hosts share a database")
    path = settings.data_dir / "jwt_secret"
    settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".jwt_secret.{os.getpid()}")
    try:
        if not path.exists():
            fresh.touch(mode=0o600)
            with fresh.open("w") as file:
                file.write(secrets.token_urlsafe(48))
                file.flush()
                os.fsync(file.fileno())  # an empty secret after a power loss would keep everything from starting
            os.link(fresh, path)  # whole or not at all, and the first process wins
    except FileExistsError:
        pass
    finally:
        fresh.unlink(missing_ok=True)
    if path.stat().st_mode & 0o077:
        raise ValueError("the file jwt_secret in the data folder can be read by others: chmod 600 it")
    return check_secret(path.read_text().strip())


def issue_token(
    settings: Settings, subject: str, *, ttl_s: float, tenant: str | None = None, scopes: Sequence[str] | None = None
) -> str:
    """A token that these settings' gateways accept for `ttl_s` seconds; without `scopes`, the usual ones. Raises
    ValueError for a name or secret that must not be used."""
    return issue(
        jwt_secret(settings),
        subject=subject,
        now=SystemClock().now(),
        ttl_s=ttl_s,
        tenant=tenant,
        scopes=scopes,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        jti=SystemRandomness().token(16).hex(),
    )
