"""Requests to the object store: bounded in number, bytes and time, with its errors as ours.

Everything that this adapter needs of obstore (0.12) and of a store is here: read-after-write consistency of objects and
listings, and PUT with `If-None-Match: *` (`create`). docs/storage.md says which stores have them.
"""

from __future__ import annotations

import asyncio
import mmap
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import obstore
from obstore import exceptions as foreign
from obstore.store import AzureStore, GCSStore, S3Store

from cosygate import errors
from cosygate.kit.clock import Clock
from cosygate.kit.logs import logger

RemoteStore = S3Store | GCSStore | AzureStore
Data = bytes | mmap.mmap

PAGE = 1000  # keys that one request lists or deletes at most
DIGEST = "sha256"  # metadata of a part: of its bytes, hexadecimal
_SLOWEST = 1024 * 1024  # bytes a second that a transfer must make, beside its timeout
_PAGES_S = 60.0  # of a listing whose pages obstore fetches by itself
_TOLD_EVERY_S = 10.0  # a store that is away fails every request: one log line tells it for so long

_log = logger()


@dataclass(frozen=True, slots=True)
class Found:
    """What a listing tells of an object. `tag` changes whenever it is written anew."""

    key: str
    size: int
    tag: str
    changed: datetime


@dataclass(frozen=True, slots=True)
class Head:
    size: int
    digest: str | None  # None: whoever stored it did not say


class Budget:
    """So many bytes at once; who comes first is served first, also when it wants more."""

    def __init__(self, most: int) -> None:
        self._most = self._left = most
        self._turn = asyncio.Lock()
        self._given = asyncio.Event()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """More than there is counts as all of it."""
        size = min(size, self._most)
        async with self._turn:
            while self._left < size:
                self._given.clear()
                await self._given.wait()
            self._left -= size
        try:
            yield
        finally:
            self._left += size
            self._given.set()


# Words of stores that are full, in the answers that obstore hands on as text: MinIO's, Ceph's, and the status itself.
_FULL = ("XMinioStorageFull", "QuotaExceeded", "507 Insufficient Storage")
_NO_BUCKET = ("NoSuchBucket", "ContainerNotFound", "The specified bucket does not exist")
# The one table of foreign errors. What is not in it, and no FileNotFoundError, is a bug and passes.
ERRORS: dict[type[Exception], str] = {
    foreign.PermissionDeniedError: "the store refuses access",
    foreign.UnauthenticatedError: "the store does not know these credentials",
    foreign.NotSupportedError: "the store cannot do this",
    foreign.PreconditionError: "the store refuses the condition",
    foreign.GenericError: "the store failed",
    foreign.BaseError: "the store failed",
    TimeoutError: "the store did not answer in time",
}


def translated(error: Exception) -> errors.CosyGateError:
    """Ours for a foreign error. The store's own words are not told: they may hold addresses, and signatures."""
    if any(words in str(error) for words in _FULL):
        return errors.StorageFull()
    kind = next(told for cls, told in ERRORS.items() if isinstance(error, cls))
    return errors.StorageUnavailable("the bucket does not exist" if missing_bucket(error) else kind)


def refuses(error: Exception) -> bool:
    """Whether it will be the same until somebody changes rights, settings or the store."""
    lasting = (foreign.PermissionDeniedError, foreign.UnauthenticatedError, foreign.NotSupportedError)
    return isinstance(error, lasting) or missing_bucket(error)


def missing_bucket(error: Exception) -> bool:
    return any(words in str(error) for words in _NO_BUCKET)


class Bucket:
    """One process's way to the store. Keys are relative to the prefix that the store was opened with."""

    def __init__(
        self,
        quick: RemoteStore,
        bodies: RemoteStore,
        *,
        timeout_s: float,
        requests: int,
        memory_bytes: int,
        clock: Clock,
    ) -> None:
        """`quick` gives up an attempt after `timeout_s` seconds, `bodies` when its caller does. At most `requests` are
        on their way at once, with `memory_bytes` of bodies; others wait, and a wait counts as time that was used."""
        self._quick = quick
        self._bodies = bodies
        self._timeout_s = timeout_s
        self._places = asyncio.Semaphore(requests)
        self._budget = Budget(memory_bytes)
        self._clock = clock
        self.answered_at = float("-inf")  # when the store last answered, monotonic
        self.refused = False  # the last failure was one that lasts
        self._told_at = float("-inf")

    @asynccontextmanager
    async def _asking(self, limit_s: float, size: int = 0) -> AsyncIterator[None]:
        """Raises StorageUnavailable, StorageFull; FileNotFoundError and AlreadyExistsError are answers, and pass."""
        try:
            async with asyncio.timeout(limit_s), self._places, self._budget.hold(size):
                yield
        except (FileNotFoundError, foreign.AlreadyExistsError) as answer:
            self.answered_at = self._clock.monotonic()
            if missing_bucket(answer):
                self.refused = True
                raise errors.StorageUnavailable("the bucket does not exist") from None
            raise
        except tuple(ERRORS) as error:
            ours = translated(error)
            self.refused = refuses(error)
            if self._clock.monotonic() - self._told_at >= _TOLD_EVERY_S:
                self._told_at = self._clock.monotonic()
                _log.warning("storage.unavailable", code=ours.code, reason=ours.detail)
            raise ours from None
        self.answered_at = self._clock.monotonic()

    def _short_s(self) -> float:
        return 2 * self._timeout_s

    def _long_s(self, size: int) -> float:
        return self._short_s() + size / _SLOWEST

    async def create(self, key: str, data: Data, *, digest: str | None = None) -> bool:
        """Stores an object that is not there yet, whole or not at all. False when it is there."""
        attributes = {"Content-Type": "application/octet-stream"}
        if digest is not None:
            attributes[DIGEST] = digest
        try:
            async with self._asking(self._long_s(len(data)), len(data)):
                await obstore.put_async(self._bodies, key, data, mode="create", attributes=attributes)
        except foreign.AlreadyExistsError:
            return False
        except FileNotFoundError:
            raise errors.StorageUnavailable("the store failed") from None
        return True

    async def replace(self, key: str, data: Data) -> None:
        try:
            async with self._asking(self._long_s(len(data)), len(data)):
                await obstore.put_async(self._bodies, key, data, mode="overwrite", use_multipart=False)
        except FileNotFoundError:
            raise errors.StorageUnavailable("the store failed") from None

    async def get(self, key: str, expected_bytes: int = 0) -> bytes | None:
        try:
            async with self._asking(self._long_s(expected_bytes), expected_bytes):
                return bytes(await (await obstore.get_async(self._bodies, key)).bytes_async())
        except FileNotFoundError:
            return None

    async def span(self, key: str, start: int, length: int) -> bytes | None:
        """At least one byte; fewer than asked for when the object ends before. None when there is no such object."""
        try:
            async with self._asking(self._long_s(length), length):
                return bytes(await obstore.get_range_async(self._quick, key, start=start, length=length))
        except FileNotFoundError:
            return None

    async def head(self, key: str) -> Head | None:
        try:
            async with self._asking(self._short_s()):
                told = await obstore.get_async(self._quick, key, options={"head": True})
                return Head(told.meta["size"], told.attributes.get(DIGEST))
        except FileNotFoundError:
            return None

    async def pages(self, folder: str, after: str | None = None) -> AsyncIterator[list[Found]]:
        """Every object in `folder` and below, those behind the key `after` if given; a request a page."""
        stream = obstore.list(self._quick, folder, offset=after, chunk_size=PAGE)
        while True:
            try:
                async with self._asking(self._short_s()):
                    page = await anext(stream, None)
            except FileNotFoundError:
                return
            if page is None:
                return
            yield [
                Found(
                    m["path"],
                    m["size"],
                    m["e_tag"] or m["version"] or m["last_modified"].isoformat(),
                    m["last_modified"],
                )
                for m in page
            ]

    async def found(self, folder: str, after: str | None = None) -> list[Found]:
        return [one async for page in self.pages(folder, after) for one in page]

    async def folders(self, folder: str) -> list[str]:
        """The names of the folders right below `folder`."""
        try:
            async with self._asking(_PAGES_S + self._short_s()):
                told = await obstore.list_with_delimiter_async(self._quick, folder)
        except FileNotFoundError:
            return []
        return [prefix.rstrip("/").rpartition("/")[2] for prefix in told["common_prefixes"]]

    async def delete(self, keys: Sequence[str]) -> None:
        """What is not there is fine."""
        for at in range(0, len(keys), PAGE):
            batch = list(keys[at : at + PAGE])
            try:
                async with self._asking(_PAGES_S if len(batch) > 1 else self._short_s()):
                    await obstore.delete_async(self._quick, batch if len(batch) > 1 else batch[0])
            except FileNotFoundError:
                if len(batch) > 1:  # some stores tell the first that was gone, and delete no more: one by one
                    for key in batch:
                        await self.delete([key])
