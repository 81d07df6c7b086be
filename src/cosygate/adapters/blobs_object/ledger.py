"""What is told of an upload beside its parts, and the keys of both.

    uploads/<shard>/<upload id>/p000000012   part 12
    uploads/<shard>/<upload id>/x0000        the ledger: the upload has a place
    uploads/<shard>/<upload id>/x0001 …      further entries, each written once
    results/<shard>/<job id>/<fence>         a transcript

An entry is written only under the number behind the last one, by a PUT that fails when it is there: so of several that
write at once one wins, and all read the same story. Entry 0 is the place, perhaps with a mark that stands at once:
there were no parts yet that it could contradict. A later mark is a proposal, and the entry behind it the verdict
(parts.py says why). Parts sort before the ledger, so a listing from any part on has all of the ledger.
"""

from __future__ import annotations

import json
import re
import secrets
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from cosygate import errors
from cosygate.model.upload import LastMark, Listing

UPLOADS, RESULTS = "uploads", "results"
PLACE = 0
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
_NONCE = 16  # bytes; an entry that says nothing more is as long, and need not be read
_ENTRIES = 10_000
_NAME = re.compile(r"([px])(\d+)")


def folder(kind: str, name: str) -> str:
    if not _ID.fullmatch(name):  # ids are ours, never the client's: a wrong one is a bug, not an answer
        raise ValueError("not an id")
    # Ids begin with the time. Shards spread what is new over what a store splits by: the beginnings of keys.
    return f"{kind}/{zlib.crc32(name.encode()) % 16:x}/{name}"


def part_key(upload_id: str, seq: int) -> str:
    return f"{folder(UPLOADS, upload_id)}/p{seq:09d}"


def entry_key(upload_id: str, number: int) -> str:
    """Raises Conflict when an upload has more entries than anybody needs."""
    if number >= _ENTRIES:
        raise errors.Conflict("too many last chunks were named: give the upload up")
    return f"{folder(UPLOADS, upload_id)}/x{number:04d}"


def numbered(key: str) -> tuple[str, int] | None:
    """("p", seq) or ("x", number) of a key; None when it is not ours."""
    match = _NAME.fullmatch(key.rpartition("/")[2])
    return (match[1], int(match[2])) if match else None


def is_part(key: str) -> bool:
    return key.rpartition("/")[2].startswith("p")


class Kind(StrEnum):
    NOTHING = "nothing"
    MARK = "mark"
    STANDS = "stands"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Entry:
    kind: Kind
    mark: LastMark | None = None

    def to_bytes(self) -> bytes:
        """Never the same twice: whoever finds an entry knows whether it is his own."""
        if self.kind is Kind.NOTHING:
            return secrets.token_bytes(_NONCE)
        told: dict[str, object] = {"nonce": secrets.token_hex(_NONCE), "kind": self.kind}
        if self.mark is not None:
            told |= {"last_seq": self.mark.last_seq, "options": self.mark.options}
        return json.dumps(told).encode()


def says_nothing(size: int) -> bool:
    return size == _NONCE


def parse(data: bytes) -> Entry:
    """Raises Conflict when it is damaged."""
    if says_nothing(len(data)):
        return Entry(Kind.NOTHING)
    try:
        told = json.loads(data)
        kind = Kind(told["kind"])
        mark = LastMark(int(told["last_seq"]), str(told["options"])) if kind is Kind.MARK else None
    except (ValueError, KeyError, TypeError):
        raise errors.Conflict("what is stored of this upload is damaged: give it up and send it again") from None
    return Entry(kind, mark)


@dataclass(frozen=True, slots=True)
class State:
    """An upload as a listing found it."""

    parts: Mapping[int, int] = field(default_factory=dict)  # seq → bytes, also those beyond the mark
    mark: LastMark | None = None  # that stands
    proposal: LastMark | None = None  # undecided
    entries: int = 0  # in the ledger; 0: it has no place

    @property
    def placed(self) -> bool:
        return self.entries > 0

    def beyond(self, last_seq: int) -> bool:
        return max(self.parts, default=-1) > last_seq

    def listing(self) -> Listing:
        """A part beyond the mark was refused, or is just being refused."""
        if self.mark is None or not self.beyond(self.mark.last_seq):
            return Listing(dict(self.parts), self.mark)
        return Listing({s: size for s, size in self.parts.items() if s <= self.mark.last_seq}, self.mark)


def told(entries: Iterable[Entry]) -> tuple[LastMark | None, LastMark | None]:
    """The mark that stands and the one that is proposed, by the entries in order."""
    stands: LastMark | None = None
    proposal: LastMark | None = None
    for number, entry in enumerate(entries):
        if stands is not None:
            break  # nothing behind it changes it
        if entry.kind is Kind.MARK:
            stands, proposal = (entry.mark, None) if number == PLACE else (None, entry.mark)
        elif entry.kind is Kind.STANDS:
            stands, proposal = proposal, None
        elif entry.kind is Kind.REFUSED:
            proposal = None
    return stands, proposal
