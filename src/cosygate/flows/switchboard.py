"""The operator's switches as this process knows them: read once a second, so a change reaches every gateway soon.

`drain`: nothing new is begun anywhere (recordings and live sessions are refused as `draining`, /readyz says so); what
has begun goes on to its end, and what is queued is worked off. It holds over restarts, until it is turned off again.
"""

from __future__ import annotations

from cosygate import errors
from cosygate.kit.clock import Clock
from cosygate.kit.logs import logger
from cosygate.ports.switches import Switches

_log = logger()
DRAIN = "drain"
_ON, _OFF = "on", "off"


class Switchboard:
    def __init__(self, switches: Switches, clock: Clock) -> None:
        self._switches = switches
        self._clock = clock
        self.drained_since: float | None = None  # seconds since the epoch

    def drained(self) -> bool:
        return self.drained_since is not None

    async def drain(self, on: bool) -> None:
        """Raises DatabaseBusy, StorageFull."""
        await self._switches.set(DRAIN, _ON if on else _OFF, self._clock.now())
        await self.look()

    async def look(self) -> None:
        """What cannot be read stays as it was."""
        try:
            value, since = (await self._switches.read()).get(DRAIN, (_OFF, 0.0))
        except errors.Unavailable:
            return
        drained = since if value == _ON else None
        if (drained is None) != (self.drained_since is None):
            _log.warning("service.drained" if drained is not None else "service.resumed")
        self.drained_since = drained
