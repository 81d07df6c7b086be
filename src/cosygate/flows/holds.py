"""What is on its way into the queue, as far as one process sees it, in seconds of audio: first chunks whose request
runs, and recordings of which chunks come. Both are guesses, so both are bounded: in number, and in time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

_HOLD_S = 30.0  # a first chunk that takes longer holds no room: slow senders could keep all others out
_HOLDS = 10_000
_PAUSE_S = 10.0  # a recording of which nothing came for so long counts no more
_COMING_S = 300.0  # nor one that has been coming for so long without a pause: slow senders again
_COMING = 10_000


class Sums:
    """Seconds of audio by tenant, and in all. Those at nothing are forgotten."""

    def __init__(self, of: Mapping[str, float] | None = None) -> None:
        self._of = dict(of or {})
        self.total = sum(self._of.values())

    def __getitem__(self, tenant: str) -> float:
        return self._of.get(tenant, 0.0)

    def add(self, tenant: str, seconds: float) -> None:
        left = self[tenant] + seconds
        if left > 1e-9:
            self._of[tenant] = left
        else:
            self._of.pop(tenant, None)
        self.total = self.total + seconds if self._of else 0.0


class Hold:
    """Room in the queue for a recording that is on its way in."""

    __slots__ = ("_book", "seconds", "tenant", "until")

    def __init__(self, book: Holds, tenant: str, seconds: float, until: float) -> None:
        self._book = book
        self.tenant = tenant
        self.seconds = seconds
        self.until = until

    def close(self) -> None:
        """The recording is counted otherwise by now, or will not become a job. May be called twice."""
        self._book.drop(self)


class Holds:
    """Those that are open, oldest first; at most _HOLDS of them, each for at most _HOLD_S."""

    def __init__(self) -> None:
        self._open: OrderedDict[int, Hold] = OrderedDict()
        self.seconds = Sums()

    def take(self, tenant: str, seconds: float, now: float) -> Hold:
        if len(self._open) >= _HOLDS:
            self.drop(next(iter(self._open.values())))
        hold = Hold(self, tenant, seconds, now + _HOLD_S)
        self._open[id(hold)] = hold
        self.seconds.add(tenant, seconds)
        return hold

    def drop(self, hold: Hold) -> None:
        if self._open.get(id(hold)) is hold:
            del self._open[id(hold)]
            self.seconds.add(hold.tenant, -hold.seconds)

    def expire(self, now: float) -> None:
        while self._open and (oldest := next(iter(self._open.values()))).until <= now:
            self.drop(oldest)


class Line:
    """Hears of recordings that come and of those that have become jobs, as `flows/ingest.py` tells. This one counts
    nothing; `Admission` does."""

    def arrived(self, upload_id: str, tenant: str, size: int) -> None:
        """A chunk was stored; the upload has `size` bytes by now, and is not whole yet."""

    def queued(self, upload_id: str, tenant: str, size: int, seconds: float) -> None:
        """It has become a job, of `size` bytes and so many seconds of audio."""

    def gone(self, upload_id: str) -> None:
        """It was given up, or made a job before."""


class _Upload:
    __slots__ = ("began", "last", "seconds", "tenant")

    def __init__(self, tenant: str, now: float) -> None:
        self.tenant = tenant
        self.seconds = 0.0
        self.began = self.last = now


class Coming:
    """Uploads of which this process has stored a chunk, and that are not whole yet: by what has arrived of each, as
    long as it makes progress."""

    def __init__(self) -> None:
        self._open: OrderedDict[str, _Upload] = OrderedDict()  # those of which something came last at the end
        self.seconds = Sums()

    def arrived(self, upload_id: str, tenant: str, seconds: float, now: float) -> None:
        """So much of it is there by now."""
        upload = self._open.pop(upload_id, None)
        if upload is None:
            if len(self._open) >= _COMING:
                self.drop(next(iter(self._open)))
            upload = _Upload(tenant, now)
        self._open[upload_id] = upload
        upload.last = now
        self._count(upload, seconds if now - upload.began < _COMING_S else 0.0)

    def drop(self, upload_id: str) -> None:
        """It is a job, or will not become one."""
        if (upload := self._open.pop(upload_id, None)) is not None:
            self._count(upload, 0.0)

    def expire(self, now: float) -> None:
        while self._open and next(iter(self._open.values())).last + _PAUSE_S <= now:
            self.drop(next(iter(self._open)))

    def _count(self, upload: _Upload, seconds: float) -> None:
        self.seconds.add(upload.tenant, seconds - upload.seconds)
        upload.seconds = seconds
