"""Who is calling: which credentials this gateway believes."""

from __future__ import annotations

from cosygate.adapters.callers_jwt import JwtCallers
from cosygate.kit.clock import Clock
from cosygate.ports.callers import Callers
from cosygate.settings import Settings


def callers(settings: Settings, secret: str, clock: Clock) -> Callers:
    return JwtCallers(secret, clock, audience=settings.jwt_audience, issuer=settings.jwt_issuer)
