"""What a gateway process feels of itself: how late its event loop is, its memory, its descriptors.

prometheus-client's own process metrics are off when several processes tell together: they would be of whichever process
happened to be asked.
"""

from __future__ import annotations

import asyncio
import os
import resource
from pathlib import Path

from cosygate.kit import metrics
from cosygate.kit.clock import Clock

EVERY_S = 1.0
_NAP_S = 0.05
_WEIGH_EVERY = 5  # looks


class Vitals:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looks = 0

    async def look(self) -> None:
        """Called every EVERY_S: how much later than asked for does this task run again?"""
        began = self._clock.monotonic()
        await self._clock.sleep(_NAP_S)
        metrics.loop_lag.observe(max(0.0, self._clock.monotonic() - began - _NAP_S))
        if self._looks % _WEIGH_EVERY == 0:
            memory, descriptors = await asyncio.to_thread(weigh)
            metrics.resident_bytes.set(memory)
            metrics.open_fds.set(descriptors)
        self._looks += 1


def weigh() -> tuple[int, int]:
    """Resident bytes, and open descriptors (proc_pid_statm(5), proc_pid_fd(5)); with thousands of them it takes a
    while to list them."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize(), len(os.listdir("/proc/self/fd")) - 1  # noqa: PTH208 - names alone are cheaper


def beat(_: asyncio.StreamReader, writer: asyncio.StreamWriter, word: bytes = b".") -> None:
    """One byte for whoever asks whether the event loop goes round; which one may tell more."""
    writer.write(word)
    writer.close()
