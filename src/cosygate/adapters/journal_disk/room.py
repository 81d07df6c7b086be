"""Whether more may be appended: how much all journals take, and what the file system keeps free.

Both are looked at now and then, and this process's own appends are added in between: several processes together may
pass `max_bytes` by what they append in _COUNT_EVERY_S. Claims and compactions are not asked: the one lets a session end
that is to be erased then, the other makes room.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from cosygate import errors
from cosygate.kit.clock import Clock

_FREE_FOR_S = 1.0  # how long a look at the free space is trusted
_COUNT_EVERY_S = 5.0


class Room:
    """For threads. `count` is slow (it looks at every file): `later` runs it elsewhere."""

    def __init__(self, root: str, max_bytes: int, min_free_bytes: int, clock: Clock, used: Callable[[], int]) -> None:
        self._root = root
        self._max = max_bytes
        self._min_free = min_free_bytes
        self._clock = clock
        self._count_used = used
        self._mutex = threading.Lock()
        self._free = 0
        self._free_at = -_FREE_FOR_S
        self._used = 0
        self._since = 0  # taken since the count began
        self._counted_at = 0.0
        self._counting = False

    def count(self) -> None:
        with self._mutex:
            self._counting, self._since = True, 0
        used = self._count_used()
        with self._mutex:
            self._counting, self._used, self._counted_at = False, used, self._clock.monotonic()

    def stale(self) -> bool:
        return not self._counting and self._clock.monotonic() - self._counted_at >= _COUNT_EVERY_S

    def take(self, size: int) -> None:
        """Raises StorageFull, taking nothing."""
        with self._mutex:
            now = self._clock.monotonic()
            if now - self._free_at >= _FREE_FOR_S:
                stat = os.statvfs(self._root)
                self._free, self._free_at = stat.f_bavail * stat.f_frsize, now
            if self._free - size < self._min_free or self._used + self._since + size > self._max:
                raise errors.StorageFull()
            self._free -= size
            self._since += size
