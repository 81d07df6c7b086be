"""Moves an embedded installation's blobs to an object store: everything in a data folder's `blobs`, by its layout
(adapters/blobs_disk/disk.py). Run it again and it goes on: what is there is compared, not sent.

Recordings come before their rows, so that whoever finds a row finds its recording. A gateway that runs on the target
already may meanwhile take them for nobody's, whose ids are old: so their listings are looked at once more, when
the rows are there (`missing_only`)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cosygate import errors
from cosygate.adapters.blobs_object.scratch import MIB
from cosygate.model.upload import LastMark
from cosygate.ports.blobs import PartStore, ResultStore

_AT_ONCE = 8  # uploads, or transcripts
_MARK = "last"


class Target(Protocol):
    """An ObjectStore, or any other store."""

    @property
    def parts(self) -> PartStore: ...
    @property
    def results(self) -> ResultStore: ...


@dataclass
class Copied:
    uploads: int = 0
    parts: int = 0
    results: int = 0
    bytes: int = 0


async def copy_blobs(folder: Path, target: Target, *, missing_only: bool = False) -> Copied:
    """`folder`: `blobs` of the data folder of a server that is stopped. The folder is only read. `missing_only`: the
    recordings whose parts are not all listed there, and nothing else. Raises Conflict when the store holds something
    else under the same name, StorageFull, StorageUnavailable, OSError; what was copied until then is whole."""
    copied = Copied()
    jobs = _jobs(folder, target, copied, missing_only)
    # Each worker takes the next job: a million of them are not a million tasks.
    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(_work(jobs))
    except* (errors.CosyGateError, OSError) as several:
        raise several.exceptions[0] from None
    return copied


async def _work(jobs: Iterator[_Job]) -> None:
    for job in jobs:
        await job.run()


class _Job(Protocol):
    async def run(self) -> None: ...


def _jobs(folder: Path, target: Target, copied: Copied, missing_only: bool) -> Iterator[_Job]:
    for upload in sorted((folder / "uploads").glob("*/*")):
        yield _Upload(upload, target.parts, copied, missing_only)
    if missing_only:
        return  # nobody erases a result whose row is not there
    for result in sorted((folder / "results").glob("*/*/*.json")):
        yield _Result(result, target.results, copied)


@dataclass
class _Upload:
    folder: Path
    parts: PartStore
    copied: Copied
    missing_only: bool

    async def run(self) -> None:
        mark = _mark(self.folder / _MARK)
        seqs = sorted(int(path.name) for path in self.folder.iterdir() if path.name != _MARK)
        if self.missing_only and set(seqs) <= (await self.parts.list(self.folder.name)).parts.keys():
            return
        for seq in seqs:
            path = self.folder / f"{seq:09d}"
            received = await self.parts.receive(_pieces(path), limit=path.stat().st_size)
            try:
                ends = mark if mark is not None and seq == seqs[-1] else None
                await self.parts.put(self.folder.name, seq, received, ends, create=True)
            finally:
                await received.close()
            self.copied.parts += 1
            self.copied.bytes += received.size
        self.copied.uploads += 1


@dataclass
class _Result:
    path: Path
    results: ResultStore
    copied: Copied

    async def run(self) -> None:
        data = await asyncio.to_thread(self.path.read_bytes)
        await self.results.put(self.path.parent.name, int(self.path.stem), data)
        self.copied.results += 1
        self.copied.bytes += len(data)


def _mark(path: Path) -> LastMark | None:
    with suppress(FileNotFoundError):
        try:
            told = json.loads(path.read_bytes())
            return LastMark(told["last_seq"], told["options"])
        except (ValueError, KeyError, TypeError):
            raise errors.Conflict(f"the upload {path.parent.name} is damaged") from None
    return None


async def _pieces(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while piece := await asyncio.to_thread(file.read, MIB):
            yield piece
