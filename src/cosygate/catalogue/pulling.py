"""`pull`: from an entry of the catalogue to a model's folder: fetched or copied, checked, unpacked, recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Protocol

from cosygate.catalogue import ModelError, Unfit
from cosygate.catalogue.entries import Entry, Source
from cosygate.catalogue.fetching import Patience, fetch, mirrored
from cosygate.catalogue.shelf import Content, Fetched, Record, Shelf, content_of
from cosygate.catalogue.unpacking import SUFFIXES, is_archive, keep, unpack

# Taken along where an archive has them, as licences ask for.
ALSO = ("LICENSE", "LICENSE.md", "LICENSE.txt", "NOTICE", "README.md", "MODEL_CARD.md")


class Teller(Protocol):
    def say(self, line: str) -> None: ...

    def warn(self, line: str) -> None: ...

    def fetching(self, file: str, done: int, total: int) -> None:
        """Bytes so far and in all; 0: it is not known how many there are."""


@dataclass(frozen=True, slots=True)
class Pull:
    """How to get at what the catalogue names: `mirror` stands instead of its hosts; `copy`, a file or a folder, instead
    of the network."""

    shelf: Shelf
    teller: Teller
    mirror: str = ""
    copy: Path | None = None
    patience: Patience = field(default_factory=Patience)

    def __call__(self, entry: Entry) -> Path:
        """The model's folder; nothing is done for one that is there and whole. Raises ModelError; OSError (disk)."""
        name, say = entry.name, self.teller.say
        with self.shelf.lock(name, lambda: say(f"{name}: waiting for another command that has it")):
            if not self.shelf.faults(name) and (record := self._same(entry)) is not None:
                if record == self.shelf.record(name):
                    say(f"{name}: is there")
                else:
                    self.shelf.describe(record)
                    say(f"{name}: is there; what is said of it is the catalogue's by now")
                return self.shelf.place(name)
            with self.shelf.building(name) as new:
                try:
                    self.shelf.finish(self._record(entry, self._fill(entry, new), new))
                except Unfit:
                    self.shelf.forget(name)  # or it would be taken for whole the next time
                    raise
            say(f"{name}: is there now")
            return self.shelf.place(name)

    def _fill(self, entry: Entry, new: Path) -> list[Fetched]:
        """What the files in `new` come from; nothing when they were copied as they are."""
        folder = None if self.copy is None else _loose(entry, self.copy)
        if folder is None:
            return [self._source(entry, source, new) for source in entry.sources]
        for file in entry.files.values():
            with (folder / file.path).open("rb") as content:
                keep(content, new / file.path)
        return []

    def _same(self, entry: Entry) -> Record | None:
        """What is to be recorded of what lies there; None when it is not what the catalogue knows today."""
        record = self.shelf.record(entry.name)
        fetched = {source.url: source for source in record.sources}
        if record.sources and list(fetched) != [source.url for source in entry.sources]:
            return None
        known = {source.url: source.sha256 for source in entry.sources if source.sha256}
        if any(source.sha256 != known.get(url, source.sha256) for url, source in fetched.items()):
            self.teller.warn(f"{entry.name}: what is here is not what the catalogue knows by now")
            return None
        for file in entry.files.values():
            there = record.contents.get(file.path)
            if there is None or there.sha256 != (file.sha256 or there.sha256):
                self.teller.warn(f"{entry.name}: {file.path} here is not what the catalogue knows by now")
                return None
        sources = [
            source.model_copy(update={"verified": source.verified or source.url in known}) for source in record.sources
        ]
        described = _described(entry, sources, record.contents)
        # What somebody has written into the record that the catalogue says nothing of is theirs.
        return described.model_copy(update={"settings": record.settings | entry.settings})

    def _source(self, entry: Entry, source: Source, new: Path) -> Fetched:
        file = self._fetched(entry, source) if self.copy is None else _copy(entry, source, self.copy)
        seen = content_of(file)
        if (source.bytes and seen.bytes != source.bytes) or (source.sha256 and seen.sha256 != source.sha256):
            known = " and ".join(
                [f"{source.bytes:,} bytes"] * bool(source.bytes) + [source.sha256] * bool(source.sha256)
            )
            told = f"{seen.bytes:,} bytes, SHA-256 {seen.sha256}"
            raise Unfit(f"{file.name} is not what the catalogue knows ({known}): {told}")
        self.teller.say(f"{entry.name}: taking what is needed from {source.name}")
        if is_archive(source.name):
            unpack(file, source.name, {f.path for f in entry.files.values()}, ALSO, new)
        else:
            with file.open("rb") as content:
                keep(content, new / source.name)
        return Fetched(url=source.url, bytes=seen.bytes, sha256=seen.sha256, verified=bool(source.sha256))

    def _fetched(self, entry: Entry, source: Source) -> Path:
        part = self.shelf.beside(entry.name, "part")
        part.mkdir(exist_ok=True)
        url = mirrored(source.url, self.mirror)
        self.teller.say(f"{entry.name}: fetching {url}")
        fetch(source, url, part / source.name, partial(self.teller.fetching, source.name), self.patience)
        return part / source.name

    def _record(self, entry: Entry, sources: list[Fetched], new: Path) -> Record:
        if missing := [f.path for f in entry.files.values() if not (new / f.path).is_file()]:
            raise Unfit(f"{entry.name}: what was fetched lacks {', '.join(missing)}")
        contents = {path.name: content_of(path) for path in sorted(new.iterdir())}
        if not sources or not all(source.verified for source in sources):
            for file in entry.files.values():
                seen = contents[file.path].sha256
                if not file.sha256:
                    self.teller.warn(f"{entry.name}: nobody vouches for {file.path}; its SHA-256 is {seen}")
                elif seen != file.sha256:
                    raise Unfit(f"{file.path} is not what the catalogue knows: its SHA-256 is {seen}")
        return _described(entry, sources, contents)


def _described(entry: Entry, sources: list[Fetched], contents: dict[str, Content]) -> Record:
    return Record(
        name=entry.name,
        family=entry.family,
        languages=list(entry.languages),
        capabilities=list(entry.capabilities),
        files={role: file.path for role, file in entry.files.items()},
        settings=entry.settings,
        licence=entry.licence,
        home=entry.home,
        sources=sources,
        contents=contents,
    )


def _loose(entry: Entry, copy: Path) -> Path | None:
    """The folder with the model's own files, where `copy` has those and not the archives: itself, or one that an
    archive of the model unpacks to."""
    if all((copy / source.name).is_file() for source in entry.sources):
        return None
    tops = [copy / source.name.removesuffix(suffix) for source in entry.sources for suffix in SUFFIXES]
    folders = (copy, copy / entry.name, *tops)
    return next((f for f in folders if all((f / file.path).is_file() for file in entry.files.values())), None)


def _copy(entry: Entry, source: Source, copy: Path) -> Path:
    if copy.is_file() and len(entry.sources) == 1:
        return copy
    if not (copy / source.name).is_file():
        wanted = " and ".join(s.name for s in entry.sources)
        files = ", ".join(file.path for file in entry.files.values())
        raise ModelError(f"{copy} is not a copy of {entry.name}: that is {wanted}, or the files in them ({files})")
    return copy / source.name
