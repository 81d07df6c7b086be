"""The folder in which models lie: a folder each, `NAME/`, with the model's files and cosygate-model.json.

A model's folder appears, is replaced and goes in one rename. What is not finished lies beside it, under names with a
dot: in `.NAME.part/` what was fetched so far, `.NAME.new/` and `.NAME.old/` while one is put in place, `.NAME.lock` for
whoever does so (the kernel lets go of it when they die; the file stays, since another may wait for it).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from cosygate.catalogue import ModelError
from cosygate.catalogue.entries import Capability, Family, FileName, Name

RECORD = "cosygate-model.json"
_LARGEST_RECORD = 1024**2  # bytes
_UNFINISHED = ("part", "new", "old")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")  # as `entries.Name`


class Content(BaseModel):
    bytes: int
    sha256: str


class Fetched(BaseModel):
    """What a source was: `sha256` as seen, `verified` when the catalogue knew it, too."""

    url: str
    bytes: int
    sha256: str
    verified: bool


class Record(BaseModel):
    """cosygate-model.json. An engine reads the first six."""

    name: Name
    family: Family
    languages: list[str]
    capabilities: list[Capability]
    files: dict[str, FileName]  # role → file in the folder
    settings: dict[str, Any]
    licence: str
    home: str
    sources: list[Fetched]
    contents: dict[FileName, Content]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def content_of(path: Path) -> Content:
    return Content(bytes=path.stat().st_size, sha256=sha256(path))


class Shelf:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def place(self, name: str) -> Path:
        """Raises ModelError for what cannot be a model's name."""
        if not _NAME.fullmatch(name):
            raise ModelError(f"{name!r} is not a model's name")
        return self.folder / name

    def beside(self, name: str, what: str) -> Path:
        return self.folder / f".{name}.{what}"

    def names(self) -> list[str]:
        """What lies here, whether it is whole or not."""
        try:
            return sorted(p.name for p in self.folder.iterdir() if _NAME.fullmatch(p.name) and p.is_dir())
        except FileNotFoundError:
            return []

    def record(self, name: str) -> Record:
        """Raises ModelError when there is none or it cannot be read."""
        if not self.place(name).is_dir():
            raise ModelError(f"{name} is not here; `cosygate models pull {name}` fetches it")
        try:
            with (self.place(name) / RECORD).open("rb") as file:
                record = Record.model_validate_json(file.read(_LARGEST_RECORD))
        except (OSError, ValidationError):
            raise ModelError(f"{RECORD} is missing or damaged") from None
        if record.name != name:
            raise ModelError(f"{RECORD} is of {record.name}")
        return record

    def faults(self, name: str, *, thorough: bool = True) -> list[str]:
        """What is wrong with it, a sentence each; without `thorough`, only what a look at sizes tells."""
        try:
            record = self.record(name)
        except ModelError as error:
            return [str(error)]
        found: list[str] = []
        for file, told in record.contents.items():
            path = self.place(name) / file
            if not path.is_file():
                found.append(f"{file} is missing")
            elif path.stat().st_size != told.bytes:
                found.append(f"{file} has {path.stat().st_size:,} bytes, not {told.bytes:,}")
            elif thorough and sha256(path) != told.sha256:
                found.append(f"{file} is damaged: its SHA-256 is not the one it had when it was fetched")
        return found + [f"{file} is not recorded" for file in record.files.values() if file not in record.contents]

    @contextmanager
    def lock(self, name: str, waiting: Callable[[], None]) -> Iterator[None]:
        """Alone with this model, however long that takes; `waiting` is called when somebody else has it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.beside(name, "lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                waiting()
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    @contextmanager
    def building(self, name: str) -> Iterator[Path]:
        """A new, empty folder to fill, for `finish`; it goes when the block ends without. Under the lock."""
        new = self.beside(name, "new")
        _erase(new)
        new.mkdir()
        try:
            yield new
        finally:
            _erase(new)

    def finish(self, record: Record) -> None:
        """Puts what `building` gave into its place, with its record, instead of what was there. Under the lock."""
        new = self.beside(record.name, "new")
        _write(record, new / RECORD)
        _sync(new)
        self._clear(record.name)
        new.rename(self.place(record.name))
        _sync(self.folder)
        self._sweep(record.name)

    def describe(self, record: Record) -> None:
        """Another record for what is in place. Under the lock."""
        with self.building(record.name) as new:
            _write(record, new / RECORD)
            (new / RECORD).replace(self.place(record.name) / RECORD)
        _sync(self.place(record.name))

    def forget(self, name: str) -> None:
        """Erases what was fetched so far. Under the lock."""
        _erase(self.beside(name, "part"))

    def remove(self, name: str, waiting: Callable[[], None]) -> bool:
        """Whether there was anything of it. Takes the lock."""
        places = (self.place(name), *(self.beside(name, what) for what in _UNFINISHED))
        if not any(place.exists() for place in places):
            return False
        with self.lock(name, waiting):
            self._clear(name)
            self._sweep(name)
        return True

    def _clear(self, name: str) -> None:
        old = self.beside(name, "old")
        _erase(old)
        if self.place(name).exists():
            self.place(name).rename(old)

    def _sweep(self, name: str) -> None:
        for what in _UNFINISHED:
            _erase(self.beside(name, what))


def _write(record: Record, path: Path) -> None:
    with path.open("xb") as file:
        file.write(record.model_dump_json(indent=2).encode())
        file.flush()
        os.fsync(file.fileno())


def _erase(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
